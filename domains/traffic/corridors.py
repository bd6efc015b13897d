"""A motorway that does not exist, on days with and without incidents: what its loop detectors count, simulated by SUMO.

Cars are simulated one by one. Each section has a loop on every lane; an on-ramp joins a third of the way along, an off-ramp leaves
at two thirds. An incident closes some lanes of one section for some minutes. Demand, its daily level, drivers and incidents are drawn
by seed.
"""

from __future__ import annotations

import random
import shutil
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from vertical_sdk.errors import DataError
from vertical_sdk.types import Split

from .sumo import Simulator, cached_result, run

__all__ = ["CHANNELS", "Corridor", "Incident", "draw_incidents", "simulate"]

Floats = NDArray[np.float32]
Count = Annotated[int, Field(ge=1)]
MAKER = 1
"""To be raised where this file comes to make other files of the same settings."""
CHANNELS = ("speed", "flow", "occupancy")
"""km/h, cars an hour over all lanes, percent of the time that a car is on a loop."""
WARM = 600
"""Seconds that are driven before the first one is measured."""
DRIVERS = """<vTypeDistribution id="drivers">
    <vType id="car" probability="0.9" sigma="0.5" speedFactor="normc(1,0.1,0.7,1.3)"/>
    <vType id="truck" vClass="truck" probability="0.1" sigma="0.5" length="12" maxSpeed="23" speedFactor="normc(1,0.05,0.8,1.1)"/>
</vTypeDistribution>"""


class Incidents(BaseModel):
    """How incidents are drawn."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    a_day: Count = Field(default=1, description="One after the other, each in its own part of the day.")
    minutes: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = Field(
        default=(10.0, 25.0), description="How long lanes are closed, at least and at most."
    )
    recovery: Annotated[float, Field(ge=0)] = Field(
        default=10.0, description="Minutes after it that belong to it at least; it lasts until its queue is gone."
    )
    reach: Annotated[int, Field(ge=0)] = Field(default=2, description="Detectors upstream that should notice it.")


class Corridor(BaseModel):
    """What a scenario of a corridor says."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    sumo: str | None = Field(default=None, description="The version of SUMO that it was made for.")
    sections: Annotated[int, Field(ge=6, le=100)] = 12
    length: Annotated[float, Field(ge=200, le=2000)] = Field(default=400.0, description="Metres of a section.")
    lanes: Annotated[int, Field(ge=2, le=5)] = 2
    begin: Annotated[int, Field(ge=0, le=23)] = Field(default=6, description="Hour of the day that it starts at.")
    seconds: Annotated[int, Field(ge=10, le=900)] = Field(default=60, description="That a detector counts for.")
    demand: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(0.45, 0.65, 0.8, 0.75, 0.55), min_length=1, description="Share of the road's capacity, each half hour."
    )
    ramp: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.15, description="Share of the cars that join or leave on the way."
    )
    train: Count = Field(default=10, description="Days without incidents to learn from.")
    validation: Count = Field(default=2, description="Days without incidents to set the alarm by.")
    test: Count = Field(default=8, description="Days with incidents to judge by.")
    known: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Days with incidents to weigh systems by; for validation."
    )
    incidents: Incidents = Incidents()
    seed: Annotated[int, Field(ge=0, lt=1 << 31)] = 0

    @property
    def steps(self) -> int:
        """Of a day."""
        return len(self.demand) * 1800 // self.seconds

    def split_of(self, day: int) -> Split:
        """The part that a day, counted from 0, belongs to. The days of known incidents come last."""
        if day < self.train:
            return "train"
        tested = 0 <= day - self.train - self.validation < self.test
        return "test" if tested else "validation"

    def check(self, where: str) -> None:
        """Raise DataError for what the schema cannot see."""
        low, high = self.incidents.minutes
        if low > high:
            raise DataError(f"{where}: incidents.minutes = [{low:g}, {high:g}]: write the lower number first.")
        room = len(self.demand) * 30 * 0.7 / self.incidents.a_day
        if high + self.incidents.recovery > room:
            raise DataError(
                f"{where}: incidents: {self.incidents.a_day} a day of up to {high:g} + {self.incidents.recovery:g} minutes do not fit: "
                f"each has {room:.0f} minutes. Take fewer, shorter ones, or a longer day in demand."
            )


