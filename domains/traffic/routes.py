"""How long each street takes when a city is full, and which way to go: rows of streets, and the metrics of the routes planned by them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from vertical_sdk.catalog import NotNegative, Share, augmentations, metrics, readers
from vertical_sdk.data.account import Tally
from vertical_sdk.data.augment import replace_record
from vertical_sdk.data.read import Missing, Table
from vertical_sdk.data.records import format_record
from vertical_sdk.data.settings import read_settings
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.metrics.measure import UNDEFINED
from vertical_sdk.types import Cell, Example, TaskName

from .cities import Cities, City, Morning, simulate
from .sumo import find_simulator, run_in_parallel

__all__ = ["demand_scaling", "free_flow_saving", "plan_routes", "read_streets", "route_gap", "streets"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Count = Annotated[int, Field(ge=1)]
FACTS = ("city", "street", "from", "to", "peak")
"""Fields that are not in the text: the row's place, and whether routes are planned for its interval."""
DEMAND = (
    "free volume",
    "free load",
    "balanced load",
    "queue before",
    "full",
    "load behind",
    "load ahead",
    "full ahead",
    "full beyond",
    "load across",
)
"""Fields that grow with the number of trips."""


@readers.register("traffic.streets", tasks=("regression",), extra="traffic-sim")
def streets(path: Path, columns: Mapping[str, str], task: TaskName, missing: Missing = "drop") -> Table:
    """Every street of simulated cities in every interval of the day, and the logarithm of how much longer than free it takes.

    path  a scenario in YAML: `cities`, and what holds for all of them (see `domains/traffic/scenarios`)

    A row is a record of the street (length, lanes, speed limit, signal), of its place in the network, and of the demand: how much of
    it would come along if all drove the fastest free path, and in a static user equilibrium. The target is log(time / free time)
    after SUMO's dynamic assignment; the group is the city. Each city is simulated once and kept in the cache.

    Raises DataError for a scenario that is wrong, MissingExtra without SUMO.
    """
    del missing  # every row has its target
    if columns:
        raise RecipeError("traffic.streets: a scenario has no columns; leave data.columns out.")
    readers.require("traffic.streets", task, "data.reader")
    scenario = read_settings(path, Cities)
    scenario.check(str(path))
    sumo = find_simulator(scenario.sumo, str(path))

    def simulate_city(city: City) -> Morning:
        try:
            return simulate(city, scenario, sumo)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None

    mornings = run_in_parallel(simulate_city, list(scenario.cities))
    examples = tuple(
        row for city, morning in zip(scenario.cities, mornings, strict=True) for row in _build_rows(city, scenario, morning)
    )
    summary = f"SUMO {sumo.version}: {len(mornings)} cities, {sum(len(m.trips) for m in mornings)} trips, {len(examples)} rows"
    return Table(examples, summary, account=Tally("read").close(len(examples), len(examples)))


def _build_rows(city: City, cities: Cities, morning: Morning) -> Iterator[Example]:
    roads, step = morning.roads, cities.minutes * 60
    fixed = {
        "length": roads.length,
        "limit": roads.speed * 3.6,
        "free time": roads.free,
        "priority": roads.priority,
        "green": roads.green,
        "wait": roads.wait,
        "ways in": np.bincount(roads.head, minlength=len(roads.junctions))[roads.tail].astype(np.float64),
        "ways out": np.bincount(roads.tail, minlength=len(roads.junctions))[roads.head].astype(np.float64),
        "centrality": roads.centrality,
    }
    past = np.zeros(len(roads.names))
    for number in range(len(cities.profile)):
        trips = morning.trips.departing(number * step, (number + 1) * step)
        demand = _compute_demand(roads, trips, step / 3600, cities.informed, past)
        past = np.maximum(0.0, past + demand["balanced load"] - 1)
        ratio = np.log(morning.seconds[number] / roads.free)
        whole = {
            "interval": np.full(len(roads.names), number + 1.0),
            "load": np.full(len(roads.names), city.load),
            **demand,
            **fixed,
        }
        names, table = list(whole), np.stack(list(whole.values()), axis=1)
        for i, street in enumerate(roads.names):
            in_text = tuple(zip(names, map(float, table[i]), strict=True))
            ends = (roads.junctions[roads.tail[i]], roads.junctions[roads.head[i]])
            facts: tuple[Cell, ...] = (city.name, street, *ends, float(number + 1 == cities.peak))
            yield Example(
                id=f"{city.name}/{number + 1}/{street}",
                text=format_record(in_text),
                target=float(ratio[i]),
                group=city.name,
                split=city.split,
                record=(*in_text, *zip(FACTS, facts, strict=True)),
            )


