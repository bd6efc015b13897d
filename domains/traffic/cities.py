"""Cities that do not exist: a network of streets, a morning's demand, and what SUMO says the drive takes once drivers have adapted.

netgenerate draws the streets, randomTrips.py the trips, and duaIterate.py, SUMO's dynamic user assignment (Gawron, 1998), lets drivers
try routes, drive and choose again. Not every driver knows how the traffic is: a share of them has habits and drives the fastest
free path whatever happens, the others are assigned (a mixed equilibrium; Harker, 1988). What is simulated is mesoscopic: cars are
single, their movement within a road is not, and signals act by their waits and their capacity.
"""

from __future__ import annotations

import json
import random
import shutil
import xml.etree.ElementTree as ET
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from vertical_sdk.errors import DataError

from .roads import Roads, Trips, read_roads, read_trips
from .sumo import Simulator, cached_result, run

__all__ = ["Cities", "City", "Morning", "simulate"]

Floats = NDArray[np.float64]
MAKER = 1
"""To be raised where this file comes to make other files of the same settings."""
TYPES = """<types>
    <type id="arterial" priority="3" numLanes="1" speed="16.67"/>
    <type id="street" priority="2" numLanes="1" speed="13.89"/>
    <type id="local" priority="1" numLanes="1" speed="8.33"/>
</types>
"""
PROBE = 40.0
"""Trips a lane-kilometre and hour by which the demand of a city is first measured."""
BUSIEST = 0.05
"""Share of the roads that `load` speaks of."""
KEPT = 3
"""The last rounds of the assignment, over which travel times are averaged."""
STANDING = 20.0
"""The longest time of a road, in units of its free time: in SUMO, cars that do not move never arrive."""
TELEPORT = 120
"""Seconds after which SUMO moves a car that is stuck, so that no city locks up for good."""


class City(BaseModel):
    """One city on one morning."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(pattern="^[a-z0-9][a-z0-9-]*$", description="Small letters, digits and dashes; each city has its own.")
    shape: Literal["grid", "random"] = Field(description="Streets at right angles, or drawn at random.")
    size: Annotated[int, Field(ge=3, le=400)] = Field(description="grid: junctions a side; random: attempts to add a street.")
    load: Annotated[float, Field(gt=0, le=5)] = Field(
        description="Volume over capacity of the busiest twentieth of the streets at the peak, if all took the fastest free path."
    )
    seed: Annotated[int, Field(ge=0, lt=1 << 31)]
    split: Literal["train", "validation", "test"] | None = Field(
        default=None, description="The part that it belongs to, if data.split is given."
    )


class Cities(BaseModel):
    """What a scenario of cities says."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    sumo: str | None = Field(default=None, description="The version of SUMO that it was made for.")
    minutes: Annotated[int, Field(ge=1, le=120)] = Field(default=15, description="Of an interval.")
    profile: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(0.4, 1.0, 1.0, 0.4), min_length=1, description="Demand of each interval, compared with the busiest."
    )
    peak: Annotated[int, Field(ge=1)] = Field(default=3, description="The interval that routes are planned for, from 1.")
    rounds: Annotated[int, Field(ge=1, le=100)] = Field(default=6, description="Of the dynamic assignment.")
    informed: Annotated[float, Field(gt=0, le=1)] = Field(default=0.25, description="Share of drivers who adapt.")
    centres: Annotated[int, Field(ge=1)] = Field(default=2, description="Places that most drivers go to.")
    cities: tuple[City, ...] = Field(min_length=1)

    def check(self, where: str) -> None:
        """Raise DataError for what the schema cannot see."""
        names = [city.name for city in self.cities]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DataError(f"{where}: cities: {', '.join(twice)} appears twice. Give each city a name of its own.")
        if self.peak > len(self.profile):
            raise DataError(f"{where}: peak = {self.peak}: the profile has only {len(self.profile)} intervals.")


@dataclass(frozen=True, eq=False)
class Morning:
    """A simulated city: its roads and trips, and seconds of each road in each interval, (intervals, roads)."""

    roads: Roads
    trips: Trips
    seconds: Floats


