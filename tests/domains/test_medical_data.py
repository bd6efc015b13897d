import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import write_workbook

from vertical_sdk.catalog import cleaners, readers
from vertical_sdk.checking import check_recipe
from vertical_sdk.data.prepare import prepare
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.recipe import load_recipe
from vertical_sdk.types import Example


def csv_of(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    rows = list(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("glucose 126mg/dl", "glucose 126 mg/dL"),
        ("5 ug, 5\u00b5g, 5 \u03bcg and 5mcg", "5 mcg, 5 mcg, 5 mcg and 5 mcg"),
        ("0,5mg daily", "0,5 mg daily"),
        ("BP 120/80mm Hg", "BP 120/80 mmHg"),
        ("10-20mg", "10-20 mg"),
        ("2.5  ml", "2.5 mL"),
        ("levels in mg/dl", "levels in mg/dL"),
        ("vitamin B12mg, 3 Mg, 5 magnets, 4 months, T2 mgx", "vitamin B12mg, 3 Mg, 5 magnets, 4 months, T2 mgx"),
        ("a lone mg and ug", "a lone mg and ug"),
        ("5 mg/kg/day", "5 mg/kg/day"),
        ("12\nmg", "12\nmg"),
    ],
)
def test_units_are_written_alike_and_nothing_else_is(before: str, after: str) -> None:
    rows, account = cleaners.get("medical.units")([Example("1", before, "x"), Example("2", "plain", "y")])

    assert [(e.text, e.target) for e in rows] == [(after, "x"), ("plain", "y")]
    assert account.changed == ({"units written alike": 1} if before != after else {})
    assert cleaners.get("medical.units")(rows)[1].changed == {}


ABSTRACTS = [{"condition_label": n % 5 + 1, "medical_abstract": f"Study {n} of organ {n % 5}."} for n in range(10)]


def test_conditions_are_named_by_their_numbers(tmp_path: Path) -> None:
    for split in ("train", "test"):
        pq.write_table(pa.Table.from_pylist(ABSTRACTS), tmp_path / f"{split}.parquet")

    found = readers.get("medical.abstracts")(tmp_path, {}, "classification")

    assert len(found.examples) == 20
    assert [e.target for e in found.examples[:2]] == ["neoplasms", "digestive system diseases"]
    assert found.labels[4] == "general pathological conditions"


def test_conditions_may_be_written_out(tmp_path: Path) -> None:
    file = csv_of(tmp_path / "rows.csv", [{"text": "A tumor.", "label": "neoplasms"}])
    assert readers.get("medical.abstracts")(file, {}, "classification").examples[0].target == "neoplasms"

    csv_of(file, [{"text": "A tumor.", "label": "7"}])
    with pytest.raises(DataError, match=r"rows\.csv: row 2: the condition '7' is not one of 1 to 5"):
        readers.get("medical.abstracts")(file, {}, "classification")


def test_abstracts_to_predict_need_no_condition(tmp_path: Path) -> None:
    file = csv_of(tmp_path / "rows.csv", [{"text": "A tumor."}])

    assert readers.get("medical.abstracts")(file, {}, "classification", missing="keep").examples[0].target is None


HUB = {
    "pubid": 7,
    "question": "Does it work?",
    "context": {"contexts": ["Some were treated.", "Most lived."], "labels": ["METHODS", "RESULTS"]},
    "long_answer": "It works very well.",
    "final_decision": "yes",
}
FLAT = {"id": "7", "question": "Does it work?", "context": "Some were treated.\nMost lived.", "answer": "yes", "year": "2001"}


