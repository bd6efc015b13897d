from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from vertical_sdk.domains.traffic import sumo as sumo_module
from vertical_sdk.domains.traffic.cities import Cities, City
from vertical_sdk.domains.traffic.corridors import Corridor, draw_incidents
from vertical_sdk.domains.traffic.incidents import _with_neighbours, incidents, marked_series
from vertical_sdk.domains.traffic.roads import Roads, Trips
from vertical_sdk.domains.traffic.routes import demand_scaling, free_flow_saving, read_streets, route_gap, streets
from vertical_sdk.domains.traffic.sumo import Simulator, find_simulator, run, run_in_parallel

from vertical_sdk.checking import check_recipe
from vertical_sdk.data.prepare import prepare
from vertical_sdk.data.read import Table
from vertical_sdk.errors import DataError, MissingExtra, RecipeError, RunError
from vertical_sdk.recipe import load_recipe
from vertical_sdk.tasks import get_gate
from vertical_sdk.types import Example

try:
    SUMO: Simulator | None = find_simulator()
except MissingExtra:
    SUMO = None
simulates = pytest.mark.skipif(SUMO is None, reason="eclipse-sumo is not installed: pip install '.[traffic-sim]'")

TINY = """
minutes: 5
profile: [1]
peak: 1
rounds: 2
informed: 0.5
centres: 1
cities:
  - {name: here, shape: grid, size: 3, load: 0.8, seed: 1}
"""
ROAD = """
sections: 6
demand: [0.4]
train: 1
validation: 1
test: 1
incidents: {a_day: 1, minutes: [5, 6], recovery: 2}
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "cities.yaml"
    path.write_text(TINY)
    return path


# --- the simulator


def test_without_sumo_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise sumo_module.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(sumo_module.importlib.metadata, "version", missing)

    with pytest.raises(MissingExtra, match=r"needs the extra 'traffic-sim': pip install .*\[traffic-sim\]"):
        find_simulator()


@simulates
def test_a_scenario_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    path.write_text("sumo: 0.1.2\n" + TINY)

    with pytest.raises(DataError, match=r"old\.yaml: sumo: was made for SUMO 0\.1\.2"):
        streets(path, {}, "regression")


@simulates
def test_a_failed_program_is_reported_with_sumos_message(tmp_path: Path) -> None:
    assert SUMO is not None

    with pytest.raises(DataError, match=r"SUMO's netconvert failed \(1\): .*nowhere"):
        run(SUMO, tmp_path, "netconvert", "-s", "nowhere.net.xml")
    with pytest.raises(MissingExtra, match="has no nothing"):
        run(SUMO, tmp_path, "nothing")


def test_a_slow_program_is_ended_with_its_children(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "slow.py").write_text(
        "import subprocess, sys, pathlib, os, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "pathlib.Path('child').write_text(str(child.pid))\n"
        "time.sleep(60)\n"
    )

    with pytest.raises(RunError, match="took more than 2 s"):
        run(Simulator(tmp_path, "0"), tmp_path, "tools/slow.py", limit=2)

    child = int((tmp_path / "child").read_text())
    for _ in range(50):
        if not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text():
            break
        time.sleep(0.1)
    else:
        pytest.fail("the child still runs")


def test_work_side_by_side_keeps_its_order() -> None:
    assert run_in_parallel(lambda n: n * n, [3, 1, 2]) == [9, 1, 4]
    with pytest.raises(DataError):
        run_in_parallel(lambda n: _refuse(), [1, 2])


def _refuse() -> None:
    raise DataError("no")


# --- scenarios


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cities: [", "not plain YAML"),
        ("- a", "Write a YAML mapping"),
        (TINY.replace("load", "laod"), "unknown key"),
        (TINY.replace("grid", "star"), "shape"),
        (TINY.replace("size: 3", "size: 1"), "size"),
        (TINY.replace("peak: 1", "peak: 2"), "only 1 intervals"),
        (TINY + "  - {name: here, shape: grid, size: 3, load: 1, seed: 2}\n", "appears twice"),
    ],
)
def test_a_scenario_that_is_wrong_is_refused_by_name_and_key(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)

    with pytest.raises(DataError, match=r"broken\.yaml") as caught:
        streets(path, {}, "regression")

    assert says in str(caught.value)


def test_incidents_that_do_not_fit_a_day_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "road.yaml"
    path.write_text(ROAD.replace("a_day: 1", "a_day: 9"))

    with pytest.raises(DataError, match=r"road\.yaml: incidents: 9 a day .* do not fit"):
        incidents(path, {}, "anomaly")


def test_readers_are_for_their_own_tasks(tiny: Path) -> None:
    with pytest.raises(RecipeError, match="supports regression, not classification"):
        streets(tiny, {}, "classification")
    with pytest.raises(RecipeError, match="supports anomaly, not forecasting"):
        incidents(tiny, {}, "forecasting")
    with pytest.raises(RecipeError, match=r"data\.columns"):
        marked_series(tiny, {"text": "a"}, "anomaly")


# --- cities


@simulates
def test_a_city_becomes_rows_once_and_the_same_each_time(tiny: Path, home: Path) -> None:
    first = streets(tiny, {}, "regression")
    kept = {path: path.stat().st_mtime_ns for path in (home / "cache" / "sumo").rglob("seconds.json")}
    again = streets(tiny, {}, "regression")

    assert len(kept) == 1
    assert {path: path.stat().st_mtime_ns for path in (home / "cache" / "sumo").rglob("seconds.json")} == kept
    assert first.examples == again.examples
    assert len(first.examples) > 20
    row = first.examples[0]
    facts = dict(row.record)
    assert row.group == "here"
    assert isinstance(row.target, float)
    assert row.target >= 0
    assert facts["free time"] == pytest.approx(float(facts["length"] or 0) / (float(facts["limit"] or 0) / 3.6))
    assert "city: " not in row.text.replace("capacity: ", "")
    assert row.text.startswith("interval: 1; load: 0.8; free volume: ")


@simulates
def test_a_new_city_does_not_simulate_the_others_again(tiny: Path, home: Path) -> None:
    streets(tiny, {}, "regression")
    before = {path: path.stat().st_mtime_ns for path in (home / "cache" / "sumo").rglob("seconds.json")}
    tiny.write_text(TINY + "  - {name: there, shape: grid, size: 4, load: 0.5, seed: 2}\n")

    table = streets(tiny, {}, "regression")

    after = {path: path.stat().st_mtime_ns for path in (home / "cache" / "sumo").rglob("seconds.json")}
    assert len(after) == 2
    assert before.items() <= after.items()
    assert {row.group for row in table.examples} == {"here", "there"}


@simulates
def test_the_same_seed_gives_the_same_traffic_in_another_cache(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = streets(tiny, {}, "regression")
    monkeypatch.setenv("VERTICAL_HOME", str(tmp_path / "elsewhere"))

    assert streets(tiny, {}, "regression").examples == first.examples


@simulates
@pytest.mark.skipif(os.name == "nt", reason="kills a process group")
def test_a_simulation_that_was_killed_leaves_nothing_and_is_made_again(tiny: Path, home: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from vertical_sdk.domains.traffic import cities\n"
        "from vertical_sdk.domains.traffic.routes import streets\n"
        "def wait(*_):\n"
        "    print('inside', flush=True)\n"
        "    sys.stdin.read()\n"
        "cities._assign = wait\n"
        f"streets(pathlib.Path({str(tiny)!r}), {{}}, 'regression')\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "inside\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()
    process.stdout.close()
    folder = home / "cache" / "sumo" / "cities"
    assert list(folder.glob(".*.part"))
    assert not list(folder.glob("*/files"))

    table = streets(tiny, {}, "regression")

    assert table.examples
    assert not list(folder.glob(".*.part"))


@simulates
def test_two_that_want_one_city_make_it_once(tiny: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vertical_sdk.domains.traffic import cities as module

    made: list[str] = []
    real: Callable[..., None] = module._make

    def counted(city: City, *rest: object) -> None:
        made.append(city.name)
        real(city, *rest)

    monkeypatch.setattr(module, "_make", counted)
    found: list[Table] = []
    threads = [threading.Thread(target=lambda: found.append(streets(tiny, {}, "regression"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert made == ["here"]
    assert found[0].examples == found[1].examples


@simulates
def test_a_city_that_sumo_refuses_is_named(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vertical_sdk.domains.traffic import cities as module

    monkeypatch.setattr(module, "TYPES", '<types><type id="local" numLanes="1" speed="fast"/></types>')

    with pytest.raises(DataError, match=r"cities\.yaml: city here: SUMO's netgenerate failed"):
        streets(tiny, {}, "regression")


# --- roads


def diamond() -> Roads:
    """Junctions 0 to 3; from 0 to 3 over 1 (fast) or over 2 (slow), one road in and one out."""
    tail, head = np.array([4, 0, 0, 1, 2, 3]), np.array([0, 1, 2, 3, 3, 5])
    ones = np.ones(6)
    return Roads(
        names=("in", "a", "b", "c", "d", "out"),
        junctions=tuple("012345"),
        places=np.zeros((6, 2)),
        tail=tail,
        head=head,
        length=np.array([100.0, 100, 150, 100, 150, 100]),
        speed=10 * ones,
        lanes=ones,
        priority=ones,
        green=np.array([1, 1, 1, 0.5, 1, 1]),
        wait=np.zeros(6),
        signal=np.zeros(6),
        minor=np.zeros(6),
    )


def trips(count: float) -> Trips:
    return Trips(np.zeros(1), np.array([0]), np.array([5]), np.array([count]))


def test_all_or_nothing_follows_the_fastest_way_and_counts_turns() -> None:
    roads, turns = diamond(), np.zeros((6, 6))

    volume = roads.load(roads.free, trips(7), turns)

    assert volume.tolist() == [7, 7, 0, 7, 0, 7]
    assert {(int(i), int(j)): turns[i, j] for i, j in zip(*np.nonzero(turns), strict=True)} == {
        (0, 1): 7,
        (1, 3): 7,
        (3, 5): 7,
    }


def test_in_equilibrium_both_ways_take_about_as_long() -> None:
    roads = diamond()

    volume, seconds = roads.equilibrium(trips(1500), 1.0, 1.0, np.zeros(6), rounds=400)

    assert volume[1] + volume[2] == pytest.approx(1500)
    assert volume[2] > 100
    assert seconds[1] + seconds[3] == pytest.approx(seconds[2] + seconds[4], rel=0.05)


def test_drivers_with_habits_stay_on_the_free_path() -> None:
    volume, _ = diamond().equilibrium(trips(1500), 1.0, 0.2, np.zeros(6), rounds=50)

    assert volume[1] >= 0.8 * 1500


def test_neighbours_are_before_and_behind() -> None:
    roads, values = diamond(), np.arange(6.0)

    assert roads.after(values).tolist() == [1.5, 3, 4, 5, 5, 0]
    assert roads.before(values).tolist() == [0, 0, 0, 1, 2, 3.5]


# --- routes


def town(name: str, slow: float, *, peak: float = 1.0) -> list[Example]:
    """From s to t directly in 100 s free and `slow` times that in truth, or over m in 60 + 60 s, which stay free."""
    ways = (("s", "t", 100.0, slow), ("s", "m", 60.0, 1.0), ("m", "t", 60.0, 1.0))
    return [
        Example(
            id=f"{name}/{a}{b}",
            target=math.log(times),
            group=name,
            record=(("free time", free), ("city", name), ("street", a + b), ("from", a), ("to", b), ("peak", peak)),
        )
        for a, b, free, times in ways
    ]


def truth(rows: list[Example]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([row.target for row in rows], dtype=np.float64)


def test_gap_and_saving_match_values_worked_out_by_hand() -> None:
    rows = town("gap", 2.0)
    free, true = np.zeros(3), truth(rows)

    # Pairs at least 90 s apart: only s to t. Directly it takes 200 s, over m 120 s.
    assert route_gap(free, true, read_streets(rows), pairs=5, least=90) == pytest.approx(200 / 120 - 1)
    assert free_flow_saving(free, true, read_streets(rows), pairs=5, least=90) == 0
    assert route_gap(true, true, read_streets(rows), pairs=5, least=90) == 0
    assert free_flow_saving(true, true, read_streets(rows), pairs=5, least=90) == pytest.approx(1 - 120 / 200)


def test_a_city_drawn_twice_counts_twice_in_any_order_of_rows() -> None:
    one, two = town("one", 2.0), town("two", 3.0)
    rows = [*one, *one, *two]
    random.Random(0).shuffle(rows)

    found = route_gap(np.zeros(9), truth(rows), read_streets(rows), pairs=5, least=90)

    assert found == pytest.approx((2 * (200 / 120 - 1) + (300 / 120 - 1)) / 3)


def test_rows_off_the_peak_plan_nothing_and_so_have_no_gap() -> None:
    rows = town("night", 2.0, peak=0.0)

    assert math.isnan(route_gap(np.zeros(3), truth(rows), read_streets(rows)))
    assert math.isnan(free_flow_saving(np.zeros(3), truth(rows), read_streets(rows)))


def test_rows_without_their_place_cannot_be_planned() -> None:
    with pytest.raises(DataError, match="row x: its record lacks city, street"):
        read_streets([Example(id="x", record=(("free time", 3.0),))])


def test_scaled_demand_keeps_everything_but_the_demand() -> None:
    record = (("free load", 0.5), ("length", 100.0))
    row = Example(id="r", text="free load: 0.5; length: 100", target=0.3, record=(*record, ("city", "x")))

    seen = set()
    for seed in range(50):
        scaled = demand_scaling(row, random.Random(seed), p=0.8, spread=0.1)
        facts = dict(scaled.record)
        seen.add(facts["free load"])
        assert (scaled.target, facts["length"], facts["city"], scaled.id) == (0.3, 100.0, "x", "r")
        assert "city" not in scaled.text
        assert 0.3 < float(facts["free load"] or 0) < 0.8

    assert len(seen) > 30
    assert 0.5 in seen


# --- incidents


def test_incidents_are_drawn_by_seed_and_only_on_days_to_judge() -> None:
    road = Corridor(train=2, validation=1, test=5)

    drawn = [draw_incidents(road, day) for day in range(8)]

    assert drawn[:3] == [(), (), ()]
    assert all(len(each) == 1 and 600 <= each[0].seconds <= 1500 for each in drawn[3:])
    assert len({each[0].section for each in drawn[3:]}) > 1
    assert drawn == [draw_incidents(road, day) for day in range(8)]


def test_days_of_known_incidents_come_last_and_change_no_other_day() -> None:
    road, more = Corridor(train=2, validation=1, test=3), Corridor(train=2, validation=1, test=3, known=2)

    assert [more.split_of(day) for day in range(8)] == ["train"] * 2 + ["validation"] + ["test"] * 3 + ["validation"] * 2
    assert [draw_incidents(more, day) for day in range(6)] == [draw_incidents(road, day) for day in range(6)]
    assert all(draw_incidents(more, day) for day in (6, 7))


def test_a_detector_reads_its_neighbours_upstream_and_downstream() -> None:
    readings = np.arange(2 * 3 * 3, dtype=np.float32).reshape(2, 3, 3)  # 2 steps of 3 sections

    first, last = (_with_neighbours(readings, section, 1) for section in (0, 2))

    assert np.isnan(first[:, 3:6]).all()  # nothing is upstream of the first section
    assert first[1].tolist()[:3] + first[1].tolist()[6:] == [9, 10, 11, 12, 13, 14]
    assert last[0].tolist()[:6] == [6, 7, 8, 3, 4, 5]
    assert _with_neighbours(readings, 1, 2).shape == (2, 15)


@simulates
def test_a_motorway_has_quiet_days_and_days_with_incidents(tmp_path: Path) -> None:
    path = tmp_path / "road.yaml"
    path.write_text(ROAD)

    table = incidents(path, {}, "anomaly", history=5)

    rows = {split: [row for row in table.examples if row.split == split] for split in ("train", "validation", "test")}
    assert table.layout is not None
    assert table.layout.channels == ("speed", "flow", "occupancy")
    assert len(rows["train"]) == len(rows["validation"]) == 6 * 25
    assert all(dict(row.record)["anomaly"] == 0 and row.only is None for row in rows["train"])
    wrong = [row for row in rows["test"] if dict(row.record)["anomaly"] == 1]
    assert wrong
    assert all(row.only == "evaluate" for row in wrong)
    minutes = [dict(row.record)["minutes"] for row in wrong]
    assert min(float(m or 0) for m in minutes) <= 1.0
    assert isinstance(rows["train"][0].values, np.ndarray)
    assert rows["train"][0].values.shape == (5, 3)
    assert np.asarray(rows["train"][0].target).shape == (1, 3)
    assert 0 < np.nanmean([np.asarray(row.target)[0, 0] for row in rows["train"]]) < 130
    account = table.account
    assert account is not None
    assert account.rows_in == 3 * 6 * 25
    assert account.rows_in - account.rows_out == account.dropped.get("an incident elsewhere on the road", 0) > 0


def folder_of_series(tmp_path: Path, values: str = "2015-09-01 00:00:00,1\n") -> Path:
    home = tmp_path / "series"
    home.mkdir()
    lines = [f"2015-09-{1 + n // 96:02d} {n % 96 // 4:02d}:{15 * (n % 4) + n % 5:02d}:00,{n % 7}" for n in range(960)]
    (home / "one.csv").write_text("timestamp,value\n" + "\n".join(lines) + "\n")
    windows = [["2015-09-03 06:00:00.000000", "2015-09-03 08:00:00.000000"], ["2015-09-08 06:07:00", "2015-09-08 08:00:00"]]
    (home / "labels.json").write_text(json.dumps({"one.csv": {"labels": [], "windows": windows}}))
    return home


def test_marked_series_never_learn_from_an_anomaly(tmp_path: Path) -> None:
    table = marked_series(folder_of_series(tmp_path), {}, "anomaly", history=4)

    assert table.layout is not None
    assert (table.layout.channels, table.layout.seconds, table.layout.horizon) == (("value",), 900.0, 1)
    assert len(table.examples) == 960 - 4
    by_id = {row.id: row for row in table.examples}
    before, first, after, clean = (by_id[f"one/2015-09-03T{at}:00"] for at in ("05:45", "06:00", "08:45", "09:00"))
    assert [dict(row.record)["anomaly"] for row in (before, first, after, clean)] == [0, 1, 0, 0]
    assert [row.only for row in (before, first, after, clean)] == [None, "evaluate", "evaluate", None]
    assert dict(first.record)["incident"] == "one window 1"
    assert dict(first.record)["minutes"] == 15
    assert first.time == "2015-09-03T05:45:00"
    assert first.group == "one 2015-09-03"
    assert {row.split for row in table.examples if (row.time or "") < "2015-09-04"} == {"train"}
    assert dict(by_id["one/2015-09-08T06:00:00"].record)["anomaly"] == 1


def test_readings_at_uneven_times_are_put_on_a_grid(tmp_path: Path) -> None:
    home = folder_of_series(tmp_path)
    (home / "one.csv").write_text(
        "timestamp,value\n2015-09-01 00:02:00,1\n2015-09-01 00:09:00,3\n2015-09-01 00:31:00,\n2015-09-01 00:46:00,5\n2015-09-02 00:01:00,9\n"
    )

    table = marked_series(home, {}, "anomaly", history=3)

    assert [row.id for row in table.examples] == ["one/2015-09-01T00:45:00"]  # a day later no step follows it
    values = table.examples[0].values
    assert values is not None
    np.testing.assert_array_equal(values, np.array([[2], [np.nan], [np.nan]], dtype=np.float32))
    assert float(np.asarray(table.examples[0].target)[0, 0]) == 5
    assert table.account is not None
    assert table.account.dropped == {"nothing measured": 93}


def test_the_benchmarks_own_layout_is_read_too(tmp_path: Path) -> None:
    home = tmp_path / "nab"
    (home / "data" / "realTraffic").mkdir(parents=True)
    (home / "labels").mkdir()
    made = folder_of_series(tmp_path)
    (made / "one.csv").rename(home / "data" / "realTraffic" / "one.csv")
    marks = {"realTraffic/one.csv": [["2015-09-08 06:00:00.000000", "2015-09-08 08:00:00.000000"]]}
    (home / "labels" / "combined_windows.json").write_text(json.dumps(marks))

    table = marked_series(home, {}, "anomaly", history=4, folder="data/realTraffic")

    assert sum(dict(row.record)["anomaly"] == 1 for row in table.examples) == 8


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("yesterday,1", r"one\.csv:3: the timestamp 'yesterday'"),
        ("2015-09-01 00:05:00,fast", r"one\.csv:3: column 'value' contains 'fast'"),
    ],
)
def test_a_broken_line_is_refused_with_its_place(tmp_path: Path, line: str, says: str) -> None:
    home = folder_of_series(tmp_path)
    (home / "one.csv").write_text(f"timestamp,value\n2015-09-01 00:00:00,1\n{line}\n")

    with pytest.raises(DataError, match=says):
        marked_series(home, {}, "anomaly")


def test_series_without_marks_are_refused_but_may_be_predicted(tmp_path: Path) -> None:
    home = folder_of_series(tmp_path)
    (home / "labels.json").unlink()

    with pytest.raises(DataError, match=r"neither labels\.json nor combined_windows\.json"):
        marked_series(home, {}, "anomaly")
    rows = marked_series(home, {}, "anomaly", "keep", history=4).examples
    assert len(rows) == 960 - 4 + 1
    assert rows[-1].target is None


def test_marks_that_are_no_windows_are_refused(tmp_path: Path) -> None:
    home = folder_of_series(tmp_path)
    (home / "labels.json").write_text('{"one.csv": {"labels": []}}')

    with pytest.raises(DataError, match=r"labels\.json: cannot be read as windows"):
        marked_series(home, {}, "anomaly")


# --- recipes


@pytest.mark.parametrize("name", ["traffic/route-planning", "traffic/incident-detection"])
def test_a_recipe_holds_what_it_says(name: str) -> None:
    recipe = load_recipe(name)

    check_recipe(recipe)

    assert recipe.data.license
    assert get_gate(recipe) is not None


@simulates
def test_routes_are_prepared_with_whole_cities_apart(tiny: Path) -> None:
    lines = [
        f"  - {{name: c{n}, shape: grid, size: 3, load: 0.8, seed: {n}, split: {part}}}\n"
        for n, part in enumerate(("train", "train", "validation", "test"))
    ]
    tiny.write_text(TINY.partition("  - ")[0] + "".join(lines))
    recipe = load_recipe("traffic/route-planning", {"data.source": str(tiny), "data.copies": 1})

    rows = prepare(recipe)

    parts = [{row.group for row in part} for part in (rows.train, rows.validation, rows.test)]
    assert parts == [{"c0", "c1"}, {"c2"}, {"c3"}]
    assert any(row.copy_of for row in rows.train)


@simulates
def test_incidents_are_prepared_with_quiet_days_to_learn_from(tmp_path: Path) -> None:
    path = tmp_path / "road.yaml"
    path.write_text(ROAD)

    rows = prepare(load_recipe("traffic/incident-detection", {"data.source": str(path)}))

    assert all(dict(row.record)["anomaly"] == 0 for row in (*rows.train, *rows.validation))
    assert any(dict(row.record)["anomaly"] == 1 for row in rows.test)


def test_the_scenarios_that_come_along_are_whole() -> None:
    from vertical_sdk.data.settings import read_settings
    from vertical_sdk.sources import fetch

    cities = read_settings(fetch("package:traffic/scenarios/cities.yaml").path, Cities)
    corridor = read_settings(fetch("package:traffic/scenarios/corridor.yaml").path, Corridor)

    cities.check("cities")
    corridor.check("corridor")
    assert len(cities.cities) >= 24
