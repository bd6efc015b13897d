"""From probabilities to labels: what is said where the likeliest label is not the best answer.

The likeliest label gives the best accuracy. A metric that asks for more, such as F1 averaged over rare and frequent labels, is
served better by moving the boundaries. Here they have one degree of freedom, so that a few hundred validation rows can set it:

    one label a row   argmax of log p - tau log (share of the label in training)     (Menon et al., 2021, section 4.1)
    several           log-odds of p + c ≥ 0, the same c for all labels               (Lipton et al., 2014: F1 wants less than .5)

Both are `offsets` added to logarithms. The probabilities themselves stay calibrated. Where the gain on the validation rows is within
one standard error of none, the likeliest label stands: one lucky row of fifty would move the boundaries of every answer to come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk import catalog
from vertical_sdk.metrics.measure import LABELLED, bind, default_metrics, higher_is_better, inputs
from vertical_sdk.outputs import Outputs, references
from vertical_sdk.recipe import Part, Recipe
from vertical_sdk.types import Example, LabelSpace

__all__ = ["fit_offsets", "headline"]

TAUS = np.linspace(-0.5, 1.5, 41)
SHIFTS = np.linspace(-2.0, 4.0, 61)
SMOOTHING = np.array([1, 2, 3, 2, 1]) / 9
"""Neighbours on the grid speak too, as the metric of a few hundred rows jumps."""
DRAWS = 200
"""Bootstrap samples of the validation rows, for the standard error of what is gained."""


def headline(recipe: Recipe) -> Part:
    """The metric that is looked at first: the gate's, else the first of the recipe, else the task's first."""
    parts = list(recipe.evaluate.metrics) or [Part(use=name) for name in default_metrics(recipe.task)]
    gate = recipe.evaluate.gate
    if gate is None:
        return parts[0]
    return next((part for part in parts if part.use == gate.metric), Part(use=gate.metric))


def fit_offsets(outputs: Outputs, rows: Sequence[Example], labels: LabelSpace | None, recipe: Recipe) -> tuple[float, ...]:
    """The offsets that serve the recipe's first metric best on these rows; none where it does not look at labels, or gains little.

    outputs  what the system says of rows that it was not trained on
    """
    part = headline(recipe)
    if recipe.task not in LABELLED or labels is None or outputs.probabilities is None or not len(rows):
        return ()
    if "predictions" not in inputs(part.use):
        return ()
    measure = bind(part.use, labels, catalog.metrics.check(part.use, part.arguments))
    truth = references(rows, labels, recipe.task)
    prepared = measure.prepare(rows)
    if recipe.task == "multilabel":
        grid, direction = SHIFTS, np.ones(len(labels))
    else:
        counts = np.array([max(1, labels.counts.get(label, 0)) for label in labels.labels], dtype=np.float64)
        grid, direction = TAUS, -np.log(counts / counts.sum())
        direction = direction - direction.mean()

    better = 1 if higher_is_better(part.use) else -1

    def answers(step: float) -> Any:
        return replace(outputs, offsets=step * direction).predictions(recipe.task)

    def value(said: Any, at: NDArray[np.int64]) -> float:
        assert outputs.probabilities is not None
        return better * measure(said[at], truth[at], outputs.probabilities[at], prepared[at])

    every = np.arange(len(rows))
    step = _best(grid, lambda step: value(answers(step), every))
    plain, moved = answers(0.0), answers(step)
    gain = value(moved, every) - value(plain, every)
    if gain <= 0:
        return ()
    draws = np.random.default_rng(0).choice(every, (DRAWS, len(every)))
    error = np.std([value(moved, at) - value(plain, at) for at in draws])
    return tuple((step * direction).tolist()) if gain >= error else ()


def _best(grid: NDArray[np.float64], value: Callable[[float], Any]) -> float:
    """The step of the best smoothed value; of equals the one nearest to 0."""
    found = np.array([value(float(step)) for step in grid])
    reach = len(SMOOTHING) // 2
    smooth = np.convolve(np.pad(found, reach, mode="edge"), SMOOTHING, mode="valid")
    best = np.flatnonzero(smooth >= smooth.max() - 1e-12)
    return float(grid[best[np.abs(grid[best]).argmin()]])