def _compute_demand(roads: Any, trips: Any, hours: float, informed: float, past: Floats) -> dict[str, Floats]:
    """Compute each road's demand without simulation: volumes over capacity on it, upstream and downstream."""
    turns = np.zeros((len(roads.names), len(roads.names)))
    free = roads.load(roads.free, trips, turns) / hours
    balanced, seconds = roads.equilibrium(trips, hours, informed, past * hours * 3600)
    alone, shared = free / roads.capacity, balanced / roads.capacity
    share = turns / np.maximum(1e-9, turns.sum(axis=1, keepdims=True))
    full = np.maximum(0.0, past + shared - 1) * roads.capacity * hours / roads.room
    return {
        "free volume": free,
        "free load": alone,
        "balanced load": shared,
        "balanced delay": np.log(seconds / roads.free),
        "queue before": past,
        "full": full,
        "load behind": roads.before(shared),
        "load ahead": share @ shared,
        "full ahead": share @ full,
        "full beyond": share @ (share @ full),
        "capacity ahead": share @ roads.capacity,
        "delay ahead": share @ np.log(seconds / roads.free),
        "load across": roads.after(shared),
    }


@augmentations.register("traffic.demand_scaling")
def demand_scaling(example: Example, rng: random.Random, *, p: Share = 0.5, spread: NotNegative = 0.05) -> Example:
    """With probability p, multiply all that grows with demand by one number near 1, as counts of trips are never exact. The target stays.

    spread  standard deviation of the number's logarithm
    """
    if rng.random() >= p:
        return example
    factor = float(np.exp(rng.gauss(0, spread)))
    return replace_record(
        example,
        [(name, value * factor if name in DEMAND and isinstance(value, float) else value) for name, value in example.record],
    )


STREET_BITS = 24
Costs = tuple[Floats, Floats, Floats]


@dataclass(frozen=True)
class _Street:
    tail: str
    head: str
    free: float


@dataclass(frozen=True, eq=False)
class StreetFacts:
    """What the metrics of routes read from rows.

    codes  (rows,) the number of a row's city above the 24 bits of its street's number; -1 outside the peak
    costs  seconds of the routes in one city, see `_costs`; it remembers results, because resamples of whole cities repeat them
    """

    codes: Ints
    costs: Callable[[int, tuple[int, ...], bytes, bytes, int, float], Costs | None]

    def __getitem__(self, positions: Ints) -> StreetFacts:
        return StreetFacts(self.codes[positions], self.costs)


def read_streets(rows: Sequence[Example]) -> StreetFacts:
    """Number the streets of the rows of `traffic.streets`.

    Raises DataError if a record lacks a field.
    """
    cities: dict[str, int] = {}
    streets: list[dict[_Street, int]] = []
    codes = []
    for row in rows:
        record = dict(row.record)
        lacks = [name for name in (*FACTS, "free time") if record.get(name) is None]
        if lacks:
            raise DataError(
                f"row {row.id}: its record lacks {', '.join(lacks)}, which planning routes needs; see traffic.streets."
            )
        if not record["peak"]:
            codes.append(-1)
            continue
        city = cities.setdefault(str(record["city"]), len(cities))
        if city == len(streets):
            streets.append({})
        street = _Street(str(record["from"]), str(record["to"]), float(record["free time"] or 0))
        codes.append(city << STREET_BITS | streets[city].setdefault(street, len(streets[city])))
    known = [tuple(numbers) for numbers in streets]
    return StreetFacts(np.array(codes, dtype=np.int64), lru_cache(maxsize=4096)(partial(_compute_costs, known)))


