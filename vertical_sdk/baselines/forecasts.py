# ruff: noqa: ARG001, ARG002  (all baselines are given the same things)
"""Cheap forecasts: the last value, what is usual at that time, and a linear model. A specialist that is no better is not worth it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from vertical_sdk.baselines.fitted import Arrays, as_bytes, from_bytes
from vertical_sdk.baselines.timeline import (
    Floats,
    Usual,
    carried,
    histories,
    layout_of,
    moments,
    neighbours,
    timeline,
)
from vertical_sdk.catalog import NotNegative, baselines
from vertical_sdk.errors import DataError
from vertical_sdk.outputs import Outputs
from vertical_sdk.types import Example, LabelSpace, SeriesLayout, Task

__all__ = ["Linear", "Persistence", "Seasonal", "linear", "persistence", "seasonal"]

CELLS = 30_000_000
"""Numbers that the linear model's features may hold; of more, every k-th moment is taken."""
NEAR = 0.05
"""Errors below this, in spreads, count as squares and not as absolute values."""
Seconds = Annotated[float, Field(gt=0)]


@dataclass(frozen=True, eq=False)
class Persistence:
    """Says the last value that was measured; `middle` (channels,) where none was."""

    layout: SeriesLayout
    middle: Floats

    def ask(self, rows: Sequence[Example], base: Any) -> Outputs:
        """The same for all steps."""
        last = carried(histories(rows, self.layout), self.middle[None, None])[:, -1]
        return Outputs(values=np.repeat(last[:, None], self.layout.horizon, axis=1))

    def arrays(self) -> Arrays:
        """The means."""
        return {"kept": _kept(self.layout), "middle": self.middle}

    @classmethod
    def of(cls, arrays: Arrays) -> Persistence:
        """The same again."""
        return cls(_layout(arrays), arrays["middle"])


@baselines.register("persistence", tasks=("forecasting",), title="last value repeated", saves_as=Persistence)
def persistence(train: Sequence[Example], labels: LabelSpace | None, task: Task, seed: int, base: Any) -> Persistence:
    """Everything stays as it is: the last value that was measured, for all steps.

    Raises DataError where there are no training rows.
    """
    layout = layout_of(base, train)
    return Persistence(layout, timeline(train, layout).level()[0])


@dataclass(frozen=True, eq=False)
class Seasonal:
    """Says what was one period ago, or what is usual at that time."""

    layout: SeriesLayout
    usual: Usual

    def ask(self, rows: Sequence[Example], base: Any) -> Outputs:
        """What is usual, replaced by what was one period ago where the history reaches so far."""
        layout = self.layout
        ahead = range(1, layout.horizon + 1)
        said = self.usual.at(moments(rows), ahead)
        ago = round(self.usual.period / layout.seconds)
        if ago <= layout.history:
            past = histories(rows, layout)
            for step in ahead[:ago]:
                was = past[:, layout.history - 1 + step - ago]
                said[:, step - 1] = np.where(np.isnan(was), said[:, step - 1], was)
        return Outputs(values=said)

    def arrays(self) -> Arrays:
        """What is usual."""
        return {"kept": _kept(self.layout, period=self.usual.period), "usual": self.usual.mean}

    @classmethod
    def of(cls, arrays: Arrays) -> Seasonal:
        """The same again."""
        return cls(_layout(arrays), _usual(arrays))


@baselines.register("seasonal", tasks=("forecasting",), title="seasonal naive", saves_as=Seasonal)
def seasonal(
    train: Sequence[Example],
    labels: LabelSpace | None,
    task: Task,
    seed: int,
    base: Any,
    *,
    period: Seconds | None = None,
) -> Seasonal:
    """What was one period ago, where a row's history reaches so far; else the training rows' mean at that time of the period.

    period  seconds; a week where the training rows span four of them, else a day

    Raises DataError for rows without a time.
    """
    layout = layout_of(base, train)
    return Seasonal(layout, Usual.of(timeline(train, layout), layout, period))


