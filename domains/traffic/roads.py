"""A network of roads as arrays: what SUMO's network file says, shortest paths, and how demand would load it without a simulation."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.errors import DataError

__all__ = ["Roads", "Trips", "read_roads", "read_trips"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
HEADWAY = 2.0
"""Seconds between two cars of a lane that leave a queue at green, as measured in SUMO."""
MINOR = 0.5
"""Share of its capacity that a road keeps if it must give way."""
DELAY = 0.4
"""Of Akçelik's travel time function: how much waiting chance makes."""
RED = 0.5
"""Of the mean wait for green of a car that comes at any time."""


@dataclass(frozen=True, eq=False)
class Roads:
    """Directed roads between junctions; every array has one entry a road, in the order of `names`.

    tail, head      junctions, as positions in `junctions`
    length, speed   metres, metres a second
    lanes, priority as SUMO has them
    green           share of the signal's cycle in which it may go; 1 without a signal
    wait            seconds of waiting for green that a car has on average
    signal, minor   1 for a signal at its end; share of its turns that give way
    """

    names: tuple[str, ...]
    junctions: tuple[str, ...]
    places: Floats
    tail: Ints
    head: Ints
    length: Floats
    speed: Floats
    lanes: Floats
    priority: Floats
    green: Floats
    wait: Floats
    signal: Floats
    minor: Floats

    @property
    def free(self) -> Floats:
        """Seconds at the speed limit."""
        return np.asarray(self.length / self.speed)

    @property
    def capacity(self) -> Floats:
        """Cars an hour, by lanes, green time and right of way."""
        return np.asarray(self.lanes * 3600 / HEADWAY * self.green * (1 - (1 - MINOR) * self.minor))

    @property
    def room(self) -> Floats:
        """The number of cars that fit on it, at 7.5 metres each."""
        return np.asarray(self.length * self.lanes / 7.5)

    @cached_property
    def index(self) -> dict[str, int]:
        """Road → its position."""
        return {name: i for i, name in enumerate(self.names)}

    @cached_property
    def between(self) -> Ints:
        """(junctions, junctions) the road from one to the other; -1 without one."""
        table = np.full((len(self.junctions), len(self.junctions)), -1, dtype=np.int64)
        table[self.tail, self.head] = np.arange(len(self.names))
        return table

    @cached_property
    def centrality(self) -> Floats:
        """Share of all pairs of junctions whose fastest free path uses the road (Brandes, 2008, by networkx)."""
        import networkx as nx

        graph = nx.DiGraph()
        graph.add_nodes_from(range(len(self.junctions)))
        graph.add_weighted_edges_from(zip(self.tail.tolist(), self.head.tolist(), self.free.tolist(), strict=True))
        found = nx.edge_betweenness_centrality(graph, weight="weight")
        return np.array([found[pair] for pair in zip(self.tail.tolist(), self.head.tolist(), strict=True)])

    def load(self, cost: Floats, trips: Trips, turns: Floats | None = None) -> Floats:
        """How many trips use each road when all take the path of least cost (all-or-nothing assignment).

        turns  (roads, roads), to which the trips that go from one road to another are added
        """
        from scipy.sparse import csr_matrix
        from scipy.sparse.csgraph import dijkstra

        size = len(self.junctions)
        graph = csr_matrix((cost, (self.tail, self.head)), shape=(size, size))
        volume = np.zeros(len(self.names))
        np.add.at(volume, trips.start, trips.count)
        np.add.at(volume, trips.end, np.where(trips.start == trips.end, 0.0, trips.count))
        starts = np.unique(self.head[trips.start])
        if not len(starts):
            return volume
        distance, before = dijkstra(graph, indices=starts, return_predecessors=True)
        for row, origin in enumerate(starts.tolist()):
            own = (self.head[trips.start] == origin) & np.isfinite(distance[row])[self.tail[trips.end]]
            flow = np.zeros(size)
            np.add.at(flow, self.tail[trips.end[own]], trips.count[own])
            order = np.argsort(-np.where(np.isfinite(distance[row]), distance[row], -1.0)).tolist()
            onwards = []
            for junction in order:
                if flow[junction] > 0 and junction != origin:
                    previous = int(before[row, junction])
                    road = int(self.between[previous, junction])
                    volume[road] += flow[junction]
                    flow[previous] += flow[junction]
                    if previous != origin:
                        onwards.append((int(self.between[before[row, previous], previous]), road, flow[junction]))
            if turns is not None:
                self._turn(turns, trips, own, onwards, before[row], origin)
        return volume

    def _turn(self, turns: Floats, trips: Trips, own: Any, onwards: list[Any], before: Any, origin: int) -> None:
        """Add the turns of the trips from one junction: between roads of the tree, and from and to each trip's own two roads."""
        for road, following, count in onwards:
            turns[road, following] += count
        for start, end, count in zip(
            trips.start[own].tolist(), trips.end[own].tolist(), trips.count[own].tolist(), strict=True
        ):
            at = int(self.tail[end])
            if at == origin:
                turns[start, end] += count
                continue
            turns[int(self.between[before[at], at]), end] += count
            while before[at] != origin:
                at = int(before[at])
            turns[start, int(self.between[origin, at])] += count

    def equilibrium(
        self, trips: Trips, hours: float, informed: float, waiting: Floats, rounds: int = 12
    ) -> tuple[Floats, Floats]:
        """Cars an hour and seconds of each road in a static user equilibrium, by successive averages.

        informed  share of trips that look for the path of least time; the others drive the fastest free path
        waiting   seconds that the queue of the hours before still costs, (roads,)

        A road takes free + wait + waiting + 900 T ((x - 1) + sqrt((x - 1)^2 + 8 J x / (c T))) seconds, where x is volume over capacity
        c and T are the hours (Akçelik, Travel time functions for transport planning purposes, 1991). No queue reaches back into
        other roads: how long roads really take is for a simulation to say.
        """
        capacity, base = self.capacity, self.free + self.wait + waiting

        def seconds(volume: Floats) -> Floats:
            ratio = volume / capacity
            over = ratio - 1
            return np.asarray(base + 900 * hours * (over + np.sqrt(over**2 + 8 * DELAY * ratio / (capacity * hours))))

        habitual = self.load(self.free, trips) / hours
        free = self.load(base, trips) / hours
        for turn in range(1, rounds):
            volume = (1 - informed) * habitual + informed * free
            free = free + (self.load(seconds(volume), trips) / hours - free) / (turn + 1)
        volume = (1 - informed) * habitual + informed * free
        return volume, seconds(volume)

    def after(self, values: Floats) -> Floats:
        """For each road the mean of what the roads that it leads to have; 0 at a dead end."""
        follows = self._follows
        return np.asarray((follows @ values) / np.maximum(1, follows.sum(axis=1)))

    def before(self, values: Floats) -> Floats:
        """For each road the mean of the values of the roads that lead to it; 0 without such roads."""
        follows = self._follows
        return np.asarray((follows.T @ values) / np.maximum(1, follows.sum(axis=0)))

    @cached_property
    def _follows(self) -> Floats:
        """(roads, roads) 1 where the second begins at the end of the first and does not go straight back."""
        meets = self.head[:, None] == self.tail[None, :]
        back = self.tail[:, None] == self.head[None, :]
        return np.asarray(meets & ~back, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Trips:
    """Trips by their first and last road, as positions in `Roads.names`: seconds of departure, and the number of trips that each represents."""

    depart: Floats
    start: Ints
    end: Ints
    count: Floats

    def __len__(self) -> int:
        return len(self.depart)

    def departing(self, begin: float, end: float) -> Trips:
        """Those that depart from `begin` until before `end`, equal ones as one."""
        own = (self.depart >= begin) & (self.depart < end)
        pairs, at = np.unique(np.stack([self.start[own], self.end[own]], axis=1), axis=0, return_inverse=True)
        count = np.zeros(len(pairs))
        np.add.at(count, at.ravel(), self.count[own])
        return Trips(np.full(len(pairs), begin), pairs[:, 0], pairs[:, 1], count)


def read_roads(path: Path) -> Roads:
    """A network as netgenerate and netconvert write it.

    Raises DataError for an invalid file.
    """
    root = _root(path)
    edges = sorted((e for e in root.iter("edge") if e.get("function") is None), key=lambda e: str(e.get("id")))
    places = {str(j.get("id")): (float(j.get("x", 0)), float(j.get("y", 0))) for j in root.iter("junction")}
    if not edges:
        raise DataError(f"{path}: holds no roads; a SUMO network (.net.xml) is needed.")
    names = tuple(str(e.get("id")) for e in edges)
    ends = [(str(e.get("from")), str(e.get("to"))) for e in edges]
    junctions = tuple(sorted({name for pair in ends for name in pair}))
    number = {name: i for i, name in enumerate(junctions)}
    lanes = [e.findall("lane") for e in edges]
    green, wait, minor = _right_of_way(root)
    return Roads(
        names=names,
        junctions=junctions,
        places=np.array([places[name] for name in junctions]),
        tail=np.array([number[a] for a, _ in ends]),
        head=np.array([number[b] for _, b in ends]),
        length=np.array([float(each[0].get("length", 0)) for each in lanes]),
        speed=np.array([float(each[0].get("speed", 1)) for each in lanes]),
        lanes=np.array([float(len(each)) for each in lanes]),
        priority=np.array([float(e.get("priority", 1)) for e in edges]),
        green=np.array([green.get(name, 1.0) for name in names]),
        wait=np.array([wait.get(name, 0.0) for name in names]),
        signal=np.array([float(name in green) for name in names]),
        minor=np.array([minor.get(name, 0.0) for name in names]),
    )


def read_trips(path: Path, roads: Roads) -> Trips:
    """Trips as randomTrips.py writes them, in the order of their departure."""
    found = sorted(
        (float(trip.get("depart", 0)), roads.index[str(trip.get("from"))], roads.index[str(trip.get("to"))])
        for trip in _root(path).iter("trip")
    )
    depart = np.array([moment for moment, _, _ in found], dtype=np.float64)
    ends = np.array([pair for _, *pair in found], dtype=np.int64).reshape(len(found), 2)
    return Trips(depart, ends[:, 0], ends[:, 1], np.ones(len(found)))


def _right_of_way(root: Any) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """Road → share of green and mean wait where it ends at a signal; share of its turns that give way elsewhere."""
    phases = {
        logic.get("id"): [(float(p.get("duration", 0)), p.get("state", "")) for p in logic.iter("phase")]
        for logic in root.iter("tlLogic")
    }
    shares: dict[str, list[float]] = defaultdict(list)
    waits: dict[str, list[float]] = defaultdict(list)
    gives: dict[str, list[float]] = defaultdict(list)
    for turn in root.iter("connection"):
        road = str(turn.get("from"))
        if road.startswith(":"):
            continue
        if turn.get("tl") is None:
            gives[road].append(float(turn.get("state") != "M"))
            continue
        cycle, link = phases[turn.get("tl")], int(turn.get("linkIndex"))
        whole = sum(seconds for seconds, _ in cycle)
        red = sum(seconds for seconds, state in cycle if state[link] not in "Gg")
        shares[road].append(max(1 - red / whole, 0.05))
        waits[road].append(RED * red**2 / whole)

    def means(found: dict[str, list[float]]) -> dict[str, float]:
        return {road: float(np.mean(each)) for road, each in found.items()}

    return means(shares), means(waits), means(gives)


def _root(path: Path) -> Any:
    try:
        return ET.parse(path).getroot()  # noqa: S314  (written by SUMO on this machine)
    except (OSError, ET.ParseError) as error:
        raise DataError(f"{path}: cannot be read as SUMO's XML: {error}.") from None
