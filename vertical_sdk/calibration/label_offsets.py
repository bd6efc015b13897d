"""Label offsets: which label is chosen if the likeliest label is not the best answer.

The likeliest label gives the best accuracy. A metric that asks for more, such as F1 averaged over rare and frequent labels, is
better with other boundaries. Here they have one degree of freedom, so that a few hundred validation rows can set it:

    one label a row   argmax of log p - tau log (share of the label in training)     (Menon et al., 2021, section 4.1)
    several           log-odds of p + c >= 0, the same c for all labels              (Lipton et al., 2014: F1 wants less than .5)

Both are `offsets` added to logarithms. The probabilities themselves stay calibrated. If the gain on the validation rows is less
than one standard error, the likeliest label is chosen: one lucky row of fifty would move the boundaries of every later answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vertical_sdk import catalog
from vertical_sdk.metrics.measure import bind, higher_is_better, inputs
from vertical_sdk.outputs import Outputs
from vertical_sdk.recipe import Part
from vertical_sdk.types import Example, LabelSpace

__all__ = ["fit_offsets", "prior_offsets", "shift_offsets"]

Floats = NDArray[np.float64]
TAUS = np.linspace(-0.5, 1.5, 41)
SHIFTS = np.linspace(-2.0, 4.0, 61)
SMOOTHING = np.array([1, 2, 3, 2, 1]) / 9
"""Weights of the neighbours on the grid, as the metric of a few hundred rows jumps."""
DRAWS = 200
"""Bootstrap samples of the validation rows, for the standard error of the gain."""


class Decides(Protocol):
    """A task that chooses labels from outputs."""

    def predictions(self, outputs: Outputs) -> Any:
        """The chosen labels."""

    def references(self, rows: Sequence[Example], labels: LabelSpace | None) -> Any:
        """The true labels."""


def prior_offsets(labels: LabelSpace) -> tuple[Floats, Floats]:
    """The grid of steps and the direction (labels,) for one label a row: rare labels up, frequent labels down."""
    counts = np.array([max(1, labels.counts.get(label, 0)) for label in labels.labels], dtype=np.float64)
    direction = -np.log(counts / counts.sum())
    return TAUS, direction - direction.mean()


def shift_offsets(labels: LabelSpace) -> tuple[Floats, Floats]:
    """The grid of steps and the direction (labels,) for several labels a row: all labels alike."""
    return SHIFTS, np.ones(len(labels))


def fit_offsets(
    task: Decides,
    outputs: Outputs,
    rows: Sequence[Example],
    labels: LabelSpace,
    metric: Part,
    grid: Floats,
    direction: Floats,
) -> tuple[float, ...]:
    """Fit the offsets that give the metric its best value on these rows.

    outputs    the system's outputs for rows that it was not trained on
    grid       steps to try
    direction  (labels,) offsets are step * direction

    returns  () if the metric does not read labels, is undefined on these rows, or gains less than one standard error
    """
    if "predictions" not in inputs(metric.use):
        return ()
    measure = bind(metric.use, labels, catalog.metrics.check(metric.use, metric.arguments))
    truth = task.references(rows, labels)
    prepared = measure.prepare(rows)
    sign = 1 if higher_is_better(metric.use) else -1

    def predictions(step: float) -> Any:
        return task.predictions(replace(outputs, offsets=step * direction))

    def value(chosen: Any, at: NDArray[np.int64]) -> float:
        assert outputs.probabilities is not None
        return sign * measure(chosen[at], truth[at], outputs.probabilities[at], prepared[at])

    every = np.arange(len(rows))
    step = _best(grid, lambda step: value(predictions(step), every))
    plain, moved = predictions(0.0), predictions(step)
    gain = value(moved, every) - value(plain, every)
    if not gain > 0:
        return ()
    draws = np.random.default_rng(0).choice(every, (DRAWS, len(every)))
    error = np.nanstd([value(moved, at) - value(plain, at) for at in draws])
    return tuple((step * direction).tolist()) if gain >= error else ()


def _best(grid: Floats, value: Callable[[float], Any]) -> float:
    """The step with the best smoothed value; among equals the one nearest to 0. 0 if a value is undefined."""
    values = np.array([value(float(step)) for step in grid])
    if np.isnan(values).any():
        return 0.0
    reach = len(SMOOTHING) // 2
    smooth = np.convolve(np.pad(values, reach, mode="edge"), SMOOTHING, mode="valid")
    best = np.flatnonzero(smooth >= smooth.max() - 1e-12)
    return float(grid[best[np.abs(grid[best]).argmin()]])
