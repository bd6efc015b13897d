"""How fields of records become numbers: bins, words, missing values."""

from __future__ import annotations

import numpy as np
import pytest

from vertical_sdk.errors import DataError
from vertical_sdk.families.field_coding import MOST_FIELDS, FieldCoding
from vertical_sdk.members import decode_json, encode_json


def records(count: int = 40) -> list[tuple[tuple[str, object], ...]]:
    """Amounts 0 to count - 1, one of two colours with a rare third, and a field without values."""
    colours = ["rare" if n == 3 else "red" if n % 2 else "blue" for n in range(count)]
    return [(("amount", float(n)), ("colour", colours[n]), ("empty", None)) for n in range(count)]


def test_numbers_fill_bins_words_have_slots_and_missing_is_its_own_value() -> None:
    coding = FieldCoding.fit(records(), bins=4)

    encoded = coding.encode(
        coding.read(
            [
                (("amount", 9.75), ("colour", "red")),
                (("amount", 14.625), ("colour", "rare")),
                (("amount", None), ("colour", None)),
                (("amount", 1e9), ("colour", "green")),
                (("amount", -1e9), ("unknown field", 3.0)),
            ]
        )
    )

    # 0 to 39 in four bins: their edges are 0, 9.75, 19.5, 29.25 and 39. Slot 0 says that the value is missing.
    assert coding.edges[0].tolist() == [0.0, 9.75, 19.5, 29.25, 39.0]
    assert encoded[:, 0].tolist() == [[0, 1, 0, 0, 0], [0, 1, 0.5, 0, 0], [1, 0, 0, 0, 0], [0, 1, 1, 1, 1], [0, 0, 0, 0, 0]]
    # words that fewer than five training rows have share slot 1 with words never seen; blue and red have slots 2 and 3
    assert coding.fields["colour"] == ("blue", "red")
    assert encoded[:, 1].tolist() == [[0, 0, 0, 1, 0], [0, 1, 0, 0, 0], [1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [1, 0, 0, 0, 0]]
    assert (encoded[:, 2] == [1, 0, 0, 0, 0]).all()  # a field without values in training is missing in every row


def test_few_different_numbers_have_an_edge_each_and_codes_among_words_are_words() -> None:
    rows = [(("delay", float(n % 3)), ("code", "x" if n % 2 else 7.0)) for n in range(30)]
    coding = FieldCoding.fit(rows, bins=8)

    assert coding.edges[0].tolist() == [0.0, 1.0, *[2.0] * 7]
    assert coding.fields == {"delay": None, "code": ("7", "x")}
    assert coding.encode(coding.read([(("delay", 1.0), ("code", 7.0))]))[0, :, :4].tolist() == [[0, 1, 0, 0], [0, 0, 1, 0]]


def test_unseen_words_are_counted_in_fields_of_words_and_of_numbers() -> None:
    coding = FieldCoding.fit(records(), bins=4)

    assert coding.count_unseen((("amount", 5.0), ("colour", "red"), ("empty", None))) == 0
    assert coding.count_unseen((("amount", "many"), ("colour", "green"), ("other", "x"))) == 2


def test_a_drawn_record_is_read_without_unseen_words() -> None:
    coding = FieldCoding.fit(records(), bins=4)

    drawn = [coding.draw(np.random.default_rng(seed)) for seed in range(20)]

    assert {value for record in drawn for name, value in record if name == "colour"} == {"blue", "red"}
    assert all(0 <= dict(record)["amount"] <= 39 for record in drawn)
    assert not any(map(coding.count_unseen, drawn))


def test_a_coding_is_the_same_after_it_was_stored() -> None:
    coding = FieldCoding.fit(records(), bins=4)

    again = FieldCoding.from_arrays(coding.to_arrays())

    assert list(again.fields.items()) == list(coding.fields.items())
    np.testing.assert_array_equal(again.edges, coding.edges)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"fields": []}, "fields must be a list of 1 to 1024"),
        ({"fields": [["a", None], ["a", None], ["b", None]]}, "has a name twice"),
        ({"fields": [["a", None], ["b", ["x", "x"]], ["c", None]]}, "different words"),
        ({"fields": [["a", None], ["b", [1]], ["c", None]]}, "different words"),
        ({"fields": [["a", None], ["b", [f"{n}" for n in range(257)]], ["c", None]]}, "at most 256"),
        ({"edges": np.zeros((2, 5))}, "edges must be floats of the shape"),
        ({"edges": np.zeros((3, 2))}, "edges must rise"),
        ({"edges": np.zeros((3, 300))}, "edges must rise"),
        ({"edges": np.array([[0.0, 2.0, 1.0]] * 3)}, "edges must rise"),
        ({"edges": np.full((3, 5), np.nan)}, "not finite"),
    ],
)
def test_a_changed_coding_is_refused(changes: dict[str, object], problem: str) -> None:
    arrays = FieldCoding.fit(records(), bins=4).to_arrays()
    assert len(decode_json(arrays["fields"])) == 3

    with pytest.raises(ValueError, match=problem):
        FieldCoding.from_arrays(arrays | {name: encode_json(v) if name == "fields" else v for name, v in changes.items()})


def test_too_many_fields_and_numbers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(DataError, match=f"at most {MOST_FIELDS} are read"):
        FieldCoding.fit([tuple((f"f{n}", 1.0) for n in range(MOST_FIELDS + 1))], bins=4)
    with pytest.raises(DataError, match="infinite, or beyond 1e100"):
        FieldCoding.fit([(("a", 1e200),), (("a", 1.0),)], bins=4)
