"""LoRA of many adapters in one batch: their matrices in one stack, each row multiplied by those of its own adapter.

    y = W x + B' (A x)        B' = scale B

A place of the stack is one adapter, with ranks filled up with zeros to the highest of the stack. Rows are brought into groups, one
for each place, so that a batched product computes all adapters at once and no weight is copied for a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Groups", "LowRank", "LowRankStack", "Site"]


@dataclass(frozen=True)
class Site:
    """A fused linear layer that adapters change: several products of the same input, with their outputs side by side.

    inputs  numbers of the input
    parts   numbers of each output
    """

    inputs: int
    parts: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class LowRank:
    """One adapter: (site, part) → A (rank, inputs) and B' (outputs, rank), in float32. What is missing, it leaves as it is."""

    matrices: Mapping[tuple[int, int], tuple[Tensor, Tensor]]

    @property
    def rank(self) -> int:
        """The highest rank; 0 if it changes nothing."""
        return max((len(a) for a, _ in self.matrices.values()), default=0)


@dataclass(frozen=True, eq=False)
class Groups:
    """Which rows of a batch are of which place.

    places   places in use, the first ones of the stack
    size     rows of the largest group
    take     (places × size,) the row at each position of the groups; None if rows are in this order already
    give     (rows,) the position of each row in the groups; None likewise
    """

    places: int
    size: int
    take: Tensor | None
    give: Tensor | None


class LowRankStack:
    """The adapters of a batch. None is the adapter that changes nothing.

    sites  the linear layers of the network
    """

    def __init__(self, sites: Sequence[Site], device: torch.device) -> None:
        self._sites, self._device = sites, device
        self._places: list[LowRank | None] = []
        self._down: list[Tensor] = []  # of each site: A' (places, inputs, parts × rank)
        self._up: list[Tensor] = []  # of each site: B (places, rank, outputs)
        self._rank = 0

    def keep(self, adapters: Sequence[LowRank | None]) -> None:
        """Hold these adapters and no other. Those that it holds already are not copied again, unless one is moved to a free place."""
        wanted = {id(adapter): adapter for adapter in adapters}
        highest = max((adapter.rank for adapter in wanted.values() if adapter), default=0)
        if 0 < 2 * highest <= self._rank:  # an adapter of a high rank has left: the others need not be filled up so far
            self._places, self._down, self._up, self._rank = [], [], [], 0
        while self._find_unwanted(wanted) is not None:
            place, last = self._find_unwanted(wanted), len(self._places) - 1
            assert place is not None
            if place != last:
                for stack in (*self._down, *self._up):
                    stack[place] = stack[last]
                self._places[place] = self._places[last]
            self._places.pop()
        held = {id(adapter) for adapter in self._places}
        new = [adapter for key, adapter in wanted.items() if key not in held]
        self._reserve(len(self._places) + len(new), highest)
        for adapter in new:
            self._write(len(self._places), adapter)
            self._places.append(adapter)

    def group(self, adapters: Sequence[LowRank | None]) -> Groups | None:
        """Group the rows of a batch by their adapters, all of which are held; None if no row has an adapter."""
        if all(adapter is None for adapter in adapters):
            return None
        place_of = {id(adapter): place for place, adapter in enumerate(self._places)}
        rows: list[list[int]] = [[] for _ in self._places]
        for row, adapter in enumerate(adapters):
            rows[place_of[id(adapter)]].append(row)
        size = max(map(len, rows))
        take = [row for group in rows for row in (group + [0] * size)[:size]]  # row 0 fills a group up, and is not given back
        if take == list(range(len(adapters))):
            return Groups(len(rows), size, None, None)
        give = [0] * len(adapters)
        for place, group in enumerate(rows):
            for position, row in enumerate(group):
                give[row] = place * size + position
        return Groups(len(rows), size, torch.tensor(take, device=self._device), torch.tensor(give, device=self._device))

    def add(self, site: int, x: Tensor, y: Tensor, groups: Groups) -> None:
        """Add each row's own adapter: x (rows, inputs), y (rows, outputs), which is changed."""
        down, up = self._down[site][: groups.places], self._up[site][: groups.places]
        x = x if groups.take is None else x.index_select(0, groups.take)
        inner = torch.bmm(x.view(groups.places, groups.size, -1), down)
        for part, low, high in self._spans(site):
            change = torch.bmm(inner[..., part * self._rank : (part + 1) * self._rank], up[..., low:high]).view(len(x), -1)
            y[:, low:high] += change if groups.give is None else change.index_select(0, groups.give)

    def add_segments(self, site: int, x: Tensor, y: Tensor, segments: Sequence[tuple[int, int, LowRank | None]]) -> None:
        """As `add`, for rows that are in segments (first, end, adapter) of the same adapter."""
        place_of = {id(adapter): place for place, adapter in enumerate(self._places)}
        for first, end, adapter in segments:
            if adapter is None:
                continue
            place = place_of[id(adapter)]
            inner = x[first:end] @ self._down[site][place]
            for part, low, high in self._spans(site):
                up = self._up[site][place, :, low:high]
                y[first:end, low:high].addmm_(inner[:, part * self._rank : (part + 1) * self._rank], up)

    def _spans(self, site: int) -> list[tuple[int, int, int]]:
        """Each part of a site with the first and the end of its outputs."""
        spans, low = [], 0
        for part, outputs in enumerate(self._sites[site].parts):
            spans.append((part, low, low + outputs))
            low += outputs
        return spans

    def _find_unwanted(self, wanted: Mapping[int, LowRank | None]) -> int | None:
        return next((place for place, adapter in enumerate(self._places) if id(adapter) not in wanted), None)

    def _reserve(self, places: int, rank: int) -> None:
        """Make room for so many places and this rank; what is held is copied."""
        have = len(self._down[0]) if self._down else 0
        if places <= have and rank <= self._rank:
            return
        places, rank = (have if places <= have else 1 << (places - 1).bit_length()), max(rank, self._rank)
        held, old = len(self._places), self._rank
        for number, site in enumerate(self._sites):
            down = torch.zeros(places, site.inputs, len(site.parts), rank, device=self._device)
            up = torch.zeros(places, rank, sum(site.parts), device=self._device)
            if held and old:
                down[:held, ..., :old] = self._down[number][:held].view(held, site.inputs, len(site.parts), old)
                up[:held, :old] = self._up[number][:held]
            self._down[number : number + 1] = [down.view(places, site.inputs, -1)]
            self._up[number : number + 1] = [up]
        self._rank = rank

    def _write(self, place: int, adapter: LowRank | None) -> None:
        """Copy an adapter into a place."""
        for number, site in enumerate(self._sites):
            down = self._down[number][place].view(site.inputs, len(site.parts), self._rank).zero_()
            up = self._up[number][place].zero_()
            for part, low, high in self._spans(number):
                if adapter is not None and (number, part) in adapter.matrices:
                    a, b = adapter.matrices[number, part]
                    down[:, part, : len(a)] = a.T
                    up[: len(a), low:high] = b.T
