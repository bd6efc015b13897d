"""Rows that a specialist was trained on are recognized, and what is not known is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import topic_rows, write_csv

from vertical_sdk.card import Card, Contract, Fingerprint, Parent
from vertical_sdk.data.prepare import prepare, read_rows
from vertical_sdk.data.records import set_record
from vertical_sdk.errors import DataError
from vertical_sdk.evaluation.headline import describe_rows
from vertical_sdk.evaluation.learned_rows import (
    SAME_ROWS,
    Party,
    continues_on_same_rows,
    count_repeated,
    explain_unknown_parent,
    find_overlap,
    leave_out_learned,
)
from vertical_sdk.evaluation.test_set import prepare_own_rows
from vertical_sdk.recipe import Recipe
from vertical_sdk.record_index import write_record_index
from vertical_sdk.types import Example, silent

BASE = Fingerprint(name="tiny", architecture="BertModel", weights="0", tokenizer="1", vocab_size=10)


def party(recipe: dict[str, object] | None = None, **changes: object) -> Party:
    plain = recipe or {"name": "x", "task": "classification", "data": {"source": "x.csv"}}
    given = {"name": "x", "task": "classification", "family": "encoder", "base": BASE, "recipe_digest": "2", "recipe": plain}
    return Party("x", Card.model_validate(given | changes))


def topics(folder: Path, **data: object) -> Recipe:
    source = write_csv(folder / "topics.csv", topic_rows(60))
    return Recipe.model_validate({"name": "x", "task": "classification", "data": {"source": str(source), **data}})


def test_records_are_recognized_by_their_fields_and_not_by_rounded_text() -> None:
    learned = set_record(Example("1"), [("income", 52_000.0), ("town", "Bath")])
    rows = [
        set_record(Example("2"), [("income", 52_001.0), ("town", "Bath")]),  # the same text: numbers keep three digits
        set_record(Example("3"), [("town", " bath"), ("income", 52_000.0)]),  # the same fields in another order
        set_record(Example("4"), [("income", None), ("town", "Bath")]),
    ]
    assert rows[0].text == learned.text

    assert find_overlap(rows, [learned], party()) == {1}


def test_numbers_without_words_are_recognized_by_their_bytes() -> None:
    values = np.arange(6, dtype=np.float32)
    rows = [Example("1", values=values), Example("2", values=values.reshape(2, 3)), Example("3", values=values + 1)]

    assert find_overlap(rows, [Example("9", values=values.copy())], party()) == {0}


def test_rows_are_recognized_that_were_de_identified_for_training(tmp_path: Path) -> None:
    rows = [
        (f"Call John at 555-123-{4000 + n} about the {label} {text}", label) for n, (text, label) in enumerate(topic_rows(40))
    ]
    source = write_csv(tmp_path / "calls.csv", rows)
    plain = {
        "name": "x",
        "task": "classification",
        "data": {
            "source": str(source),
            "deidentify": {"use": "presidio", "entities": ["PHONE_NUMBER"], "on_hit": "mask", "names": False},
            "decontaminate": None,
        },
    }
    recipe = Recipe.model_validate(plain)
    prepared = prepare(recipe)
    assert all("555-123" not in row.text for row in prepared.train)

    again = read_rows(source, recipe, Contract(labels=("heart", "lung", "skin")), require_label=True)[0]
    kept, known = leave_out_learned(again, party(plain), tmp_path, prepared, "", source)

    assert (known.left_out, known.tuned) == (len(prepared.originals) + len(prepared.validation), len(prepared.validation))
    assert len(kept) == len(prepared.test)


def test_ids_tell_training_rows_if_their_words_are_not_known(tmp_path: Path) -> None:
    seen = {
        split: [Example(name, record_id=name) for name in names]
        for split, names in (("train", ["a1", "a2"]), ("validation", ["b1"]), ("test", ["c1"]))
    }
    write_record_index(tmp_path, seen)  # type: ignore[arg-type]
    rows = [Example(name, text=name, record_id=name) for name in ("a2", "b1 ", "c1", "d1")] + [Example("5", text="x")]

    kept, known = leave_out_learned(rows, party(), tmp_path, None, "the file is gone", Path("rows.csv"))

    assert [row.id for row in kept] == ["c1", "d1", "5"]
    assert (known.left_out, known.unknown) == (2, "the file is gone")


def test_rows_of_an_adapter_without_known_data_are_all_kept(tmp_path: Path) -> None:
    imported = party(sources=[{"source": "unknown", "sha256": ""}])
    prepared, reason = prepare_own_rows(imported.card, imported.recipe, needed=False, progress=silent)

    kept, known = leave_out_learned([Example("1", text="x")], imported, tmp_path, prepared, reason, Path("rows.csv"))

    assert len(kept) == 1
    assert known.unknown == "its card does not say which rows it was trained on"
    with pytest.raises(DataError, match=r"does not say which rows it was trained on\. Name a file of rows with --data"):
        prepare_own_rows(imported.card, imported.recipe, needed=True, progress=silent)


def test_rows_that_the_parent_may_have_learned_are_not_called_new(tmp_path: Path) -> None:
    parent = Parent(reference="topics@1", weights="0")
    recipe = topics(tmp_path, decontaminate=None)
    prepared = prepare(recipe)

    other = count_repeated(prepared, party(recipe.to_dict(), parent=parent, training={SAME_ROWS: False}))
    same = count_repeated(prepared, party(recipe.to_dict(), parent=parent, training={SAME_ROWS: True}))

    assert other.unknown == "it continues from topics@1, which was trained on other rows"
    assert same.unknown == ""


def test_parent_whose_rows_are_left_out_as_well_is_known() -> None:
    card = party(parent=Parent(reference="topics@1", weights="ab")).card
    champion = party(files={"adapter_model.safetensors": "ab"}).card
    other = party(files={"adapter_model.safetensors": "cd"}).card

    assert explain_unknown_parent(card, other) == "it continues from topics@1, which was trained on other rows"
    assert explain_unknown_parent(card, other, champion) == ""
    assert explain_unknown_parent(champion) == ""


def test_warm_start_on_the_same_rows_differs_from_one_on_others(tmp_path: Path) -> None:
    recipe = topics(tmp_path)
    prepared = prepare(recipe)
    same = party(recipe.to_dict(), sources=prepared.sources).card
    other = party(recipe.replace({"train.seed": 1}).to_dict(), sources=prepared.sources).card
    grandchild = same.model_copy(update={"parent": Parent(reference="y", weights="1")})

    assert continues_on_same_rows(same, recipe, prepared.sources)
    assert not continues_on_same_rows(other, recipe, prepared.sources)
    assert not continues_on_same_rows(grandchild, recipe, prepared.sources)
    assert continues_on_same_rows(grandchild.model_copy(update={"training": {SAME_ROWS: True}}), recipe, prepared.sources)


def test_test_rows_that_repeat_training_rows_are_counted(tmp_path: Path) -> None:
    rows = [(text, label, "test" if place % 3 == 0 else "train") for place, (text, label) in enumerate(topic_rows(60))]
    rows += [(text.upper(), label, "test") for text, label, split in rows if split == "train"][:5]
    source = write_csv(tmp_path / "rows.csv", rows, ("text", "label", "split"))
    data = {
        "source": str(source),
        "clean": ["normalize"],
        "decontaminate": None,
        "split": "given",
        "columns": {"split": "split"},
    }
    plain = {"name": "x", "task": "classification", "data": data}

    assert count_repeated(prepare(Recipe.model_validate(plain)), party(plain)).repeated == 5


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, "1,200 rows that the specialist was not trained on"),
        ({"left_out": 180}, "1,200 rows; 180 more were left out: the specialist was trained on them"),
        (
            {"left_out": 204, "tuned": 24},
            "1,200 rows; 204 more were left out: the specialist was trained on them (180 training rows, 24 validation rows)",
        ),
        ({"repeated": 3}, "1,200 rows; the specialist was also trained on 3 of them"),
        ({"unknown": "why"}, "1,200 rows; it is unknown whether the specialist was trained on some of them"),
    ],
)
def test_words_about_rows_claim_only_what_is_known(facts: dict[str, int | str], words: str) -> None:
    assert describe_rows(1200, **facts) == words  # type: ignore[arg-type]
