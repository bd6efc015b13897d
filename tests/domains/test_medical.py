import random
from pathlib import Path
from typing import Any

import pytest

from vertical_sdk.catalog import augmentations, readers
from vertical_sdk.data.read import Table
from vertical_sdk.domain import load_domain
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.types import Example

TABULAR = """<?xml version="1.0" encoding="utf-8"?>
<ICD10CM.tabular>
  <chapter><name>9</name><desc>Hearts (I00-I99)</desc>
    <section id="I10-I1A"><desc>Pressure (I10-I1A)</desc>
      <diag><name>I10</name><desc>High
        pressure</desc>
        <inclusionTerm><note>Squeezed</note><note>Tight</note></inclusionTerm>
        <diag><name>I10.1</name><desc>Very high pressure</desc><inclusionTerm><note>Bursting</note></inclusionTerm></diag>
      </diag>
      <diag><name>I11</name><desc>Low pressure</desc></diag>
    </section>
  </chapter>
  <chapter><name>17</name><desc>Births (Q00-QA0)</desc>
    <section id="Q00-QA0"><desc>All (Q00-QA0)</desc><diag><name>Q00</name><desc>Born so</desc></diag></section>
  </chapter>
</ICD10CM.tabular>
"""


def read(
    tmp_path: Path, xml: str = TABULAR, columns: dict[str, str] | None = None, task: str = "classification", **options: Any
) -> Table:
    folder = tmp_path / "package" / "data"
    folder.mkdir(parents=True)
    (folder / "icd10c-tabular-April-1-2026.xml").write_text(xml, encoding="utf-8")
    table: Table = readers.get("medical.icd10cm")(tmp_path, columns or {}, task, **options)
    return table


def test_the_vertical_says_who_it_is() -> None:
    assert load_domain("medical").name == "medical"


def test_descriptions_are_learned_and_inclusion_terms_evaluated(tmp_path: Path) -> None:
    found = read(tmp_path)

    assert [(e.id, e.text, e.target, e.group, e.only) for e in found.examples] == [
        ("I10", "High pressure", "Hearts", "I10", "train"),
        ("I10~1", "Squeezed", "Hearts", "I10", "evaluate"),
        ("I10~2", "Tight", "Hearts", "I10", "evaluate"),
        ("I10.1", "Very high pressure", "Hearts", "I10", "train"),
        ("I10.1~1", "Bursting", "Hearts", "I10", "evaluate"),
        ("I11", "Low pressure", "Hearts", "I11", "train"),
        ("Q00", "Born so", "Births", "Q00", "train"),
    ]
    assert found.labels == ("Hearts", "Births")
    assert found.words == {"Hearts": "circulatory", "Births": "congenital"}
    assert found.descriptions["Hearts"] == "Hearts"
    assert "4 codes, 2 chapters" in found.detected


def test_the_category_is_a_label_too(tmp_path: Path) -> None:
    found = read(tmp_path, level="category")

    assert found.labels == ("I10", "I11", "Q00")
    assert found.descriptions["I11"] == "Low pressure"


def test_answer_words_of_chapters_begin_differently() -> None:
    readers.get("medical.icd10cm")
    from vertical_sdk.domains.medical.data import WORDS

    assert sorted(WORDS) == list(range(1, 23))
    assert len({word[:3] for word in WORDS.values()}) == 22


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (TABULAR[:400], "broken XML"),
        (
            TABULAR.replace("<ICD10CM.tabular>", '<!DOCTYPE x [<!ENTITY a "b">]><ICD10CM.tabular>', 1),
            "declares a document type",
        ),
        (TABULAR.replace("<name>9</name>", "<name>nine</name>"), "called 'nine'"),
        (TABULAR.replace("<desc>Low pressure</desc>", ""), "a <diag> has no <desc>"),
        ("<html/>", "has no chapters with codes"),
    ],
)
def test_a_file_that_is_not_the_tabular_list_is_refused(tmp_path: Path, xml: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, xml)


def test_a_folder_without_the_list_says_where_to_take_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Take the wheel simple-icd-10-cm"):
        readers.get("medical.icd10cm")(tmp_path, {}, "classification")


def test_the_reader_has_no_columns_and_one_task(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"leave data\.columns out"):
        read(tmp_path / "a", columns={"text": "x"})
    with pytest.raises(RecipeError, match="not regression"):
        read(tmp_path / "b", task="regression")
    with pytest.raises(RecipeError, match="level = 'code' is wrong"):
        readers.check("medical.icd10cm", {"level": "code"})


@pytest.mark.network
def test_the_real_list_has_all_its_codes() -> None:
    from vertical_sdk.sources import fetch

    found = readers.get("medical.icd10cm")(fetch("pypi:simple-icd-10-cm==1.5.0").path, {}, "classification")

    assert len(found.examples) == 59_450
    assert sum(e.only == "train" for e in found.examples) == 46_881
    assert len(found.labels) == len(found.words) == 22


def abbreviated(text: str, p: float = 1.0, seed: int = 0) -> str:
    made: Example = augmentations.get("medical.abbreviations")(Example("1", text, "label"), random.Random(seed), p=p)
    assert (made.id, made.target) == ("1", "label")
    return made.text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Old myocardial infarction", "Old MI"),
        ("Fracture of femur, unspecified", "fx of femur, unsp"),
        ("COPD with acute bronchitis", "chronic obstructive pulmonary disease w/ acute bronchitis"),
        ("chronic kidney disease stage 3", "CKD stage 3"),
        ("hx of TB", "history of tuberculosis"),
        ("h/o HTN", "history of hypertension"),
        ("Within fractured diseases", "Within fractured diseases"),
        ("without fx", "without fracture"),
        ("w/o pain, no known MI, denies SOB", "w/o pain, no known MI, denies shortness of breath"),
        ("CT PE RA", "CT PE RA"),
        ("non-fracture", "non-fracture"),
    ],
)
def test_abbreviations_go_both_ways_by_whole_words(before: str, after: str) -> None:
    assert abbreviated(before) == after


def test_probability_zero_leaves_the_text() -> None:
    assert abbreviated("Old myocardial infarction", p=0.0) == "Old myocardial infarction"


def test_about_a_share_p_of_the_terms_is_changed() -> None:
    text = " ; ".join(["fracture"] * 400)

    changed = abbreviated(text, p=0.3).count("fx")

    assert 90 <= changed <= 150


def test_no_abbreviation_is_a_negation_and_each_is_spelled_one_way() -> None:
    augmentations.get("medical.abbreviations")
    from vertical_sdk.domains.medical.augment import ABBREVIATIONS

    words = {word for full, short in ABBREVIATIONS.items() for word in f"{full} {short}".lower().split()}
    assert not words & {"no", "without", "w/o", "neg", "negative", "never", "denies", "none"}
    assert len(set(ABBREVIATIONS.values())) == len(ABBREVIATIONS) >= 60
