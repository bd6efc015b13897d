"""Questions of investors and answers of companies in Chinese, in the layout of FinTruthQA; bank customers' intents."""

from pathlib import Path

import pytest

from vertical_sdk.catalog import readers
from vertical_sdk.data.prepare import prepare
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.recipe import load_recipe

PUBLISHED = (
    ",QUES,ANS,IS_QUESTION,QUES_RELEVANCE,ANS_READABILITY,ANS_RELEVANCE\n"
    "1,请问审计费用是多少？,费用为366万元。,Positive,Positive,4,3\n"
    "2,是否可借用生产线？,感谢您的关注！,Positive,Positive,2,1\n"
)


def write(folder: Path, text: str) -> Path:
    path = folder / "rows.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(("label", "grades"), [("relevance", ["3", "1"]), ("readability", ["4", "2"])])
def test_question_and_answer_are_one_text_with_the_grade_that_is_asked_for(
    label: str, grades: list[str], tmp_path: Path
) -> None:
    rows = readers.get("finance.disclosure")(write(tmp_path, PUBLISHED), {}, "ordinal", label=label).examples

    assert [e.text for e in rows] == ["请问审计费用是多少？\n\n费用为366万元。", "是否可借用生产线？\n\n感谢您的关注！"]
    assert [e.target for e in rows] == grades


def test_plain_column_names_are_read_too_and_no_grade_is_needed_to_predict(tmp_path: Path) -> None:
    read = readers.get("finance.disclosure")

    (row,) = read(write(tmp_path, "question,answer,relevance\n问,答,2\n"), {}, "ordinal").examples
    (new,) = read(write(tmp_path, "question,answer\n问,答\n"), {}, "ordinal", "keep").examples

    assert (row.text, row.target) == ("问\n\n答", "2")
    assert (new.text, new.target) == ("问\n\n答", None)


def test_other_columns_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="needs the columns QUES, ANS and ANS_RELEVANCE, or question, answer and relevance"):
        readers.get("finance.disclosure")(write(tmp_path, "question,reply\n问,答\n"), {}, "ordinal")
    with pytest.raises(RecipeError):
        readers.get("finance.disclosure")(write(tmp_path, PUBLISHED), {}, "generation")


def test_the_grades_of_the_recipe_are_in_order(tmp_path: Path) -> None:
    lines = [f"问题{n * 7919}？,回答{n * 104729}。,{n % 3 + 1}\n" for n in range(90)]
    path = write(tmp_path, "question,answer,relevance\n" + "".join(lines))

    rows = prepare(load_recipe("finance/zh-disclosure", {"data.source": str(path), "data.decontaminate": None}))

    assert rows.labels is not None
    assert rows.labels.labels == ("1", "2", "3")
    assert {e.target for e in rows.test} == {"1", "2", "3"}


def test_both_files_of_bank_questions_are_pooled_and_divided_again(tmp_path: Path) -> None:
    for name, first in (("train", 0), ("test", 200)):
        lines = [f"Question {n * 7919} about my card,{'abcd'[n % 4]}\n" for n in range(first, first + 80)]
        (tmp_path / f"{name}.csv").write_text("text,category\n" + "".join(lines), encoding="utf-8")
    sources = {"train": str(tmp_path / "train.csv"), "validation": str(tmp_path / "test.csv")}

    rows = prepare(load_recipe("finance/banking-intents", {"data.source": sources, "data.decontaminate": None}))

    assert len(rows.train) + len(rows.validation) + len(rows.test) == 160
    assert {e.id.partition(":")[0] for e in rows.test} == {"train", "validation"}
