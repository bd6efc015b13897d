from __future__ import annotations

import gzip
import io
import random
import zipfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vertical_sdk import catalog
from vertical_sdk.card import Contract
from vertical_sdk.checking import check_recipe
from vertical_sdk.data.prepare import Prepared, prepare, read_rows
from vertical_sdk.data.read import Table
from vertical_sdk.domain import load_domain
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.metrics.measure import bind, higher_is_better
from vertical_sdk.recipe import load_recipe
from vertical_sdk.types import TaskName

HEADER = (
    "AREFNO,date,year,month,day,hour,mode,output_time,collision_severity,casualty_severity,number_vehicles,number_casualties,"
)
HEADER += "sex,ageband,light_conditions,speed_limit,area_name,lon,lat"


def sensors(folder: Path, steps: int = 30, adjacency: str = "1,0.5,0\n0.5,1,0\n0,0,1\n", cell: str = "") -> Path:
    """Three sensors in the layout of METR-LA: 100 times the sensor plus the step."""
    lines = [",".join(str(100.0 * sensor + step) for sensor in (1, 2, 3)) for step in range(steps)]
    if cell:
        lines[4] = lines[4].replace("204.0", cell)
    (folder / "los_speed.csv").write_text("\n".join(["717447,717446,717445", *lines]) + "\n")
    (folder / "los_adj.csv").write_text(adjacency)
    return folder


def read(name: str, path: Path, task: TaskName = "forecasting", missing: str = "drop", **options: Any) -> Table:
    columns = options.pop("columns", {})
    table = catalog.readers.get(name)(path, columns, task, missing, **options)
    assert isinstance(table, Table)
    return table


def test_the_vertical_says_what_it_is() -> None:
    assert load_domain("traffic").languages == ("en", "zh")


# Sensors


def test_a_row_of_sensors_is_a_moment_with_what_was_before_and_after(tmp_path: Path) -> None:
    table = read("traffic.sensors", sensors(tmp_path), history=4, horizon=2)

    first, last = table.examples[0], table.examples[-1]
    assert (len(table.examples), first.time, last.time) == (30 - 4 - 2 + 1, "2012-03-01T00:15:00", "2012-03-01T02:15:00")
    assert first.values is not None
    assert isinstance(first.target, np.ndarray)
    assert first.values.tolist() == [[100 + t, 200 + t, 300 + t] for t in range(4)]
    assert first.target.tolist() == [[100 + t, 200 + t, 300 + t] for t in (4, 5)]
    assert table.layout is not None
    assert (table.layout.channels, table.layout.seconds) == (("717447", "717446", "717445"), 300.0)
    assert table.layout.graph is not None
    assert table.layout.graph.tolist() == [[1, 0.5, 0], [0.5, 1, 0], [0, 0, 1]]


def test_rows_are_views_of_one_series(tmp_path: Path) -> None:
    rows = read("traffic.sensors", sensors(tmp_path), history=4, horizon=2).examples

    assert rows[0].values is not None
    assert rows[1].values is not None
    assert np.shares_memory(rows[0].values, rows[1].values)


def test_rows_of_two_hours_are_one_group(tmp_path: Path) -> None:
    rows = read("traffic.sensors", sensors(tmp_path), history=4, horizon=2).examples

    assert {row.group for row in rows if row.time < "2012-03-01T02"} == {"2012-03-01T00:00:00"}  # type: ignore[operator]
    assert {row.group for row in rows if row.time >= "2012-03-01T02"} == {"2012-03-01T02:00:00"}  # type: ignore[operator]


def test_zeros_and_empty_cells_are_unknown_and_counted(tmp_path: Path) -> None:
    folder = sensors(tmp_path, cell="0.0")
    known = read("traffic.sensors", folder, history=4, horizon=2, zero_is_missing=False)
    unknown = read("traffic.sensors", folder, history=4, horizon=2)

    assert known.examples[1].values[3, 1] == 0  # type: ignore[index]
    assert np.isnan(unknown.examples[1].values[3, 1])  # type: ignore[index]
    assert unknown.account is not None
    assert unknown.account.notes == {"zeros taken as missing": 1, "cells without a number": 1}
    assert np.isnan(read("traffic.sensors", sensors(tmp_path, cell=""), history=4, horizon=2).examples[0].values).sum() == 0  # type: ignore[call-overload]