def test_both_layouts_of_pubmedqa_say_the_same_and_never_the_conclusion(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([HUB]), tmp_path / "train.parquet")
    flat = tmp_path / "rows.jsonl"
    flat.write_text(json.dumps({**FLAT, "long_answer": "It works very well."}))

    one = readers.get("medical.pubmedqa")(tmp_path / "train.parquet", {}, "ordinal").examples[0]
    two = readers.get("medical.pubmedqa")(flat, {}, "ordinal").examples[0]

    assert one.text == two.text == "Does it work?\n\nSome were treated.\nMost lived."
    assert (one.id, one.target, one.time, two.time) == ("7", "yes", None, "2001")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**FLAT, "answer": "perhaps"}, r"rows\.jsonl:1: the answer is 'perhaps'"),
        ({**FLAT, "question": " "}, r"rows\.jsonl:1: has no question"),
        ({**FLAT, "context": 5}, r"rows\.jsonl:1: context holds a int"),
    ],
)
def test_a_broken_row_of_pubmedqa_is_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(row))

    with pytest.raises(DataError, match=message):
        readers.get("medical.pubmedqa")(file, {}, "ordinal")


def test_a_question_without_an_answer_is_dropped_refused_or_kept(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(FLAT) + "\n" + json.dumps({**FLAT, "id": "8", "answer": ""}))
    read = readers.get("medical.pubmedqa")

    dropped = read(file, {}, "ordinal")
    assert (len(dropped.examples), dropped.account.dropped) == (1, {"no answer": 1})
    assert [e.target for e in read(file, {}, "ordinal", missing="keep").examples] == [None, None]
    with pytest.raises(DataError, match=r"rows\.jsonl:2: has no answer"):
        read(file, {}, "ordinal", missing="refuse")


def test_a_reader_is_for_its_task_and_knows_its_columns(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="not regression"):
        readers.get("medical.pubmedqa")(tmp_path, {}, "regression")
    with pytest.raises(RecipeError, match="reads a fixed layout"):
        readers.get("medical.pubmedqa")(tmp_path, {"text": "question"}, "ordinal")
    with pytest.raises(RecipeError, match="not ordinal"):
        readers.get("medical.abstracts")(tmp_path, {}, "ordinal")
    with pytest.raises(DataError, match="one file is needed, and there are: none"):
        readers.get("medical.pubmedqa")(tmp_path, {}, "ordinal")


THINGS = [
    a + b
    for a in ("knee", "lung", "skin", "ear", "heel", "jaw")
    for b in (" pain", " rash", " lump", " burn", " scar", " ache")
]


def dialogues(folder: Path) -> dict[str, str]:
    """Two files with the columns of MTS-Dialog."""
    sections = ["CC", "GENHX", "PASTMEDICALHX"]
    rows = [
        {
            "ID": str(n),
            "section_header": sections[n % 3],
            "section_text": f"Has {thing} for {n + 2} days.",
            "dialogue": f"Doctor: What about it, number {n}?\nPatient: My {thing} is bad.\nDoctor: {thing.title()} again?\nPatient: No {n}.",
        }
        for n, thing in enumerate(THINGS)
    ]
    return {
        "train": str(csv_of(folder / "MTS-Dialog-TrainingSet.csv", rows[:30])),
        "validation": str(csv_of(folder / "MTS-Dialog-ValidationSet.csv", rows[30:])),
    }


@pytest.mark.parametrize(
    "name",
    [
        "abstracts",
        "dialogue-section",
        "dialogue-note",
        "pubmedqa",
        "icd-block",
        "icd-chapter",
        "question-summary",
        "en-zh-retrieval",
    ],
)
def test_every_recipe_of_the_vertical_is_right(name: str) -> None:
    recipe = load_recipe(f"medical/{name}")

    check_recipe(recipe)

    assert recipe.domain == "medical"
    assert recipe.evaluate.gate is not False


def test_the_sections_of_both_files_are_pooled_and_split_again(tmp_path: Path) -> None:
    prepared = prepare(
        load_recipe("medical/dialogue-section", {"data.source": dialogues(tmp_path), "data.decontaminate": None})
    )

    assert prepared.labels is not None
    assert len(prepared.originals) + len(prepared.validation) + len(prepared.test) == 36
    assert len(prepared.test) >= 3
    assert {e.id.partition(":")[0] for e in prepared.originals} == {"train", "validation"}
    assert len(prepared.train) > len(prepared.originals)