@dataclass(frozen=True, eq=False)
class Linear:
    """One linear model for all channels.

    spread   (channels,) of each
    near     (channels, channels) weights of the channels near by; (0, 0) without a graph
    weight   (features, horizon); bias (horizon,)
    """

    layout: SeriesLayout
    usual: Usual
    spread: Floats
    near: Floats
    weight: Floats
    bias: Floats

    def features(self, past: Floats, at: Floats, *, without_own: bool = False) -> tuple[Floats, Floats]:
        """Features (rows, channels, features) and last values (rows, channels) of histories (rows, history, channels).

        All are distances from the channel's last value, in its spreads: its own history, that of the channels near by, and what is usual
        behind and ahead.
        """
        layout = self.layout
        behind = self.usual.at(at, range(1 - layout.history, 1), without_own=without_own)
        ahead = self.usual.at(at, range(1, layout.horizon + 1), without_own=without_own)
        filled = carried(past, behind)
        parts = [filled[:, :-1], behind, ahead, *([filled @ self.near.T] if self.near.size else [])]
        last = filled[:, -1]
        return ((np.concatenate(parts, axis=1) - last[:, None]) / self.spread).transpose(0, 2, 1), last

    def ask(self, rows: Sequence[Example], base: Any) -> Outputs:
        """The forecast, (rows, horizon, channels)."""
        said = []
        most = max(1, CELLS // max(1, len(self.weight) * len(self.spread)))
        for start in range(0, len(rows), most):
            some = rows[start : start + most]
            found, last = self.features(histories(some, self.layout), moments(some))
            said.append(last[:, None] + self.spread * (found @ self.weight + self.bias).transpose(0, 2, 1))
        return Outputs(values=np.concatenate(said))

    def arrays(self) -> Arrays:
        """Weights, and what is usual."""
        rest = {"spread": self.spread, "near": self.near, "weight": self.weight, "bias": self.bias}
        return {"kept": _kept(self.layout, period=self.usual.period), "usual": self.usual.mean, **rest}

    @classmethod
    def of(cls, arrays: Arrays) -> Linear:
        """The same again."""
        rest = (arrays[name] for name in ("spread", "near", "weight", "bias"))
        return cls(_layout(arrays), _usual(arrays), *rest)


@baselines.register("linear", tasks=("forecasting",), title="linear model", saves_as=Linear, classical=3)
def linear(
    train: Sequence[Example],
    labels: LabelSpace | None,
    task: Task,
    seed: int,
    base: Any,
    *,
    alpha: NotNegative = 1e-3,
    rounds: Annotated[int, Field(ge=0, le=20)] = 3,
) -> Linear:
    """A linear model of all steps at once, the same for all channels: their own history, their neighbours', and what is usual.

    What is usual at the time of a training row is taken from the other days (or weeks): else the model would trust it too much.

    alpha   strength of ridge regression's penalty, as a share of the features' mean square
    rounds  how often it is fitted again with rows weighed by the inverse of their error, which leads from the mean to the median
            (iteratively reweighted least squares; Schlossmacher, 1973); 0: least squares

    Raises DataError where there are too few training rows.
    """
    layout = layout_of(base, train)
    line = timeline(train, layout)
    usual, near = Usual.of(line, layout), neighbours(layout)
    spread = line.level()[1]
    size = 2 * layout.history + layout.horizon - 1 + (0 if near is None else layout.history)
    blank = Linear(layout, usual, spread, np.zeros((0, 0)) if near is None else near, np.zeros((size, 1)), np.zeros(1))
    chosen = train[:: 1 + len(train) * len(spread) * size // CELLS]
    found, last = blank.features(histories(chosen, layout), moments(chosen), without_own=True)
    target = np.stack([row.target for row in chosen])  # type: ignore[misc]
    y = ((target - last[:, None]) / spread).transpose(0, 2, 1).reshape(-1, layout.horizon)
    known = ~np.isnan(y).any(axis=1)
    x, y = found.reshape(-1, size)[known], y[known]
    if len(x) < 2:
        raise DataError(f"baseline linear: {len(x)} training rows have all of their {layout.horizon} steps; more are needed.")
    weight, bias = _ridge(x, y, alpha, None)
    for _ in range(rounds):
        error = np.abs(y - x @ weight - bias).mean(axis=1)
        weight, bias = _ridge(x, y, alpha, 1 / np.maximum(error, NEAR))
    return Linear(layout, usual, spread, blank.near, weight, bias)


def _ridge(x: Floats, y: Floats, alpha: float, weights: Floats | None) -> tuple[Floats, Floats]:
    """(features, k) and (k,); rows may weigh differently."""
    center, middle = np.average(x, axis=0, weights=weights), np.average(y, axis=0, weights=weights)
    off: Floats = x - center
    by: Floats = (off if weights is None else off * weights[:, None]).T
    gram = by @ off
    gram[np.diag_indices_from(gram)] += alpha * np.trace(gram) / len(gram) + 1e-9
    weight = np.asarray(np.linalg.solve(gram, by @ (y - middle)), dtype=np.float64)
    return weight, np.asarray(middle - center @ weight, dtype=np.float64)


def _kept(layout: SeriesLayout, **more: float) -> Any:
    """What must be known to read rows again; the graph is kept where it is used."""
    what = {"channels": layout.channels, "seconds": layout.seconds, "history": layout.history, "horizon": layout.horizon}
    return as_bytes(what | more)


def _layout(arrays: Arrays) -> SeriesLayout:
    kept = from_bytes(arrays["kept"])
    return SeriesLayout(tuple(kept["channels"]), kept["seconds"], kept["history"], kept["horizon"])


def _usual(arrays: Arrays) -> Usual:
    kept = from_bytes(arrays["kept"])
    return Usual.kept(arrays["usual"], kept["period"], kept["seconds"])
