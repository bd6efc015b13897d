"""Chinese questions of patients: the layout of Toyhom's Chinese-medical-dialogue-data, and the mask of disease words."""

from pathlib import Path

import pytest

from vertical_sdk.catalog import cleaners, readers
from vertical_sdk.data.clean import normalize_texts
from vertical_sdk.data.prepare import prepare
from vertical_sdk.recipe import load_recipe
from vertical_sdk.types import Example

QUESTIONS = "department,title,ask,answer\n心血管科,高血压患者能吃党参吗？,我有高血压这两天女婿来的时候给我拿了些党参泡水喝。,可以口服党参。\n"
QUESTIONS += "消化科,哪家医院能治胃反流,烧心，打隔，咳嗽低烧，以有4年多,建议你用奥美拉唑。\n"


def test_title_and_question_are_read_and_never_the_answer(tmp_path: Path) -> None:
    path = tmp_path / "questions.csv"
    path.write_bytes(QUESTIONS.encode("gb18030"))

    rows = readers.get("medical.questions_zh")(path, {}, "classification").examples

    assert [(e.text, e.target) for e in rows] == [
        ("高血压患者能吃党参吗？\n\n我有高血压这两天女婿来的时候给我拿了些党参泡水喝。", "心血管科"),
        ("哪家医院能治胃反流\n\n烧心，打隔，咳嗽低烧，以有4年多", "消化科"),
    ]


def test_a_table_of_text_and_label_is_read_too_and_needs_no_label_to_predict(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n头痛怎么办,神经科\n", encoding="utf-8")
    new = tmp_path / "new.csv"
    new.write_text("title,ask\n头痛,怎么办\n", encoding="utf-8")
    read = readers.get("medical.questions_zh")

    assert [(e.text, e.target) for e in read(path, {}, "classification").examples] == [("头痛怎么办", "神经科")]
    assert [(e.text, e.target) for e in read(new, {}, "classification", "keep").examples] == [("头痛\n\n怎么办", None)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("高血压患者能吃党参吗？", "〔病〕患者能吃党参吗？"),
        ("慢性浅表性胃炎和胃溃疡，乙肝大三阳", "〔病〕和〔病〕，〔病〕"),
        ("糖尿病人高血压怎么办", "〔病〕怎么办"),
        ("〔病〕患者头痛", "〔病〕患者头痛"),
        ("头痛三天", "头痛三天"),
    ],
)
def test_every_run_of_disease_words_becomes_one_mask(before: str, after: str) -> None:
    ((only,), account) = cleaners.get("medical.mask_diseases")([Example("1", before, "神经科")])

    assert (only.text, only.target) == (after, "神经科")
    assert account.changed == ({} if before == after else {"names of diseases masked": 1})


def test_the_recipe_masks_its_rows_and_the_inputs_of_its_specialist(tmp_path: Path) -> None:
    words = "头晕恶心乏力失眠咳嗽气短腹胀反酸心慌胸闷手抖口渴"
    lines = [f"{'甲乙丙'[n % 3]}科,高血压{n},{words[n % 20 :]}{words[: n % 20]}{n * 7919},答\n" for n in range(90)]
    path = tmp_path / "questions.csv"
    path.write_text("department,title,ask,answer\n" + "".join(lines), encoding="utf-8")
    recipe = load_recipe("medical/zh-triage", {"data.source": str(path), "data.decontaminate": None})

    rows = prepare(recipe)

    assert all(e.text.startswith("〔病〕") and "高血压" not in e.text for e in (*rows.train, *rows.validation, *rows.test))
    assert normalize_texts([Example("1", "高血压怎么办")], recipe)[0][0].text == "〔病〕怎么办"