def test_moments_without_a_measurement_are_dropped_and_counted(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("a\n" + "\n".join(["1", "2", "0", "0", "0", "6", "7", "8"]) + "\n")

    table = read("traffic.sensors", tmp_path / "one.csv", history=2, horizon=1, adjacency=None)

    assert table.account is not None
    assert table.account.dropped == {"nothing measured after it": 2, "nothing measured before it": 2}
    assert [row.time[11:16] for row in table.examples if row.time] == ["00:25", "00:30"]


def test_rows_to_predict_end_with_the_last_step(tmp_path: Path) -> None:
    rows = read("traffic.sensors", sensors(tmp_path), missing="keep", history=4, horizon=2, stride=5).examples

    assert rows[-1].time == "2012-03-01T02:25:00"
    assert rows[-1].target is None
    assert isinstance(rows[0].target, np.ndarray)


def test_rows_to_predict_need_no_graph(tmp_path: Path) -> None:
    folder = sensors(tmp_path)
    (folder / "los_adj.csv").unlink()

    assert read("traffic.sensors", folder, missing="keep", history=4, horizon=2).layout.graph is None  # type: ignore[union-attr]
    with pytest.raises(DataError, match=r"los_adj.csv: no such file.*data.reader.adjacency"):
        read("traffic.sensors", folder, history=4, horizon=2)


def test_times_of_the_file_are_taken_and_missing_steps_left_unknown(tmp_path: Path) -> None:
    times = ["2024-05-01 00:00", "2024-05-01 00:05", "2024-05-01 00:20", "2024-05-01 00:15", "2024-05-01 00:15"]
    (tmp_path / "own.csv").write_text(
        "when,a\n" + "\n".join(f"{t},{v}" for t, v in zip(times, (1, 2, 5, 3, 4), strict=True)) + "\n"
    )

    table = read("traffic.sensors", tmp_path / "own.csv", columns={"time": "when"}, history=4, horizon=1, adjacency=None)

    assert table.account is not None
    assert table.account.notes == {
        "steps missing": 1,
        "rows of the same time merged": 1,
        "cells without a number": 1,
    }
    np.testing.assert_array_equal(table.examples[0].values, [[1], [2], [np.nan], [3.5]])
    np.testing.assert_array_equal(table.examples[0].target, [[5]])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"adjacency": "1,0\n0,1\n"}, "2 lines for the 3 channels of los_speed.csv"),
        ({"adjacency": "1,0,0\n0,1\n0,0,1\n"}, "los_adj.csv:2: 2 fields for the 3 channels"),
        ({"adjacency": "1,0,0\n0,x,0\n0,0,1\n"}, "los_adj.csv:2: column '2' contains 'x', which is not a number"),
        ({"adjacency": "1,0,0\n0,1,-2\n0,0,1\n"}, "los_adj.csv:2: contains -2"),
        ({"cell": "fast"}, "los_speed.csv:6: column '717446' contains 'fast', which is not a number"),
        ({"cell": "inf"}, "los_speed.csv:6: column '717446' contains 'inf', which is not a finite number"),
        ({"steps": 5}, "5 steps are too few: one row needs 6"),
    ],
)
def test_broken_sensor_files_are_refused_with_file_and_line(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError) as caught:
        read("traffic.sensors", sensors(tmp_path, **change), history=4, horizon=2)

    assert said in str(caught.value)


def test_a_file_without_a_header_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("61.5,62.25\n" + "61.0,60.0\n" * 9)

    with pytest.raises(DataError, match=r"is a line of measurements\. Add a header with the names of the columns"):
        read("traffic.sensors", tmp_path / "a.csv", history=2, horizon=2, adjacency=None)


