"""Series from a table: steps, channels, what is missing, and what is refused."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vertical_sdk.card import Contract
from vertical_sdk.catalog import readers
from vertical_sdk.data.prepare import prepare, read_rows
from vertical_sdk.data.read import Table
from vertical_sdk.data.windows import find_pace
from vertical_sdk.data.zones import name_offset, parse_time
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.recipe import Recipe
from vertical_sdk.types import SeriesLayout, TaskName


def hours(count: int, channels: str = "a,b") -> list[str]:
    """A header and lines of an hour each; the n-th channel holds 100 n plus the hour's number."""
    names = channels.split(",")
    first = datetime(2024, 1, 1)
    lines = [f"time,{channels}"]
    lines += [
        ",".join([str(first + timedelta(hours=n)), *(str(100 * k + n) for k in range(1, len(names) + 1))]) for n in range(count)
    ]
    return lines


def write(folder: Path, lines: list[str], name: str = "own.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


def read(path: Path, task: TaskName = "forecasting", missing: str = "drop", **options: Any) -> Table:
    columns = options.pop("columns", {})
    table = readers.get("series")(path, columns, task, missing, **{"history": 3, "horizon": 2, **options})
    assert isinstance(table, Table)
    return table


def test_channels_times_and_pace_are_found_in_the_file(tmp_path: Path) -> None:
    lines = [f"{line},{'note' if n == 0 else 'dry'}" for n, line in enumerate(hours(10))]

    table = read(write(tmp_path, lines))

    assert table.layout == SeriesLayout(("a", "b"), 3600.0, 3, 2)
    assert "2 channels: a, b" in table.detected
    first, last = table.examples[0], table.examples[-1]
    assert (first.time, last.time) == ("2024-01-01T02:00:00", "2024-01-01T07:00:00")
    np.testing.assert_array_equal(first.values, [[100, 200], [101, 201], [102, 202]])
    np.testing.assert_array_equal(first.target, [[103, 203], [104, 204]])
    assert {row.group for row in table.examples} == {"2024-01-01T00:00:00"}
    assert np.shares_memory(first.values, table.examples[1].values)


@pytest.mark.parametrize("index", ["", "Unnamed: 0"])
def test_the_index_of_a_data_frame_is_not_a_channel(tmp_path: Path, index: str) -> None:
    header, *lines = hours(10)

    table = read(write(tmp_path, [f"{index},{header}", *(f"{n},{line}" for n, line in enumerate(lines))]))

    assert table.layout is not None
    assert table.layout.channels == ("a", "b")
    assert table.account is not None
    assert table.account.notes == {f"cells of {index or 'column_1'!r}, which are not measurements and are not read": 10}


def test_a_channel_with_decimal_commas_is_refused_and_not_left_out(tmp_path: Path) -> None:
    header, *lines = hours(10)

    with pytest.raises(
        DataError, match=r"own.csv:2: column 'c' contains '1,5', which is not a number: write a point"
    ) as refused:
        read(write(tmp_path, [f"{header},c", *(f'{line},"1,5"' for line in lines)]))
    assert refused.value.exit_code == 3


def test_channels_may_be_chosen_and_ordered(tmp_path: Path) -> None:
    table = read(write(tmp_path, hours(9, "a,b,c")), channels=["c", "a"])

    assert table.layout is not None
    assert table.layout.channels == ("c", "a")
    np.testing.assert_array_equal(table.examples[0].values[0], [300, 100])  # type: ignore[index]


def test_steps_that_are_missing_double_or_out_of_order_are_mended_and_counted(tmp_path: Path) -> None:
    lines = hours(9, "a")
    double = lines[5].replace(",104", ",110")
    path = write(tmp_path, [lines[0], *reversed(lines[1:4]), *lines[5:], double])  # without the hour 3, hour 4 twice

    table = read(path)

    assert table.account is not None
    assert table.account.notes == {"steps missing": 1, "rows of the same time merged": 1, "cells without a number": 1}
    np.testing.assert_array_equal(table.examples[1].values[:, 0], [101, 102, np.nan])  # type: ignore[index]
    np.testing.assert_array_equal(table.examples[1].target, [[107], [105]])


def test_cells_that_say_nothing_are_unknown_and_zeros_only_where_it_is_said(tmp_path: Path) -> None:
    lines = hours(9, "a")
    lines[1], lines[2] = lines[1].replace(",100", ",NA"), lines[2].replace(",101", ",0")

    kept = read(write(tmp_path, lines)).examples[0].values
    gone = read(write(tmp_path, lines), zero_is_missing=True).examples[0].values

    np.testing.assert_array_equal(kept[:, 0], [np.nan, 0, 102])  # type: ignore[index]
    np.testing.assert_array_equal(gone[:, 0], [np.nan, np.nan, 102])  # type: ignore[index]


def test_no_row_reaches_from_one_series_into_another(tmp_path: Path) -> None:
    plain = hours(7, "a")
    lines = ["time,a,pump", *(f"{line},p1" for line in plain[1:]), *(f"{line},p2" for line in plain[1:])]
    path = write(tmp_path, [lines[0], *sorted(lines[1:])])  # the lines of the two series alternate

    table = read(path, columns={"group": "pump"})

    assert [row.id for row in table.examples] == [f"p{p} 2024-01-01T0{h}:00:00" for p in (1, 2) for h in (2, 3, 4)]
    assert {row.group for row in table.examples} == {"p1 2024-01-01T00:00:00", "p2 2024-01-01T00:00:00"}
    assert dict(table.examples[0].record) == {"series": "p1"}
    np.testing.assert_array_equal(table.examples[3].values, [[100], [101], [102]])
    assert {row.group for row in read(path, columns={"group": "pump"}, block=None).examples} == {"p1", "p2"}


def test_a_series_that_is_too_short_is_counted(tmp_path: Path) -> None:
    lines = ["time,a,pump", *(f"{line},p1" for line in hours(7, "a")[1:]), "2024-01-01 00:00:00,5,p2"]

    table = read(write(tmp_path, lines), columns={"group": "pump"})

    assert table.account is not None
    assert table.account.notes == {"series too short": 1}


def test_a_graph_beside_the_file_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, hours(9))
    (tmp_path / "near.csv").write_text("1,0.5\n0.5,1\n")

    table = read(tmp_path, adjacency="near.csv")

    assert table.layout is not None
    assert table.layout.graph is not None
    assert table.layout.graph.tolist() == [[1, 0.5], [0.5, 1]]
    with pytest.raises(DataError, match=r"far.csv: no such file"):
        read(path, adjacency="far.csv")