@dataclass(frozen=True)
class Incident:
    """Lanes closed in one section, from `start` for `seconds` after the day's first measurement; sections count downstream from 0."""

    name: str
    section: int
    lanes: int
    start: float
    seconds: float


def draw_incidents(corridor: Corridor, day: int) -> tuple[Incident, ...]:
    """What happens on a day, counted from 0; nothing on days to learn from."""
    if day < corridor.train + corridor.validation:
        return ()
    rng = random.Random(f"{corridor.seed} incidents {day}")  # noqa: S311
    whole = len(corridor.demand) * 1800.0
    part = whole * 0.7 / corridor.incidents.a_day
    low, high = corridor.incidents.minutes
    found = []
    for number in range(corridor.incidents.a_day):
        seconds = float(round(60 * rng.uniform(low, high)))
        slack = part - seconds - 60 * corridor.incidents.recovery
        start = float(round(whole * 0.2 + number * part + rng.uniform(0, max(0.0, slack))))
        section = rng.randrange(min(corridor.incidents.reach + 1, corridor.sections - 2), corridor.sections - 1)
        found.append(
            Incident(f"day {day + 1} incident {number + 1}", section, rng.randrange(1, corridor.lanes), start, seconds)
        )
    return tuple(found)


def simulate(corridor: Corridor, day: int, sumo: Simulator) -> Floats:
    """Simulate a day, or read it from the cache: (steps, sections, channels), NaN without cars.

    Raises DataError, which names the day, where SUMO refuses it.
    """
    road = corridor.model_dump(mode="json", include={"sections", "length", "lanes", "seconds", "demand", "ramp", "seed"})
    happens = [[each.section, each.lanes, each.start, each.seconds] for each in draw_incidents(corridor, day)]
    settings = {"maker": MAKER, "sumo": sumo.version, "road": road, "day": day, "incidents": happens}
    try:
        folder = cached_result("corridors", settings, lambda target: _make_day(corridor, day, sumo, target))
    except DataError as error:
        raise DataError(f"day {day + 1}: {error}") from None
    readings: Floats = np.load(folder / "readings.npy", allow_pickle=False)
    return readings


def _make_day(corridor: Corridor, day: int, sumo: Simulator, target: Path) -> None:
    work = target.parent / "work"
    work.mkdir()
    _draw_road(corridor, sumo, work)
    (work / "traffic.rou.xml").write_text(_write_flows(corridor, day))
    (work / "loops.add.xml").write_text(_write_loops(corridor, draw_incidents(corridor, day)))
    until = WARM + corridor.steps * corridor.seconds
    files = ("-n", "road.net.xml", "-r", "traffic.rou.xml", "-a", "loops.add.xml", "--end", until)
    run(
        sumo,
        work,
        "sumo",
        *files,
        "--seed",
        corridor.seed * 1000 + day,
        "--no-step-log",
        "--no-warnings",
        "--xml-validation",
        "never",
    )
    np.save(target / "readings.npy", _parse_readings(corridor, work / "loops.xml"), allow_pickle=False)
    shutil.rmtree(work)


def _draw_road(corridor: Corridor, sumo: Simulator, work: Path) -> None:
    joins, leaves, count = _draw_ramps(corridor)
    nodes = [f'<node id="n{i}" x="{i * corridor.length}" y="0"/>' for i in range(count + 1)]
    nodes += [f'<node id="on" x="{(joins - 0.7) * corridor.length}" y="-80"/>']
    nodes += [f'<node id="off" x="{(leaves + 1.7) * corridor.length}" y="-80"/>']
    wide = {joins: corridor.lanes + 1}
    edges = [
        f'<edge id="e{i}" from="n{i}" to="n{i + 1}" priority="2" numLanes="{wide.get(i, corridor.lanes)}" speed="30.56"/>'
        for i in range(count)
    ]
    edges += [f'<edge id="on" from="on" to="n{joins}" priority="1" numLanes="1" speed="22.22"/>']
    edges += [f'<edge id="off" from="n{leaves + 1}" to="off" priority="1" numLanes="1" speed="22.22"/>']
    turns = [f'<connection from="on" to="e{joins}" fromLane="0" toLane="0"/>']
    turns += [f'<connection from="e{leaves}" to="off" fromLane="0" toLane="0"/>']
    for i in range(count - 1):
        for lane in range(corridor.lanes):
            own, to = lane + (i == joins), lane + (i + 1 == joins)
            turns.append(f'<connection from="e{i}" to="e{i + 1}" fromLane="{own}" toLane="{to}"/>')
    for name, tag, lines in (("nod", "nodes", nodes), ("edg", "edges", edges), ("con", "connections", turns)):
        (work / f"road.{name}.xml").write_text("\n".join([f"<{tag}>", *lines, f"</{tag}>", ""]))
    files = ("-n", "road.nod.xml", "-e", "road.edg.xml", "-x", "road.con.xml", "-o", "road.net.xml")
    run(sumo, work, "netconvert", *files, "--no-turnarounds", "true", "--no-warnings", "--xml-validation", "never")