def test_whole_numbers_that_name_sensors_are_a_header_above_whole_speeds(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("61,64\n" + "".join(f"{60 + step},{65 - step}\n" for step in range(4)))

    table = read("traffic.sensors", tmp_path / "a.csv", history=2, horizon=2, adjacency=None)

    assert table.layout is not None
    assert table.layout.channels == ("61", "64")
    assert table.examples[0].values is not None
    assert table.examples[0].values.tolist() == [[60, 65], [61, 64]]


def test_a_folder_without_the_speeds_says_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no 'los_sped.csv'. Did you mean 'los_speed.csv'\?"):
        read("traffic.sensors", sensors(tmp_path), speeds="los_sped.csv")


def test_a_time_between_two_steps_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("when,a\n2024-05-01 00:00,1\n2024-05-01 00:07,2\n")

    with pytest.raises(DataError, match=r"own.csv:3: 2024-05-01T00:07:00 is not a whole number of steps of 300 seconds"):
        read("traffic.sensors", tmp_path / "own.csv", columns={"time": "when"}, adjacency=None)


@pytest.mark.parametrize("name", ["traffic.sensors", "traffic.interstate"])
def test_series_are_not_for_labels(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecipeError, match="not classification"):
        read(name, sensors(tmp_path), task="classification")


# Volumes


def hours(count: int, *, without: tuple[int, ...] = (), double: tuple[int, ...] = (), time: str = "date_time") -> str:
    """A CSV in UCI's columns; the volume is 100 times the hour's number."""
    lines = ["holiday,temp,rain_1h,snow_1h,clouds_all,weather_main,weather_description," + time + ",traffic_volume"]
    for n in range(count):
        moment = datetime(2016, 10, 1) + timedelta(hours=n)
        line = f"None,288.2,0,0,40,Clouds,scattered clouds,{moment},{100 * n}"
        lines += [] if n in without else [line] * (1 + (n in double))
    return "\n".join(lines) + "\n"


def test_missing_hours_are_unknown_and_double_ones_merged(tmp_path: Path) -> None:
    (tmp_path / "metro.csv").write_text(hours(12, without=(3,), double=(5, 6)))

    table = read("traffic.interstate", tmp_path / "metro.csv", history=6, horizon=2)

    assert table.account is not None
    assert table.account.notes == {"steps missing": 1, "rows of the same time merged": 2, "cells without a number": 1}
    np.testing.assert_array_equal(table.examples[0].values[:, 0], [0, 100, 200, np.nan, 400, 500])  # type: ignore[index]
    np.testing.assert_array_equal(table.examples[0].target, [[600], [700]])
    assert table.layout is not None
    assert (table.layout.channels, table.layout.seconds, table.layout.graph) == (("traffic_volume",), 3600.0, None)


def test_the_table_may_lie_in_a_zip_or_in_a_gzip_in_a_zip(tmp_path: Path) -> None:
    text = hours(12).encode()
    plain, packed = tmp_path / "a.zip", tmp_path / "b.zip"
    with zipfile.ZipFile(plain, "w") as archive:
        archive.writestr("traffic_hourly.zip", text)  # as the wheel has it: a CSV with a zip's name
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("Metro_Interstate_Traffic_Volume.csv.gz", gzip.compress(text))
    (tmp_path / "c.csv").write_bytes(text)

    found = [read("traffic.interstate", tmp_path / name, history=6, horizon=2) for name in ("a.zip", "b.zip", "c.csv")]

    assert [len(table.examples) for table in found] == [5, 5, 5]
    for table in found[:2]:
        for row, same in zip(table.examples, found[2].examples, strict=True):
            assert row.time == same.time
            np.testing.assert_array_equal(row.values, same.values)  # type: ignore[arg-type]


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.csv", hours(12))
    (tmp_path / "cut.zip").write_bytes(buffer.getvalue()[:-40])
    (tmp_path / "cut.gz").write_bytes(gzip.compress(hours(12).encode())[:-20])

    for name in ("cut.zip", "cut.gz"):
        with pytest.raises(DataError, match=f"{name}: the archive is cut or damaged"):
            read("traffic.interstate", tmp_path / name)


def test_another_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")

    with pytest.raises(DataError, match=r"its columns are a, b; date_time or datetime and traffic_volume are needed"):
        read("traffic.interstate", tmp_path / "x.csv")


def test_errors_in_an_archive_name_the_archive_and_the_line(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.csv", hours(12).replace(",500\n", ",many\n"))

    with pytest.raises(DataError, match=r"a.zip:7: column 'traffic_volume' contains 'many', which is not a number"):
        read("traffic.interstate", tmp_path / "a.zip")


# Casualties


def casualty(number: int, *, date: str = "2021-05-01", severity: str = "Slight", mode: str = "Car", sex: str = "Male") -> str:
    return (
        f"{number},{date},{date[:4]},May,Sat,17,{mode},17:05:00,Fatal,{severity},2,1,{sex},26-35,Daylight,30,Trafford,-2.3,53.4"
    )


def test_casualties_are_records_that_do_not_tell_the_outcome(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("\n".join([HEADER, casualty(1), casualty(2, severity="Serious", sex="-1")]) + "\n")

    first, second = read("traffic.casualties", tmp_path / "c.csv", task="classification").examples

    assert first.text == (
        "casualty was in or on: car; age: 26-35; sex: male; vehicles: 2; casualties: 1; speed limit mph: 30; light: daylight; "
        "hour: 17; day: Sat; month: May; district: Trafford"
    )
    assert (first.target, second.target) == ("slight", "serious or fatal")
    assert dict(second.record)["sex"] is None
    assert (first.group, first.time) == ("1", "2021-05-01")


def test_codes_of_the_form_mean_the_same_as_words(tmp_path: Path) -> None:
    coded = casualty(1, severity="3", mode="9", sex="1").replace("26-35", "6").replace("Daylight", "1")
    (tmp_path / "c.csv").write_text("\n".join([HEADER, casualty(1), coded]) + "\n")

    words, codes = read("traffic.casualties", tmp_path / "c.csv", task="classification").examples

    assert (words.record, words.target) == (codes.record, codes.target)


def test_the_last_year_judges(tmp_path: Path) -> None:
    lines = [casualty(n, date=f"{2019 + n}-05-01") for n in range(4)]
    (tmp_path / "c.csv").write_text("\n".join([HEADER, *lines]) + "\n")

    last = read("traffic.casualties", tmp_path / "c.csv", task="classification").examples
    chosen = read("traffic.casualties", tmp_path / "c.csv", task="classification", test_from=2021).examples

    assert [row.split for row in last] == ["train", "train", "train", "test"]
    assert [row.split for row in chosen] == ["train", "train", "test", "test"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (casualty(1, severity="Hurt"), "c.csv:2: column 'casualty_severity' holds 'hurt'; slight, serious or fatal is needed"),
        (casualty(1, mode="55"), "c.csv:2: column 'mode' holds the code '55'"),
        (casualty(1, date="May 2021"), "c.csv:2: column 'date' contains 'May 2021', which is not a time"),
        (casualty(1).replace(",30,", ",fast,"), "c.csv:2: column 'speed_limit' contains 'fast', which is not a number"),
    ],
)
def test_broken_casualties_are_refused_with_file_and_line(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "c.csv").write_text(f"{HEADER}\n{line}\n")

    with pytest.raises(DataError) as caught:
        read("traffic.casualties", tmp_path / "c.csv", task="classification")

    assert said in str(caught.value)


def test_casualties_without_a_severity_are_dropped_kept_or_refused(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("\n".join([HEADER, casualty(1), casualty(2, severity="")]) + "\n")

    dropped = read("traffic.casualties", tmp_path / "c.csv", task="classification")
    assert dropped.account is not None
    assert dropped.account.dropped == {"no label": 1}
    assert len(read("traffic.casualties", tmp_path / "c.csv", task="classification", missing="keep").examples) == 2
    with pytest.raises(DataError, match=r"c.csv:3: no casualty_severity"):
        read("traffic.casualties", tmp_path / "c.csv", task="classification", missing="refuse")


# Metrics


def test_metrics_name_how_far_ahead_they_look() -> None:
    truth = np.zeros((1, 12, 1))
    said = np.arange(1.0, 13.0).reshape(1, 12, 1)

    measured = [bind(f"traffic.mae_{minutes}min")(said, truth) for minutes in (15, 30, 60)]

    assert measured == [3.0, 6.0, 12.0]
    assert bind("traffic.rmse_60min", arguments={"seconds": 900})(said, truth) == 4.0
    assert bind("traffic.mape_15min")(said + 10, truth + 10) == pytest.approx(0.3)
    assert not higher_is_better("traffic.mape_15min")


def test_a_distance_that_no_step_has_is_refused() -> None:
    with pytest.raises(RecipeError, match="no step of 3600 seconds ends 15 minutes ahead"):
        bind("traffic.mae_15min", arguments={"seconds": 3600})(np.zeros((1, 2, 1)), np.zeros((1, 2, 1)))


# Recipes


def prepared(name: str, folder: Path) -> Prepared:
    """The recipe's rows from a small file in the layout of its source."""
    rng = random.Random(0)
    settings: dict[str, Any] = {"data.source": str(folder)}
    if name == "flow-forecast":
        sensors(folder, steps=400)
    elif name == "volume-forecast":
        path = folder / "autots" / "datasets" / "data" / "traffic_hourly.zip"
        path.parent.mkdir(parents=True)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("traffic_hourly.zip", hours(2600, time="datetime"))
        settings["data.sha256"] = None
    else:
        lines = [
            casualty(
                n // 2,
                date=f"{2019 + n // 30}-05-{1 + n % 28:02d}",
                severity=rng.choice(("Slight", "Serious", "Fatal")),
                mode=rng.choice(("Car", "Pedestrian", "Tram")),
            )
            for n in range(120)
        ]
        settings["data.source"] = str(folder / "casualties.csv")
        (folder / "casualties.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    recipe = load_recipe(f"traffic/{name}", settings)
    check_recipe(recipe)
    return prepare(recipe)


@pytest.mark.parametrize("name", ["flow-forecast", "volume-forecast", "incident-severity"])
def test_recipes_prepare_rows_of_their_source(name: str, tmp_path: Path) -> None:
    found = prepared(name, tmp_path)

    assert found.train
    assert found.validation
    assert found.test
    assert (found.layout is None) == (name == "incident-severity")
    groups = [{row.group for row in part} for part in (found.train, found.validation, found.test)]
    assert not groups[0] & groups[1]
    assert not (groups[0] | groups[1]) & groups[2]


@pytest.mark.parametrize("name", ["flow-forecast", "volume-forecast"])
def test_no_step_of_a_later_part_was_learned(name: str, tmp_path: Path) -> None:
    found = prepared(name, tmp_path)

    assert found.layout is not None
    step = timedelta(seconds=found.layout.seconds)
    for earlier, later in ((found.originals, found.validation), (found.validation, found.test)):
        learned = max(datetime.fromisoformat(row.time or "") for row in earlier) + found.layout.horizon * step
        asked = min(datetime.fromisoformat(row.time or "") for row in later) - found.layout.history * step
        assert learned <= asked


def test_a_forecasters_file_is_read_as_in_training(tmp_path: Path) -> None:
    recipe = load_recipe("traffic/flow-forecast", {"data.source": str(sensors(tmp_path, steps=40))})

    asked, _ = read_rows(tmp_path / "los_speed.csv", recipe, Contract())
    judged, _ = read_rows(tmp_path / "los_speed.csv", recipe, Contract(), require_label=True)

    assert (len(asked), len(judged)) == (40 - 12 + 1, 40 - 24 + 1)
    assert asked[-1].target is None