def test_anomalies_that_are_marked_are_not_learned_from(tmp_path: Path) -> None:
    lines = [f"{line},{'odd' if n == 0 else int(n == 6)}" for n, line in enumerate(hours(10, "a"))]

    rows = read(write(tmp_path, lines), "anomaly", horizon=1, labels="odd").examples

    assert [dict(row.record)["anomaly"] for row in rows] == [0, 0, 1, 0, 0, 0, 0]  # the fifth hour, after 2, 3 and 4
    assert [row.only for row in rows] == [None, None, *["evaluate"] * 4, None]
    assert [float(np.asarray(row.target).item()) for row in rows] == [103 + n for n in range(7)]


def test_rows_to_predict_end_with_the_last_step_also_where_nothing_was_measured(tmp_path: Path) -> None:
    lines = hours(6, "a")
    lines[4:] = [line.rpartition(",")[0] + "," for line in lines[4:]]

    rows = read(write(tmp_path, lines), missing="keep").examples

    assert [row.time for row in rows] == [f"2024-01-01T0{h}:00:00" for h in (2, 3, 4, 5)]
    assert rows[-1].target is None
    assert np.isnan(rows[-1].values).all()  # type: ignore[arg-type]


def test_times_with_one_offset_keep_its_clock(tmp_path: Path) -> None:
    path = write(tmp_path, ["time,a", *(f"2024-07-01T{h:02d}:00:00+08:00,{h}" for h in range(2, 9))])

    table = read(path)

    assert table.examples[0].time == "2024-07-01T04:00:00+08:00"  # the third of 02, 03, 04
    assert table.layout is not None
    assert table.layout.zone == "+08:00"
    assert "zone +08:00" in table.detected
    assert read(write(tmp_path, hours(9))).layout.zone == "none"  # type: ignore[union-attr]
    assert name_offset(parse_time("2024-07-01T00:00:00Z", "x", "y")) == "UTC"