def simulate(city: City, cities: Cities, sumo: Simulator) -> Morning:
    """Simulate a city's morning, or read it from the cache.

    Raises DataError, which names the city, where SUMO refuses it.
    """
    general = cities.model_dump(mode="json", exclude={"cities", "sumo", "peak"})
    settings = {
        "maker": MAKER,
        "sumo": sumo.version,
        "cities": general,
        "city": city.model_dump(mode="json", exclude={"name", "split"}),
    }
    try:
        folder = cached_result("cities", settings, lambda target: _make_city(city, cities, sumo, target))
    except DataError as error:
        raise DataError(f"city {city.name}: {error}") from None
    roads = read_roads(folder / "streets.net.xml")
    return Morning(roads, read_trips(folder / "trips.xml", roads), np.array(json.loads((folder / "seconds.json").read_text())))


def _make_city(city: City, cities: Cities, sumo: Simulator, target: Path) -> None:
    work = target.parent / "work"
    work.mkdir()
    _draw_streets(city, sumo, work)
    roads = read_roads(work / "streets.net.xml")
    _draw_aims(city, cities, roads, work)
    probe = PROBE * float((roads.length * roads.lanes).sum()) / 1000
    _draw_trips(city, cities, sumo, work, probe)
    rate = probe * city.load / _measure_load(cities, roads, read_trips(work / "trips.xml", roads))
    _draw_trips(city, cities, sumo, work, rate)
    _assign(city, cities, sumo, work)
    seconds = _mean_seconds(work, cities, roads)
    for name in ("streets.net.xml", "trips.xml"):
        shutil.copyfile(work / name, target / name)
    (target / "seconds.json").write_text(json.dumps(np.round(seconds, 3).tolist()))
    shutil.rmtree(work)


def _draw_streets(city: City, sumo: Simulator, work: Path) -> None:
    """Streets of three kinds, drawn road by road, with a signal at every junction that gives each approach its turn."""
    (work / "types.xml").write_text(TYPES)
    shape: tuple[object, ...] = ("--grid", "--grid.number", city.size, "--grid.length", 400, "--grid.attach-length", 150)
    if city.shape == "random":
        between = ("--rand.min-distance", 300, "--rand.max-distance", 500)
        shape = ("--rand", "--rand.iterations", city.size, *between, "--bidi-probability", 1)
    signals = ("--default.junctions.type", "traffic_light", "--tls.layout", "incoming", "--tls.left-green.time", 0)
    drawn = ("--random-type", "--type-files", "types.xml", "--seed", city.seed)
    last = ("--no-turnarounds.except-deadend", "true", "--junctions.corner-detail", 0, "--output-file", "streets.net.xml")
    run(sumo, work, "netgenerate", *shape, *signals, *drawn, *last)


def _draw_aims(city: City, cities: Cities, roads: Roads, work: Path) -> None:
    """Where trips begin and end: anywhere by length and lanes, and at one of some centres drawn from the middle of the city."""
    rng = random.Random(f"{city.seed} aims")  # noqa: S311
    low, high = roads.places.min(axis=0), roads.places.max(axis=0)
    centres = np.array(
        [[a + (b - a) * rng.uniform(0.3, 0.7) for a, b in zip(low, high, strict=True)] for _ in range(cities.centres)]
    )
    middle = (roads.places[roads.tail] + roads.places[roads.head]) / 2
    near = np.exp(-(((middle[:, None] - centres[None]) / 500.0) ** 2).sum(axis=2)).sum(axis=1)
    size = roads.length * roads.lanes / 100
    for name, values in (("src", size), ("dst", size * (0.05 + near))):
        lines = [f'<edge id="{road}" value="{value:.5f}"/>' for road, value in zip(roads.names, values, strict=True)]
        interval = '<interval id="all" begin="0" end="1000000">'
        (work / f"aims.{name}.xml").write_text("\n".join(["<edgedata>", interval, *lines, "</interval>", "</edgedata>", ""]))


def _draw_trips(city: City, cities: Cities, sumo: Simulator, work: Path, rate: float) -> None:
    """Trips, of which `rate` an hour depart in the busiest interval; only those that have a way."""
    top = max(cities.profile)
    rates = [max(1.0, rate * share / top) for share in cities.profile]
    until = len(cities.profile) * cities.minutes * 60
    times = ("-b", 0, "-e", until, "--insertion-rate", *(f"{each:.3f}" for each in rates))
    aims = ("--weights-prefix", "aims", "--fringe-factor", 3, "--min-distance", 500)
    files = ("-n", "streets.net.xml", "-o", "trips.xml", "-r", "routes.rou.xml")
    run(sumo, work, "tools/randomTrips.py", *files, *times, *aims, "--seed", city.seed, "--validate")


