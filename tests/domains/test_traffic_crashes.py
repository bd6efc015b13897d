"""Crash reports under NHTSA's Standing General Order, on small files in the layouts of the public source."""

from pathlib import Path
from typing import Any

import pytest

from vertical_sdk.catalog import readers
from vertical_sdk.data.prepare import prepare
from vertical_sdk.data.read import Table
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.recipe import load_recipe

HEADER = (
    "Report ID,Report Version,Same Incident ID,Incident Date,Crash With,CP Pre-Crash Movement,SV Pre-Crash Movement,Narrative\n"
)
ROWS = (
    "a-1,1,i1,JUL-2022,Passenger Car,Making Left Turn,Stopped,It turned.\n"
    "a-1,2,i1,JUL-2022,SUV,Making Right Turn,Stopped,It turned right.\n"
    'b-1,1,i2,AUG-2022,"Other, see Narrative","Other, see Narrative",Proceeding Straight,Debris fell.\n'
    'c-1,1,i3,AUG-2022,Bus,Stopped,Backing,"[REDACTED, MAY CONTAIN CONFIDENTIAL BUSINESS INFORMATION]"\n'
    "d-1,1,i4,SEP-2022,Pole / Tree,,Lane / Road Departure,It left the road.\n"
)


def read(path: Path, missing: str = "drop", **options: Any) -> Table:
    table = readers.get("traffic.crashes")(path, {}, "classification", missing, **options)
    assert isinstance(table, Table)
    return table


def write(folder: Path, text: str, name: str = "ADS.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_last_version_of_each_report_is_read_with_its_month_and_incident(tmp_path: Path) -> None:
    table = read(write(tmp_path, HEADER + ROWS))

    assert [(e.text, e.target, e.time, e.group) for e in table.examples] == [
        ("It turned right.", "right turn", "2022-07", "i1"),
        ("Debris fell.", "other", "2022-08", "i2"),
    ]
    assert table.account is not None
    assert table.account.dropped == {"another version of the report": 1, "narrative withheld": 1, "no label": 1}


@pytest.mark.parametrize(
    ("label", "targets"),
    [("own_movement", ["stopped", "straight", "departure or wrong way"]), ("crash_with", ["car", "other", "fixed object"])],
)
def test_another_fact_of_the_crash_may_be_the_label(label: str, targets: list[str], tmp_path: Path) -> None:
    assert [e.target for e in read(write(tmp_path, HEADER + ROWS), label=label).examples] == targets


@pytest.mark.parametrize(
    ("value", "movement"),
    [
        ("Proceeding Straight", "straight"),
        ("Changing Lanes", "changing lanes"),
        ("Merging", "changing lanes"),
        ("Traveling Wrong Way", "departure or wrong way"),
        ("Crossing into Opposing Lane", "departure or wrong way"),
        ("Entering Traffic", "entering traffic"),
        ("Parked", "parked"),
        ("Parking Maneuver", "other"),
        ("Making U-Turn", "other"),
        ("departure or wrong way", "departure or wrong way"),
        ("left turn", "left turn"),
    ],
)
def test_a_movement_of_the_source_becomes_one_of_eleven(value: str, movement: str, tmp_path: Path) -> None:
    (only,) = read(write(tmp_path, f"month,narrative,other_movement\n2022-07,It moved.,{value}\n")).examples

    assert only.target == movement


def test_files_of_a_folder_are_read_as_one(tmp_path: Path) -> None:
    write(tmp_path, HEADER + ROWS)
    write(tmp_path, HEADER + "z-1,1,i9,OCT-2022,Van,Passing,Stopped,It passed.\n", "ADAS.csv")

    assert [e.target for e in read(tmp_path).examples] == ["passing", "right turn", "other"]


def test_rows_to_predict_need_only_a_narrative(tmp_path: Path) -> None:
    (first, second) = read(write(tmp_path, "narrative\nIt moved.\nIt moved.\n"), "keep").examples

    assert (first.text, first.target, first.time) == ("It moved.", None, None)
    assert first.id != second.id


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("narrative,other_movement\nIt moved.,straight\n", "has no column Incident Date or month"),
        ("month,narrative,other_movement\n31/12/2022,It moved.,straight\n", r"ADS\.csv.*'month' contains '31/12/2022'"),
        ("month,narrative,other_movement\nFOO-2022,It moved.,straight\n", "contains 'FOO-2022'"),
        ("month,narrative,other_movement\n2022-07,,straight\n", "none of its 1 rows"),
    ],
)
def test_a_wrong_file_is_refused_with_its_reason(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=says):
        read(write(tmp_path, text))


def test_columns_cannot_be_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"Leave data\.columns out"):
        readers.get("traffic.crashes")(write(tmp_path, HEADER + ROWS), {"text": "Narrative"}, "classification")


def test_later_months_judge_in_the_recipe(tmp_path: Path) -> None:
    lines = [
        f"20{20 + n // 60}-{n // 5 % 12 + 1:02},Report {n * 7919} of a crash,{['straight', 'stopped'][n % 2]}\n"
        for n in range(240)
    ]
    path = write(tmp_path, "month,narrative,other_movement\n" + "".join(lines))

    rows = prepare(load_recipe("traffic/crash-narratives", {"data.source": str(path), "data.decontaminate": None}))

    assert max(e.time or "" for e in rows.train) < min(e.time or "" for e in rows.validation)
    assert max(e.time or "" for e in rows.validation) < min(e.time or "" for e in rows.test)