def test_a_named_zone_keeps_the_time_of_day_over_a_change_of_the_clocks(tmp_path: Path) -> None:
    # Berlin went from 03:00 (+02:00) back to 02:00 (+01:00) on 27 October 2024: 02:00 came twice, an hour apart.
    first = datetime(2024, 10, 26, 22, tzinfo=timezone.utc)
    path = write(tmp_path, ["time,a", *(f"{(first + timedelta(hours=h)).isoformat()},{h}" for h in range(7))])

    rows = read(path, zone="Europe/Berlin", history=1, horizon=1).examples

    clock = ["00:00:00+02:00", "01:00:00+02:00", "02:00:00+02:00", "02:00:00+01:00", "03:00:00+01:00", "04:00:00+01:00"]
    assert [row.time for row in rows] == [f"2024-10-27T{time}" for time in clock]
    assert [float(row.values[0, 0]) for row in rows] == [0, 1, 2, 3, 4, 5]  # type: ignore[index]
    assert len({row.id for row in rows}) == len(rows)


def test_offsets_of_summer_and_winter_are_read_in_utc_unless_a_zone_is_named(tmp_path: Path) -> None:
    lines = ["time,a", "2024-10-27T01:00:00+02:00,1", "2024-10-27T02:00:00+02:00,2", "2024-10-27T02:00:00+01:00,3"]
    lines += ["2024-10-27T03:00:00+01:00,4", "2024-10-27T04:00:00+01:00,5"]

    table = read(write(tmp_path, lines))

    assert table.layout is not None
    assert table.layout.zone == "UTC"
    assert table.examples[0].time == "2024-10-27T01:00:00+00:00"
    assert table.account is not None
    assert not table.account.notes  # no step is missing, and none appears twice


@pytest.mark.parametrize(
    ("odd", "rest", "problem"),
    [
        (
            "2024-01-01 03:00:00+08:00",
            {},
            r"own.csv:5: 2024-01-01T03:00:00\+08:00 is a time with a zone, and the times before it",
        ),
        ("2024-01-01 03:00:00Z", {}, "own.csv:5: 2024-01-01T03:00:00"),
        (
            "2024-01-01 03:00:00",
            {"zone": "Asia/Shanghai"},
            "own.csv:2: 2024-01-01T00:00:00 is a time without a zone, and data.reader.zone",
        ),
    ],
)
def test_times_of_two_kinds_are_refused(tmp_path: Path, odd: str, rest: dict[str, str], problem: str) -> None:
    lines = hours(9, "a")
    lines[4] = f"{odd},103"

    with pytest.raises(DataError, match=problem):
        read(write(tmp_path, lines), **rest)


def test_a_zone_that_does_not_exist_is_refused_before_reading(tmp_path: Path) -> None:
    for zone in ("Europe/Berlim", "../etc/passwd", "+25:00", ""):
        with pytest.raises(RecipeError, match="no zone is called"):
            read(write(tmp_path, hours(9)), zone=zone)


@pytest.mark.parametrize(
    ("trained", "asked", "problem"),
    [
        ("none", "+08:00", r"a time with a zone \(\+08:00\), and this specialist was trained on times without a zone"),
        (None, "+08:00", "trained by an older version"),
        ("+08:00", "", r"a time without a zone, and this specialist was trained on times with one \(\+08:00\)"),
    ],
)
def test_a_file_of_the_other_kind_of_times_is_refused(tmp_path: Path, trained: str | None, asked: str, problem: str) -> None:
    path = write(tmp_path, ["time,a", *(f"2024-07-01T{h:02d}:00:00{asked},{h}" for h in range(9))])
    layout = SeriesLayout(("a",), 3600.0, 3, 2, zone=trained)

    with pytest.raises(DataError, match=problem) as caught:
        read_rows(path, recipe(path), Contract(layout=layout))
    assert str(path) in str(caught.value)


