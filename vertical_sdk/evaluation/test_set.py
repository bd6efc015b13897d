"""What a comparison stands on: test rows that nobody trained on, the truth about them, and how systems are measured on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from vertical_sdk.card import Card
from vertical_sdk.data.prepare import Prepared, prepare
from vertical_sdk.errors import DataError, VerticalError
from vertical_sdk.evaluation.audit import check_groups
from vertical_sdk.metrics.measure import Measure, PreparedRows, bind, prepare_rows
from vertical_sdk.outputs import Outputs
from vertical_sdk.recipe import Part, Recipe
from vertical_sdk.tasks import get_task, main_metric
from vertical_sdk.types import Example, Progress

__all__ = ["Bench", "bench_of", "own_rows"]


@dataclass(frozen=True, eq=False)
class Bench:
    """The rows, the truth about them, and how everything is measured on them."""

    card: Card
    recipe: Recipe
    rows: Sequence[Example]
    truth: Any
    metrics: dict[str, Measure]
    confidence: float

    @cached_property
    def prepared(self) -> dict[str, PreparedRows]:
        """The rows as each metric reads them, read once for all systems and resamples."""
        return prepare_rows(self.metrics, self.rows)

    @property
    def groups(self) -> list[str | None] | None:
        """What is resampled together; None where each row stands for itself."""
        if self.recipe.evaluate.resample == "rows":
            return None
        if not all(row.group for row in self.rows):
            raise DataError(
                "evaluate.resample is groups, but some rows have no group. Name their column in data.columns, or resample rows."
            )
        return [row.group for row in self.rows]

    @property
    def main_metric(self) -> str:
        """The metric that is looked at first: the gate's, or the first of the recipe."""
        return main_metric(self.recipe).use

    def measure(self, name: str, outputs: Outputs) -> Callable[[Any], float]:
        """A metric as a function of which rows are looked at."""
        said, truth, metric = (
            np.asarray(get_task(self.card.task).predictions(outputs), dtype=object if outputs.texts else None),
            self.truth,
            self.metrics[name],
        )
        known = np.asarray(truth, dtype=object) if outputs.texts else truth
        prepared = self.prepared[name]

        def over(rows: Any) -> float:
            shares = outputs.probabilities[rows] if outputs.probabilities is not None else None
            picked = said[rows].tolist() if outputs.texts else said[rows]
            bounds = outputs.quantiles[rows] if outputs.quantiles is not None else None
            return float(metric(picked, known[rows].tolist() if outputs.texts else known[rows], shares, prepared[rows], bounds))

        return over


def own_rows(card: Card, recipe: Recipe, *, needed: bool, progress: Progress) -> tuple[Prepared | None, str]:
    """The recipe's rows anew, from the bytes that the adapter was trained on; None where they cannot be had and are not `needed`,
    with the reason why.

    Raises DataError where they are needed and the data has changed, and what `prepare` raises.
    """
    try:
        prepared = prepare(recipe, progress=progress)
    except VerticalError as error:
        if needed:
            raise
        return None, f"its training rows cannot be had: {error}"
    then, now = [s.sha256 for s in card.sources], [s.sha256 for s in prepared.sources]
    if then != now:
        changed = (
            f"the data of {recipe.name} has changed since the adapter was trained ({', '.join(s.source for s in card.sources)})"
        )
        if needed:
            raise DataError(
                f"{changed}: its test rows may be among those that were trained on. Train anew, or give rows by --data."
            )
        return None, changed
    return prepared, ""


def bench_of(card: Card, recipe: Recipe, rows: Sequence[Example]) -> Bench:
    """The rows with all metrics of the recipe, the gate's too.

    Raises DataError where there are no rows, or one of them has no target.
    """
    if not rows:
        raise DataError("there are no rows to evaluate on.")
    check_groups(rows, recipe.evaluate.groups)
    parts = list(recipe.evaluate.metrics) or [Part(use=name) for name in get_task(card.task).default_metrics]
    gate = recipe.evaluate.gate
    if gate and gate.metric not in [part.use for part in parts]:
        parts.insert(0, Part(use=gate.metric))
    metrics = {part.use: bind(part.use, card.labels, part.arguments) for part in parts}
    return Bench(
        card, recipe, rows, get_task(card.task).references(rows, card.labels), metrics, gate.confidence if gate else 0.95
    )