def _measure_load(cities: Cities, roads: Roads, trips: Trips) -> float:
    """Volume over capacity of the busiest roads at the peak, all on their fastest free paths.

    Raises DataError where hardly anybody drives.
    """
    peak = cities.profile.index(max(cities.profile))
    step = cities.minutes * 60
    volume = roads.load(roads.free, trips.departing(peak * step, (peak + 1) * step)) * 60 / cities.minutes
    ratio = np.sort(volume / roads.capacity)[-max(1, round(BUSIEST * len(roads.names))) :].mean()
    if ratio <= 0:
        raise DataError("no trips were found in it; take a larger size, so that trips of 500 m fit in.")
    return float(ratio)


def _assign(city: City, cities: Cities, sumo: Simulator, work: Path) -> None:
    """Route those with habits once and for all, the others again and again, and drive."""
    rng = random.Random(f"{city.seed} informed")  # noqa: S311
    adapt, keep = ET.Element("routes"), ET.Element("routes")
    for trip in ET.parse(work / "trips.xml").getroot().iter("trip"):  # noqa: S314  (SUMO's own)
        (adapt if rng.random() < cities.informed else keep).append(trip)
    if not len(adapt):
        raise DataError("none of its drivers adapts; raise load, informed or size.")
    ET.ElementTree(adapt).write(work / "adapt.trips.xml")
    ET.ElementTree(keep).write(work / "keep.trips.xml")
    habits: tuple[str, ...] = ()
    if len(keep):
        way = ("-n", "streets.net.xml", "-r", "keep.trips.xml", "-o", "keep.rou.xml")
        run(sumo, work, "duarouter", *way, "--ignore-errors", "--no-step-log", "--no-warnings", "--seed", city.seed)
        habits = ("--additional", "../keep.rou.xml")
    (work / "rounds").mkdir()
    step = cities.minutes * 60
    until = (len(cities.profile) + 2) * step
    files = ("-n", "../streets.net.xml", "-t", "../adapt.trips.xml", *habits, "-p", str(sumo.home / "bin"))
    ways = ("-l", cities.rounds, "-a", step, "-e", until, "--time-to-teleport", TELEPORT, "--mesosim", "--meso-tls-penalty", 1)
    quiet = ("--no-gzip", "-x", "None", "--disable-tripinfos", "--disable-summary")
    passed = ("sumo--meso-tls-flow-penalty", 1, "sumo--seed", city.seed, "duarouter--seed", city.seed)
    run(sumo, work / "rounds", "tools/assign/duaIterate.py", *files, *ways, *quiet, *passed)


def _mean_seconds(work: Path, cities: Cities, roads: Roads) -> Floats:
    """(intervals, roads) averaged over the last rounds; from its free time, for a road without cars, to STANDING times that."""
    step = cities.minutes * 60
    found: dict[tuple[int, int], list[float]] = defaultdict(list)
    for number in range(max(0, cities.rounds - KEPT), cities.rounds):
        path = work / "rounds" / f"{number:03d}" / f"dump_{step}.xml"
        path = path if path.is_file() else path.with_name(f"dump_{step}.0.xml")
        if not path.is_file():
            raise DataError(f"SUMO's dynamic assignment left no travel times of round {number}.")
        for interval in ET.parse(path).getroot().iter("interval"):  # noqa: S314  (SUMO's own)
            at = int(float(interval.get("begin", 0)) // step)
            for edge in interval.iter("edge"):
                road = roads.index.get(str(edge.get("id")))
                if road is not None and edge.get("traveltime") and at < len(cities.profile):
                    found[at, road].append(float(edge.get("traveltime", 0)))
    seconds = np.tile(roads.free, (len(cities.profile), 1))
    for (at, road), times in found.items():
        most = STANDING * roads.free[road]
        seconds[at, road] = float(np.mean(np.clip(times, roads.free[road], most)))
    return seconds