def test_a_file_in_another_zone_is_read_in_the_clock_of_the_training(tmp_path: Path) -> None:
    path = write(tmp_path, ["time,a", *(f"2024-07-01T{h:02d}:00:00Z,{h}" for h in range(9))])

    rows, _ = read_rows(path, recipe(path), Contract(layout=SeriesLayout(("a",), 3600.0, 3, 2, zone="Asia/Shanghai")))

    assert rows[0].time == "2024-07-01T10:00:00+08:00"  # 02:00 in UTC
    assert rows[0].values[:, 0].tolist() == [0, 1, 2]  # type: ignore[index]
    plain = write(tmp_path, hours(9, "a"), "plain.csv")
    older, _ = read_rows(plain, recipe(plain), Contract(layout=SeriesLayout(("a",), 3600.0, 3, 2)))
    assert older[0].time == "2024-01-01T02:00:00"


@pytest.mark.parametrize("value", ["1e30", "3.4e38", "-1e39", "1e300"])
def test_a_value_far_too_large_counts_as_not_measured(tmp_path: Path, value: str) -> None:
    lines = hours(9, "a")
    lines[4] = lines[4].replace(",103", f",{value}")
    path = write(tmp_path, lines)

    table = read(path)
    monitored = read(path, "anomaly", "keep", horizon=1).examples

    assert table.account is not None
    assert table.account.notes["cells too large to be measurements"] == 1
    np.testing.assert_array_equal(table.examples[1].values[:, 0], [101, 102, np.nan])  # type: ignore[index]
    np.testing.assert_array_equal(table.examples[0].target[:, 0], [np.nan, 104])  # type: ignore[index,call-overload]
    assert abs(monitored[0].target[0, 0]) >= 9e29  # type: ignore[index,call-overload]  # a monitor scores it
    np.testing.assert_array_equal(monitored[1].values[:, 0], [101, 102, np.nan])  # type: ignore[index]


@pytest.mark.parametrize("value", ["inf", "-Infinity", "1e400"])
def test_an_infinite_value_is_refused_with_its_line(tmp_path: Path, value: str) -> None:
    lines = hours(9, "a")
    lines[4] = lines[4].replace(",103", f",{value}")

    with pytest.raises(DataError, match=r"own.csv:5: column 'a' contains '.*', which is not a finite number"):
        read(write(tmp_path, lines))


def test_values_a_million_times_the_training_s_are_set_aside_and_counted(tmp_path: Path) -> None:
    lines = hours(9, "a")
    lines[3] = lines[3].replace(",102", ",1e9")
    path = write(tmp_path, lines)

    known, account = read_rows(path, recipe(path), Contract(layout=SeriesLayout(("a",), 3600.0, 3, 2, largest=(200.0,))))
    unknown, _ = read_rows(path, recipe(path), Contract(layout=SeriesLayout(("a",), 3600.0, 3, 2)))

    np.testing.assert_array_equal(known[0].values[:, 0], [100, 101, np.nan])  # type: ignore[index]
    assert account.notes == {"histories with a value too large to use": 3}
    assert unknown[0].values[2, 0] == np.float32(1e9)  # type: ignore[index]


def test_a_file_without_times_needs_a_start_and_a_pace(tmp_path: Path) -> None:
    path = write(tmp_path, ["a,b", *(f"{n},{n}" for n in range(8))])

    assert read(path, start="2024-01-01", seconds=60).examples[0].time == "2024-01-01T00:02:00"
    with pytest.raises(DataError, match=r"own.csv: no column of times. The columns are 'a', 'b'"):
        read(path)


def test_the_commonest_pace_is_the_pace() -> None:
    first = datetime(2024, 1, 1)
    times = [first + timedelta(minutes=m) for m in (0, 5, 10, 30, 35, 5)]

    assert find_pace([times]) == 300
    assert find_pace([times[:1], times[1:2]]) is None
    assert find_pace([[first + timedelta(minutes=m) for m in (0, 5, 15)]]) == 300