def test_a_note_is_asked_for_with_the_prompts_own_words(tmp_path: Path) -> None:
    recipe = load_recipe("medical/dialogue-note", {"data.source": dialogues(tmp_path), "data.decontaminate": None})

    prepared = prepare(recipe)

    turns = prepared.train[0].messages
    assert [turn.role for turn in turns] == ["system", "user", "assistant"]
    assert turns[0].content == recipe.prompt.system
    assert turns[2].content.startswith("Has ")


@pytest.mark.parametrize("names", [("File", "CHQ", "Summary"), ("id", "question", "summary")])
def test_question_summaries_are_read_from_the_workbook_and_from_copies(tmp_path: Path, names: tuple[str, str, str]) -> None:
    rows = [dict(zip(names, (f"{n}.txt", f"My {t} is bad, {n}.", f"What is {t}?"), strict=True)) for n, t in enumerate(THINGS)]
    if names[1] == "CHQ":
        file = tmp_path / "MeQSum.xlsx"
        write_workbook(file, {"Sheet1": [names, *(tuple(row.values()) for row in rows)]})
    else:
        file = csv_of(tmp_path / "copy.csv", rows)

    prepared = prepare(load_recipe("medical/question-summary", {"data.source": str(file), "data.decontaminate": None}))

    every = [*prepared.train, *prepared.validation, *prepared.test]
    assert len(every) == len(THINGS)
    assert {example.messages[1].content for example in every} == {row[names[1]] for row in rows}
    assert {example.messages[2].content for example in every} == {row[names[2]] for row in rows}


SENTENCES = [(f"Sentence {n} about {thing}.", f"关于{thing}的第{n}句。", f"doc_{n % 6}") for n, thing in enumerate(THINGS)]


@pytest.mark.parametrize("published", [True, False])
def test_a_sentence_and_its_translation_belong_together(tmp_path: Path, published: bool) -> None:
    if published:
        lines = ["sourceLang\ttargetLang\tsourceString\ttargetString\tstringID"]
        lines += [f"en\tzh\t{en}\t{zh}\t{doc}:{n}" for n, (en, zh, doc) in enumerate(SENTENCES)]
        file = tmp_path / "test.en-zh.tsv"
        file.write_text("\n".join(lines), encoding="utf-8")
    else:
        file = csv_of(tmp_path / "copy.csv", [dict(zip(("en", "zh", "doc"), row, strict=True)) for row in SENTENCES])

    found = readers.get("medical.translations")(file, {}, "contrastive")

    pairs: dict[object, list[Example]] = {}
    for example in found.examples:
        pairs.setdefault(example.target, []).append(example)
    assert [(*(e.text for e in pair), pair[0].group) for pair in pairs.values()] == SENTENCES


def test_a_sentence_without_a_translation_is_dropped(tmp_path: Path) -> None:
    rows = [
        {"en": "One.", "zh": "一。", "doc": "a"},
        {"en": "Two.", "zh": "", "doc": ""},
        {"en": "Three.", "zh": "三。", "doc": ""},
    ]

    found = readers.get("medical.translations")(csv_of(tmp_path / "copy.csv", rows), {}, "contrastive")

    assert [(e.text, e.group) for e in found.examples] == [("One.", "a"), ("一。", "a"), ("Three.", None), ("三。", None)]
    assert found.account.dropped == {"no sentence or no translation": 1}


def test_a_table_without_translations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the columns are en, doc, and sourceString, targetString, stringID or en, zh, doc are"):
        readers.get("medical.translations")(csv_of(tmp_path / "copy.csv", [{"en": "x", "doc": "a"}]), {}, "contrastive")


