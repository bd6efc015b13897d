"""Test rows that the specialist was not trained on, their references, and the metrics of the recipe."""

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
from vertical_sdk.evaluation.statistics import Bootstrap, Resampled, resample
from vertical_sdk.metrics.measure import Measure, PreparedRows, bind, prepare_rows
from vertical_sdk.outputs import Outputs
from vertical_sdk.recipe import Part, Recipe
from vertical_sdk.tasks import get_gate, get_task, main_metric
from vertical_sdk.tasks.task import Task
from vertical_sdk.types import NO_ZONE, Example, Progress

__all__ = ["Benchmark", "create_benchmark", "prepare_own_rows"]


@dataclass(frozen=True, eq=False)
class Benchmark:
    """The rows, their references, and the metrics that all systems are measured by.

    card, recipe  of the specialist; the recipe is parsed from the card
    references    as `Task.references` returns them
    metrics       name → metric with the recipe's options
    confidence    of all intervals
    """

    card: Card
    recipe: Recipe
    rows: Sequence[Example]
    references: Any
    metrics: dict[str, Measure]
    confidence: float

    @property
    def task(self) -> Task:
        """The task of the specialist."""
        return get_task(self.card.task)

    @cached_property
    def prepared(self) -> dict[str, PreparedRows]:
        """The rows as each metric reads them, read once for all systems and resamples."""
        return prepare_rows(self.metrics, self.rows)

    @cached_property
    def resampling(self) -> Bootstrap:
        """How rows are drawn for intervals.

        Raises DataError if the recipe resamples groups and a row has none.
        """
        settings = self.recipe.evaluate
        groups = None
        if settings.resample != "rows":
            groups = [row.group for row in self.rows]
            if not all(groups):
                raise DataError(
                    "evaluate.resample is groups, but some rows have no group. Name their column in data.columns, or resample rows."
                )
        return Bootstrap(settings.resamples, self.confidence, groups=groups)

    @cached_property
    def _resampled(self) -> dict[tuple[str, Outputs], Resampled]:
        return {}

    def resample(self, name: str, outputs: Outputs) -> Resampled:
        """Measure a metric of these outputs on all rows and on each resample, once for all intervals and comparisons."""
        key = name, outputs
        if key not in self._resampled:
            self._resampled[key] = resample(self.measure(name, outputs), len(self.rows), self.resampling)
        return self._resampled[key]

    @property
    def main_metric(self) -> str:
        """The metric that comes first: the gate's, or the first of the recipe."""
        return main_metric(self.recipe).use

    def measure(self, name: str, outputs: Outputs) -> Callable[[Any], float]:
        """Return a metric of these outputs as a function of positions of rows."""
        as_texts = bool(outputs.texts)
        predictions = np.asarray(self.task.predictions(outputs), dtype=object if as_texts else None)
        references = np.asarray(self.references, dtype=object) if as_texts else self.references
        metric, prepared = self.metrics[name], self.prepared[name]
        all_probabilities = outputs.probabilities if "probabilities" in metric.takes else None
        all_quantiles = outputs.quantiles if "quantiles" in metric.takes else None

        def measure_rows(rows: Any) -> float:
            probabilities = None if all_probabilities is None else all_probabilities[rows]
            quantiles = None if all_quantiles is None else all_quantiles[rows]
            selected, expected = predictions[rows], references[rows]
            if as_texts:
                selected, expected = selected.tolist(), expected.tolist()
            return float(metric(selected, expected, probabilities, prepared[rows], quantiles))

        return measure_rows


def prepare_own_rows(card: Card, recipe: Recipe, *, needed: bool, progress: Progress) -> tuple[Prepared | None, str]:
    """Prepare the recipe's rows again, from the bytes that the adapter was trained on.

    needed  raise if this is impossible

    returns  the rows, or None and the reason

    Raises DataError if they are needed and the card names no data or the data has changed since training, and what `prepare`
    raises.
    """
    if not any(source.sha256 for source in card.sources):
        if needed:
            raise DataError(
                f"the card of {card.name} does not say which rows it was trained on. Name a file of rows with --data."
            )
        return None, "its card does not say which rows it was trained on"
    try:
        prepared = prepare(recipe, progress=progress)
    except VerticalError as error:
        if needed:
            raise
        return None, f"the training rows cannot be prepared: {error}"
    then, now = [s.sha256 for s in card.sources], [s.sha256 for s in prepared.sources]
    if then != now:
        changed = (
            f"the data of {recipe.name} has changed since the adapter was trained ({', '.join(s.source for s in card.sources)})"
        )
        if needed:
            raise DataError(
                f"{changed}: the adapter may have been trained on its test rows. Train again, or name a file of rows with --data."
            )
        return None, changed
    layout = prepared.layout
    if layout is not None and card.layout is not None and card.layout.zone is None and layout.zone != NO_ZONE:
        changed = f"{recipe.name} was trained by an older version, which read the times of its data in UTC and not in the zone {layout.zone}"
        if needed:
            raise DataError(f"{changed}. Train it again.")
        return None, changed
    return prepared, ""


def create_benchmark(card: Card, recipe: Recipe, rows: Sequence[Example]) -> Benchmark:
    """Join rows with all metrics of the recipe, including the gate's.

    Raises DataError if there are no rows, or one of them has no target.
    """
    if not rows:
        raise DataError("there are no rows to evaluate on. Name a file with rows.")
    check_groups(rows, recipe.evaluate.groups)
    parts = list(recipe.evaluate.metrics) or [Part(use=name) for name in get_task(card.task).default_metrics]
    gate = get_gate(recipe)
    if gate and gate.metric not in [part.use for part in parts]:
        parts.insert(0, Part(use=gate.metric))
    metrics = {part.use: bind(part.use, card.labels, part.arguments) for part in parts}
    references = get_task(card.task).references(rows, card.labels)
    return Benchmark(card, recipe, rows, references, metrics, gate.confidence if gate else 0.95)