@pytest.mark.parametrize(
    ("lines", "options", "said"),
    [
        (hours(9), {"columns": {"time": "when"}}, "data.columns.time: no column 'when'"),
        (hours(9), {"columns": {"group": "pum"}}, "data.columns.group: no column 'pum'"),
        (hours(9), {"channels": ["a", "bb"]}, "data.reader.channels: no column 'bb'. Did you mean 'b'?"),
        (hours(9), {"channels": ["a", "time"]}, "'time' is named as a channel and for something else"),
        (hours(9), {"channels": ["a", "a"]}, "a channel is named twice"),
        (
            [*hours(9, "a"), "2024-01-01 08:30:00,1"],
            {},
            "own.csv:11: 2024-01-01T08:30:00 is not a whole number of steps of 3600 s",
        ),
        ([*hours(9, "a"), "soon,1"], {}, "own.csv:11: column 'time' contains 'soon', which is not a time. Write it as"),
        ([*hours(9, "a"), "2024-01-01 09:00:00,many"], {}, "own.csv:11: column 'a' contains 'many', which is not a number"),
        (
            [*hours(9, "a"), "2024-01-01 09:00:00,inf"],
            {},
            "own.csv:11: column 'a' contains 'inf', which is not a finite number",
        ),
        (hours(4), {}, "4 steps are too few: one row needs 5 (3 before and 2 after its moment)"),
        (["time,date,a", "2024-01-01,2024-01-01,1"], {}, "'time' and 'date' could both be the time"),
        (["time,a", "2024-01-01,x", "2024-01-02,y"], {}, "no column contains numbers"),
        (["time,a", "2024-01-01,1"], {}, "no series has two times"),
        (["time,a,p", "2024-01-01,1,", "2024-01-02,1,x"], {"columns": {"group": "p"}}, "own.csv:2: column 'p' is empty"),
    ],
)
def test_a_broken_table_is_refused_with_its_place(tmp_path: Path, lines: list[str], options: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError) as caught:
        read(write(tmp_path, lines), **options)

    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("task", "options", "said"),
    [
        ("classification", {}, "series reads rows for forecasting and anomaly, not for classification"),
        ("anomaly", {"horizon": 2}, "horizon = 2 is wrong: the next step alone shows an anomaly"),
        ("forecasting", {"labels": "b"}, "marks anomalies, which forecasting does not use"),
        ("forecasting", {"columns": {"text": "b"}}, "unknown keys of data.columns: text. Known are time and group"),
    ],
)
def test_options_that_the_task_does_not_have_are_refused(
    tmp_path: Path, task: TaskName, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(RecipeError, match=said):
        read(write(tmp_path, hours(9)), task, **options)


def test_marks_are_0_or_1(tmp_path: Path) -> None:
    lines = [f"{line},{'odd' if n == 0 else n}" for n, line in enumerate(hours(9, "a"))]

    with pytest.raises(DataError, match=r"own.csv:3: column 'odd' contains '2'. Write 0 or 1"):
        read(write(tmp_path, lines), "anomaly", horizon=1, labels="odd")


def recipe(path: Path, **reader: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "own",
            "task": "forecasting",
            "data": {
                "source": str(path),
                "modality": "series",
                "reader": {"use": "series", "history": 3, "horizon": 2, **reader},
                "clean": [],
                "split": {"use": "time", "test": 0.2, "validation": 0.2, "gap": 2},
                "decontaminate": None,
            },
        }
    )


def test_a_recipe_prepares_its_rows_and_keeps_the_parts_apart(tmp_path: Path) -> None:
    found = prepare(recipe(write(tmp_path, hours(200)), block=3600))

    assert found.layout == SeriesLayout(("a", "b"), 3600.0, 3, 2)
    assert found.layout is not None
    assert found.layout.zone == "none"
    hour = (datetime.fromisoformat(found.train[-1].time or "") - datetime(2024, 1, 1)).total_seconds() / 3600
    assert found.layout.largest == (100 + hour + 2, 200 + hour + 2)  # two steps after the last moment of the training
    ends = [max(row.time or "" for row in part) for part in (found.train, found.validation)]
    begins = [min(row.time or "" for row in part) for part in (found.validation, found.test)]
    assert all(
        datetime.fromisoformat(begin) - datetime.fromisoformat(end) >= timedelta(hours=2)
        for end, begin in zip(ends, begins, strict=True)
    )


def test_a_file_to_forecast_gives_the_channels_that_were_trained(tmp_path: Path) -> None:
    layout = SeriesLayout(("b", "a"), 3600.0, 3, 2)
    own = recipe(write(tmp_path, hours(9)))

    rows, _ = read_rows(write(tmp_path, hours(9, "a,b,c"), "new.csv"), own, Contract(layout=layout))

    np.testing.assert_array_equal(rows[-1].values, [[206, 106], [207, 107], [208, 108]])
    with pytest.raises(DataError, match="no column 'b'"):
        read_rows(write(tmp_path, hours(9, "a"), "less.csv"), own, Contract(layout=layout))