def test_the_abstracts_recipe_reads_the_hubs_layout(tmp_path: Path) -> None:
    rows = [
        {"condition_label": n % 5 + 1, "medical_abstract": f"A {t} was studied. The {t} did well."}
        for n, t in enumerate(THINGS)
    ]
    for split, part in (("train", rows[:30]), ("test", rows[30:])):
        pq.write_table(pa.Table.from_pylist(part), tmp_path / f"{split}.parquet")

    prepared = prepare(load_recipe("medical/abstracts", {"data.source": str(tmp_path), "data.decontaminate": None}))

    assert prepared.labels is not None
    assert prepared.labels.labels[0] == "neoplasms"
    assert len(prepared.test) >= 5


def test_the_pubmedqa_recipe_reads_the_hubs_layout_in_order(tmp_path: Path) -> None:
    rows = [
        {**HUB, "pubid": n, "question": f"Does {t} heal?", "final_decision": ("yes", "no", "maybe")[n % 3]}
        for n, t in enumerate(THINGS)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")

    prepared = prepare(load_recipe("medical/pubmedqa", {"data.source": str(tmp_path), "data.decontaminate": None}))

    assert prepared.labels is not None
    assert prepared.labels.labels == ("no", "maybe", "yes")
    assert not [e for e in prepared.train if "very well" in e.text]
    assert any(e.copy_of for e in prepared.train)


def tabular(folder: Path) -> Path:
    """Two chapters with two blocks each, and eight categories a block."""
    chapters = ""
    for chapter in (1, 2):
        sections = ""
        for block in (1, 2):
            codes = [f"{'AB'[chapter - 1]}{block}{n}" for n in range(8)]
            diagnoses = "".join(
                f"<diag><name>{c}</name><desc>{t} of kind {c}</desc><inclusionTerm><note>common {t} {c}</note></inclusionTerm></diag>"
                for c, t in zip(codes, THINGS, strict=False)
            )
            span = f"{codes[0]}-{codes[-1]}"
            sections += f'<section id="{span}"><desc>Block {chapter}{block} ({span})</desc>{diagnoses}</section>'
        chapters += f"<chapter><name>{chapter}</name><desc>Chapter {chapter} (A00-B99)</desc>{sections}</chapter>"
    (folder / "icd10c-tabular-2026.xml").write_text(f"<ICD10CM.tabular>{chapters}</ICD10CM.tabular>", encoding="utf-8")
    return folder


def test_blocks_know_their_chapter_and_their_titles(tmp_path: Path) -> None:
    found = readers.get("medical.icd10cm")(tabular(tmp_path), {}, "classification", level="block")

    assert found.labels == ("A10-A17", "A20-A27", "B10-B17", "B20-B27")
    assert found.parents == {"A10-A17": "Chapter 1", "A20-A27": "Chapter 1", "B10-B17": "Chapter 2", "B20-B27": "Chapter 2"}
    assert found.descriptions["A20-A27"] == "Block 12"


def test_categories_know_their_chapter_and_keep_a_code_with_its_synonyms(tmp_path: Path) -> None:
    found = readers.get("medical.icd10cm")(tabular(tmp_path), {}, "classification", level="category", synonyms="both")

    assert found.parents["B13"] == "Chapter 2"
    assert [(e.id, e.group, e.only) for e in found.examples[:2]] == [("A10", "A10", "train"), ("A10~1", "A10", None)]


def test_no_synonym_of_a_tested_category_is_learned(tmp_path: Path) -> None:
    recipe = load_recipe(
        "medical/icd-block", {"data.source": str(tabular(tmp_path)), "data.sha256": None, "data.decontaminate": None}
    )

    prepared = prepare(recipe)

    assert prepared.labels is not None
    assert prepared.labels.parent("A10-A17") == "Chapter 1"
    assert any("~" in e.id for e in prepared.originals)
    assert all("~" in e.id for e in prepared.test)
    assert not {e.group for e in prepared.train} & {e.group for e in (*prepared.validation, *prepared.test)}