@metrics.register("traffic.route_gap", tasks=("regression",), higher_is_better=False, prepare=read_streets)
def route_gap(predictions: Floats, references: Floats, facts: StreetFacts, *, pairs: Count = 60, least: float = 60.0) -> float:
    """How much longer the planned routes take than the best ones: the mean of cost / least cost - 1 over pairs of junctions.

    Routes are the shortest paths (networkx) by the predicted times of the peak's interval; what they cost, and what the best route
    costs, is by the times of SUMO's dynamic assignment in that interval.

    pairs  drawn for each city by seed, the same for every system, whose fastest free path takes at least `least` seconds

    A bootstrap should draw whole cities (`evaluate.resample: groups`): one drawn twice counts twice. If single rows are drawn,
    streets are missing from the map. Undefined without rows of a peak.
    """
    results = plan_routes(predictions, references, facts, pairs, least)
    return _weighted_mean([(float((own / best - 1).mean()), weight) for (own, best, _), weight in results])


@metrics.register("traffic.free_flow_saving", tasks=("regression",), prepare=read_streets)
def free_flow_saving(
    predictions: Floats, references: Floats, facts: StreetFacts, *, pairs: Count = 60, least: float = 60.0
) -> float:
    """How much shorter the planned routes are than those that free-flow times give: the mean of 1 - cost / cost of the free path.

    Costs, pairs and resamples are those of `traffic.route_gap`.
    """
    results = plan_routes(predictions, references, facts, pairs, least)
    return _weighted_mean([(float((1 - own / free).mean()), weight) for (own, _, free), weight in results])


def plan_routes(
    predictions: Floats, references: Floats, facts: StreetFacts, pairs: int, least: float
) -> list[tuple[Costs, float]]:
    """For each city that has rows of its peak: what the pairs' planned, best and free routes cost (pairs,), and its weight.

    The weight is how often its rows appear.
    """
    at = np.flatnonzero(facts.codes >= 0)
    unique, first, times = np.unique(facts.codes[at], return_index=True, return_counts=True)
    cities = unique >> STREET_BITS
    results = []
    for city in np.unique(cities):
        own = cities == city
        places = at[first[own]]
        predicted = np.ascontiguousarray(predictions[places], dtype=np.float64)
        true = np.ascontiguousarray(references[places], dtype=np.float64)
        whole = tuple((unique[own] & ((1 << STREET_BITS) - 1)).tolist())
        costs = facts.costs(int(city), whole, predicted.tobytes(), true.tobytes(), pairs, least)
        if costs is not None:
            results.append((costs, float(times[own].mean())))
    return results


def _compute_costs(
    cities: Sequence[Sequence[_Street]], city: int, streets: tuple[int, ...], said: bytes, true: bytes, pairs: int, least: float
) -> Costs | None:
    """Seconds of the planned, the best and the free route of each pair; None if no pair is far enough apart."""
    import networkx as nx

    known = [cities[city][street] for street in streets]
    graph = nx.DiGraph()
    times = zip(np.frombuffer(said), np.frombuffer(true), strict=True)
    for street, (log_said, log_true) in zip(known, times, strict=True):
        seconds = {
            "free": street.free,
            "said": street.free * float(np.exp(log_said)),
            "true": street.free * float(np.exp(log_true)),
        }
        if seconds["free"] < graph.get_edge_data(street.tail, street.head, {"free": np.inf})["free"]:
            graph.add_edge(street.tail, street.head, **seconds)
    rng = random.Random(0)  # noqa: S311
    wanted: list[tuple[str, str]] = []
    junctions = sorted(graph)
    far: dict[str, list[str]] = {}
    for _ in range(20 * pairs):
        if len(wanted) == pairs:
            break
        start = rng.choice(junctions)
        if start not in far:
            reach = nx.single_source_dijkstra_path_length(graph, start, weight="free")
            far[start] = sorted(end for end, seconds in reach.items() if seconds >= least)
        if far[start]:
            wanted.append((start, rng.choice(far[start])))
    if not wanted:
        return None
    costs: dict[str, list[float]] = {"said": [], "true": [], "free": []}
    for by, each in costs.items():
        ways = {start: nx.single_source_dijkstra_path(graph, start, weight=by) for start in {pair[0] for pair in wanted}}
        for start, end in wanted:
            way = ways[start][end]
            each.append(sum(graph[a][b]["true"] for a, b in pairwise(way)))
    return np.array(costs["said"]), np.array(costs["true"]), np.array(costs["free"])


def _weighted_mean(pairs: Sequence[tuple[float, float]]) -> float:
    values, weights = [value for value, _ in pairs], [weight for _, weight in pairs]
    return float(np.average(values, weights=weights)) if pairs else UNDEFINED