def test_a_file_of_another_pace_or_of_other_channels_is_refused(tmp_path: Path) -> None:
    (tmp_path / "los_speed.csv").write_text("\n".join(["a,b", *["1,2"] * 30]) + "\n")
    own = recipe(tmp_path, use="traffic.sensors", adjacency=None).replace({"domain": "traffic"})

    with pytest.raises(DataError, match=r"has a step every 300 s\. This specialist reads one every 60 s"):
        read_rows(tmp_path / "los_speed.csv", own, Contract(layout=SeriesLayout(("a", "b"), 60.0, 3, 2)))
    with pytest.raises(DataError, match="has another order"):
        read_rows(tmp_path / "los_speed.csv", own, Contract(layout=SeriesLayout(("b", "a"), 300.0, 3, 2)))
    with pytest.raises(DataError, match="lacks c"):
        read_rows(tmp_path / "los_speed.csv", own, Contract(layout=SeriesLayout(("a", "c"), 300.0, 3, 2)))


# Rows of numbers with a label, by the reader of tables


def signals(folder: Path, *lines: str) -> Path:
    return write(folder, ["s1,s2,s3,kind", *(lines or ("1,2,3,x", "4,,6,y", ",,,x", "7,8,9,"))])


@pytest.mark.parametrize(
    ("cell", "problem"),
    [("1e30", "too large to be a measurement"), ("-1e39", "too large to be a measurement"), ("inf", "not a finite number")],
)
def test_a_row_of_numbers_with_an_overflow_is_refused_with_its_line(tmp_path: Path, cell: str, problem: str) -> None:
    path = signals(tmp_path, "1,2,3,x", f"4,{cell},6,y")

    with pytest.raises(DataError, match=f"own.csv:3: column 's2' contains '{cell}', which is {problem}"):
        readers.get("table")(path, {"label": "kind"}, "classification", values="all")


def test_a_row_of_numbers_with_a_label_needs_no_text(tmp_path: Path) -> None:
    found = readers.get("table")(signals(tmp_path), {"label": "kind"}, "classification", values="all")

    assert [row.target for row in found.examples] == ["x", "y"]
    assert [row.text for row in found.examples] == ["", ""]
    assert found.examples[0].values.dtype == np.float32
    np.testing.assert_array_equal(found.examples[1].values, [4, np.nan, 6])
    assert found.account.dropped == {"nothing measured": 1, "no label": 1}
    chosen = readers.get("table")(signals(tmp_path), {"label": "kind"}, "classification", values=["s3", "s1"])
    np.testing.assert_array_equal(chosen.examples[0].values, [3, 1])


def test_numbers_of_a_row_are_refused_where_they_are_none(tmp_path: Path) -> None:
    table = readers.get("table")

    with pytest.raises(DataError, match=r"own.csv:2: column 's2' contains 'two', which is not a number"):
        table(signals(tmp_path, "1,two,3,x"), {"label": "kind"}, "classification", values="all")
    with pytest.raises(DataError, match=r"data.reader.values: no column 's4'"):
        table(signals(tmp_path), {"label": "kind"}, "classification", values=["s4"])
    with pytest.raises(RecipeError, match="not both"):
        table(signals(tmp_path), {"label": "kind"}, "classification", values="all", record="all")


def test_rows_of_numbers_pass_the_usual_cleaning(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = [",".join(f"{v:.3f}" for v in rng.normal(size=3)) + f",{'xy'[n % 2]}" for n in range(60)]
    own = Recipe.model_validate(
        {
            "name": "beats",
            "task": "classification",
            "data": {
                "source": str(signals(tmp_path, *lines, lines[0])),
                "modality": "series",
                "reader": {"use": "table", "values": "all"},
                "columns": {"label": "kind"},
            },
        }
    )

    found = prepare(own)

    assert len(found.train) + len(found.validation) + len(found.test) == 60
    assert {"duplicate": 1} in [dict(step.dropped) for step in found.account.steps]
