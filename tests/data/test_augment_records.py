import random
from dataclasses import replace

import pytest

from vertical_sdk.catalog import augmentations
from vertical_sdk.data.augment import replace_record
from vertical_sdk.data.records import format_record, set_record
from vertical_sdk.types import Example

RECORD = {"age": 41.0, "sex": "female", "limit": None, "amount": 5951.0}
ROW = set_record(Example("1", target="good"), RECORD)
PARTS = ("shuffle_fields", "drop_fields")


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("seed", range(20))
def test_the_text_always_tells_the_record_and_the_label_stays(part: str, seed: int) -> None:
    made = augmentations.get(part)(ROW, random.Random(seed), p=0.7)

    assert made.text == format_record(made.record)
    assert {name for name, _ in made.record} == set(RECORD)
    assert (made.id, made.target) == ("1", "good")


def test_shuffled_fields_are_the_same_fields() -> None:
    made = [augmentations.get("shuffle_fields")(ROW, random.Random(seed), p=1.0) for seed in range(20)]

    assert all(dict(e.record) == RECORD for e in made)
    assert len({e.text for e in made}) > 5


def test_dropped_cells_are_unknown_but_never_all() -> None:
    made = [augmentations.get("drop_fields")(ROW, random.Random(seed), p=1.0) for seed in range(20)]

    assert all(sum(value is not None for _, value in e.record) == 1 for e in made)
    assert all(e.text.count("unknown") == 3 for e in made)


@pytest.mark.parametrize("part", PARTS)
def test_nothing_happens_with_a_probability_of_none_or_without_a_record(part: str) -> None:
    augmentation = augmentations.get(part)

    assert augmentation(ROW, random.Random(0), p=0.0) is ROW
    plain = Example("1", "only words", "good")
    assert augmentation(plain, random.Random(0), p=1.0) == plain


@pytest.mark.parametrize("part", PARTS)
def test_a_text_that_is_not_the_records_stays(part: str) -> None:
    masked = replace(ROW, text=ROW.text.replace("41", "[AGE]"))
    words = replace(ROW, text="Somebody wrote this.")

    for seed in range(10):
        assert augmentations.get(part)(masked, random.Random(seed), p=1.0) == masked
        assert augmentations.get(part)(words, random.Random(seed), p=1.0) == words


def test_a_text_that_tells_some_fields_goes_on_telling_those() -> None:
    some = replace(ROW, text="age: 41; amount: 5950")

    made = replace_record(some, [("amount", 7.0), ("age", 42.0), ("sex", "male"), ("limit", 3.0)])

    assert made.text == "amount: 7; age: 42"
    assert dict(made.record)["sex"] == "male"
