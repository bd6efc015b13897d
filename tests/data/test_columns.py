from datetime import date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vertical_sdk.card import Contract, Field, FieldKind
from vertical_sdk.data.columns import infer_kind, parse_field, parse_times
from vertical_sdk.data.records import build_record_example
from vertical_sdk.errors import DataError


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["2015", "2024", ""], "whole"),
        ([2015, None, 2024.0], "whole"),
        (["90210", "90211.0"], "whole"),
        (["1.5", "2"], "numbers"),
        (["1e-3", "2E+05"], "numbers"),
        (["NA", "nan", "3"], "whole"),
        (["007", "12"], "words"),
        (["12E4", "13E5"], "words"),
        (["1_5", "16"], "words"),
        (["12", "a"], "words"),
        (["a", "b"], "words"),
        (["true", "FALSE", ""], "truth"),
        ([True, np.bool_(False)], "truth"),
        (["90071992547409931", "1"], "words"),
        ([10**400], "words"),
        (["", None], "words"),
        (["inf", "1.5"], "numbers"),
    ],
)
def test_the_kind_of_a_column_is_decided_by_all_its_cells(cells: list[Any], kind: FieldKind) -> None:
    assert infer_kind(cells) == kind


@pytest.mark.parametrize(
    ("kind", "cell", "text"),
    [
        ("whole", "2015", "2015"),
        ("whole", 90210.0, "90210"),
        ("whole", "20240131", "20240131"),
        ("whole", 2015.5, "2015.5"),
        ("whole", np.int64(7), "7"),
        ("numbers", 2015.0, "2020"),
        ("numbers", "0.01234", "0.0123"),
        ("words", "007", "007"),
        ("words", 100.0, "100"),
        ("words", " a \u00a0b ", "a b"),
        *[
            ("words", day, "2024-01-02")
            for day in ("2024-01-02", "2024-01-02T00:00:00.000", date(2024, 1, 2), pd.Timestamp("2024-01-02"))
        ],
        *[("words", moment, "2024-01-02 03:04:00") for moment in ("2024-01-02T03:04:00.000", pd.Timestamp("2024-01-02 03:04"))],
        ("truth", np.bool_(True), "true"),
        ("truth", "TRUE", "true"),
        ("truth", 0.0, "false"),
        ("truth", "1.0", "true"),
        ("mixed", 2015, "2020"),
        ("mixed", "old", "old"),
        *[
            (kind, cell, "unknown")
            for kind in ("whole", "numbers", "words", "truth")
            for cell in (pd.NA, pd.NaT, float("nan"), None, "", "NA")
        ],
    ],
)
def test_a_cell_is_written_as_its_column_is(kind: FieldKind, cell: Any, text: str) -> None:
    fields = (Field(name="x", in_text=True, kind=kind), Field(name="y", in_text=True, kind="words"))

    row = build_record_example({"x": cell, "y": "z"}, Contract(fields=fields), "record 0")

    assert row.text == f"x: {text}; y: z"


@pytest.mark.parametrize(
    ("kind", "cell", "said"),
    [
        ("whole", "old", "should be a number"),
        ("numbers", "inf", "is not a finite number"),
        ("numbers", 10**400, "is not a finite number"),
        ("whole", float("inf"), "is not a finite number"),
        ("truth", "maybe", "should be true or false"),
        ("words", ["a"], "is a list"),
        ("numbers", {"a": 1}, "is a dict"),
    ],
)
def test_a_cell_of_another_kind_is_refused(kind: FieldKind, cell: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_field(cell, kind)
    with pytest.raises(DataError, match=f"record 0: x = .*{said}"):
        build_record_example({"x": cell}, Contract(fields=(Field(name="x", in_text=True, kind=kind),)), "record 0")


@pytest.mark.parametrize("name", [1, None, ("a",)])
def test_a_field_whose_name_is_not_a_text_is_unknown(name: Any) -> None:
    with pytest.raises(DataError, match="unknown field"):
        build_record_example({name: 2}, Contract(fields=(Field(name="x", in_text=True, kind="words"),)), "record 0")


def test_cards_of_the_first_version_keep_their_reading() -> None:
    assert Field.model_validate({"name": "x", "in_text": True, "words": False}).kind == "numbers"
    assert Field.model_validate({"name": "x", "in_text": True, "words": True}).kind == "mixed"


def order(cells: list[Any]) -> list[int]:
    times = parse_times(cells, [f"rows.csv:{n}" for n in range(2, len(cells) + 2)])
    return sorted(range(len(cells)), key=lambda place: times[place] or "")


@pytest.mark.parametrize(
    "cells",
    [
        ["0", "9", "40", "999", "1000", "9999", "10000", "11960"],
        [0, 5.5, 1000, 2015, 12000.0],
        ["2013", "2014", "2015"],
        ["1700000000000000000", "1700000000000000001"],
        ["20231231", "20240101"],
        ["2014", "2015-03", "2015-03-04", "2015-03-04T10:00", "2015-03-04 10:00:30"],
        ["2024-01-01T00:30+02:00", "2024-01-01T00:00Z", "2024-01-01T01:00+00:30"],
        [date(2024, 1, 1), datetime(2024, 1, 1, 5), datetime(2024, 1, 2)],
        [pd.Timestamp("2024-01-01"), pd.Timestamp("2024-01-01 00:00:01")],
    ],
)
def test_times_sort_in_their_order(cells: list[Any]) -> None:
    assert order(cells) == list(range(len(cells)))


@pytest.mark.parametrize(
    ("cells", "place"),
    [
        (["2024-01-01", "2024-31-01"], 3),
        (["2024-01-01", "2024-13-45"], 3),
        (["2024-02-30"], 2),
        (["2024-13"], 2),
        (["2024-01-01T25:00"], 2),
        (["31/12/2024"], 2),
        (["12/31/24", "01/01/25"], 2),
        (["31.12.2024"], 2),
        (["40", "2024-01-01"], 2),
        (["2024-01-01", "1000.5"], 3),
        (["yesterday"], 2),
        (["-5"], 2),
        (["inf", "1"], 2),
        ([True], 2),
    ],
)
def test_a_time_that_does_not_sort_is_refused_with_its_row(cells: list[Any], place: int) -> None:
    with pytest.raises(DataError, match=rf"rows\.csv:{place}: the time"):
        order(cells)


@pytest.mark.parametrize(
    "cells",
    [
        ["2024-01-01T10:00", "2024-01-01T10:00Z"],
        ["2024-01-01T10:00+02:00", "2024-01-01"],
        [datetime(2024, 1, 1), datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=2)))],
    ],
)
def test_a_column_with_and_without_zones_is_refused(cells: list[Any]) -> None:
    with pytest.raises(DataError, match=r"has a zone, and .* has none"):
        order(cells)


def test_missing_times_stay_missing() -> None:
    assert parse_times(["", "NA", None, "2024-01-01"], ["a"] * 4) == [None, None, None, "2024-01-01"]