def _draw_ramps(corridor: Corridor) -> tuple[int, int, int]:
    """The section that the on-ramp joins at, the one that the off-ramp leaves after, and how many there are."""
    return corridor.sections // 3, 2 * corridor.sections // 3, corridor.sections


def _write_flows(corridor: Corridor, day: int) -> str:
    """Cars by the half hour at random distances; the level of a day and of each half hour vary by some percent."""
    rng = random.Random(f"{corridor.seed} demand {day}")  # noqa: S311
    level = min(1.15, max(0.85, rng.gauss(1, 0.05)))
    last = f"e{corridor.sections - 1}"
    lines = ["<routes>", DRIVERS]
    for half, share in enumerate(corridor.demand):
        cars = 1900 * corridor.lanes * share * level * min(1.1, max(0.9, rng.gauss(1, 0.03)))
        begin = WARM + half * 1800 if half else 0
        ways = (("e0", last, 1 - 2 * corridor.ramp), ("on", last, corridor.ramp), ("e0", "off", corridor.ramp))
        for number, (start, end, part) in enumerate(ways):
            lines.append(
                f'<flow id="f{half}.{number}" type="drivers" begin="{begin}" end="{WARM + (half + 1) * 1800}" from="{start}" to="{end}" '
                f'period="exp({cars * part / 3600:.5f})" departLane="best" departSpeed="avg"/>'
            )
    return "\n".join([*lines, "</routes>", ""])


def _write_loops(corridor: Corridor, happens: tuple[Incident, ...]) -> str:
    joins = _draw_ramps(corridor)[0]
    lines = ["<additional>"]
    for i in range(corridor.sections):
        loop = f'pos="{corridor.length / 2}" period="{corridor.seconds}" file="loops.xml"'
        own = range(corridor.lanes + (i == joins))
        lines += [f'<inductionLoop id="{i}.{lane}" lane="e{i}_{lane}" {loop}/>' for lane in own]
    for number, each in enumerate(happens):
        begin = WARM + each.start
        top = corridor.lanes + (each.section == joins)
        shut = range(top - each.lanes, top)  # from the left, so that no car is cut off from a ramp
        closed = "".join(f'<closingLaneReroute id="e{each.section}_{lane}" disallow="all"/>' for lane in shut)
        interval = f'<interval begin="{begin}" end="{begin + each.seconds}">{closed}</interval>'
        lines.append(
            f'<rerouter id="incident{number}" edges="e{max(0, each.section - 2)} e{each.section}">{interval}</rerouter>'
        )
    return "\n".join([*lines, "</additional>", ""])


def _parse_readings(corridor: Corridor, path: Path) -> Floats:
    """Lanes of a section together: mean speed of the cars, cars an hour, mean occupancy."""
    cars = np.zeros((corridor.steps, corridor.sections))
    speeds, share, lanes = np.zeros_like(cars), np.zeros_like(cars), np.zeros_like(cars)
    for interval in ET.parse(path).getroot().iter("interval"):  # noqa: S314  (SUMO's own)
        step = round((float(interval.get("begin", 0)) - WARM) / corridor.seconds)
        section = int(str(interval.get("id")).partition(".")[0])
        if not 0 <= step < corridor.steps:
            continue
        count = float(interval.get("nVehContrib", 0))
        cars[step, section] += count
        speeds[step, section] += max(0.0, float(interval.get("speed", 0))) * 3.6 * count
        share[step, section] += float(interval.get("occupancy", 0))
        lanes[step, section] += 1
    if not lanes.all():
        raise DataError("SUMO's detectors did not report every step.")
    speed = np.divide(speeds, cars, out=np.full_like(cars, np.nan), where=cars > 0)
    return np.stack([speed, cars * 3600 / corridor.seconds, share / lanes], axis=2).astype(np.float32)
