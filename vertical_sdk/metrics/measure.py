"""Metrics with their options and labels fixed, ready to measure predictions; which way is better; what a task uses by default."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk import catalog
from vertical_sdk.types import NO_ANSWER, Example, LabelSpace, TaskName

__all__ = [
    "LABELLED",
    "NO_ANSWER",
    "UNDEFINED",
    "Measure",
    "PreparedRows",
    "bind",
    "draw_curve",
    "higher_is_better",
    "inputs",
    "prepare_rows",
]

LABELLED: tuple[TaskName, ...] = ("classification", "multilabel", "ordinal")
"""The tasks that predict labels."""

UNDEFINED = math.nan
"""The value of a metric that these rows do not define."""

INPUTS = ("predictions", "references", "probabilities", "quantiles", "labels", "rows", "facts")
"""The positional parameters that a metric may have; see `vertical_sdk.metrics`."""


@dataclass(frozen=True, eq=False)
class PreparedRows:
    """Rows as one metric reads them. `prepared[positions]` gives the rows at these positions, which may repeat.

    rows   the Examples; None if the metric does not read them
    facts  what the metric's `prepare` returned for the rows; None if it has no `prepare`
    """

    rows: Sequence[Example] | None = None
    facts: Any = None

    def __getitem__(self, positions: NDArray[np.int64]) -> PreparedRows:
        return PreparedRows(
            None if self.rows is None else [self.rows[position] for position in positions],
            None if self.facts is None else self.facts[positions],
        )


@dataclass(frozen=True, eq=False)
class Measure:
    """A metric with its options and labels fixed. Call it with predictions and references.

    takes             the names of the metric's positional parameters
    options           what the recipe sets, for the metric and its `prepare`
    function_options  those of them that the metric itself takes
    """

    part: catalog.Part[Callable[..., float]]
    takes: frozenset[str]
    labels: LabelSpace | None
    options: Mapping[str, Any]
    function_options: Mapping[str, Any]

    def __call__(
        self,
        predictions: Any,
        references: Any,
        probabilities: Any = None,
        rows: Sequence[Example] | PreparedRows | None = None,
        quantiles: Any = None,
    ) -> float:
        """Measure predictions against references. NaN (UNDEFINED) without rows, or if a prediction of a known truth is NaN.

        rows  the Examples in the order of the predictions, or what `prepare` returned for them

        Raises TypeError if the metric needs probabilities, quantiles or rows and the call has none.
        """
        takes = self.takes
        if probabilities is None and "probabilities" in takes:
            raise TypeError(f"the metric {self.part.name!r} needs probabilities")
        if quantiles is None and "quantiles" in takes:
            raise TypeError(f"the metric {self.part.name!r} needs quantiles")
        if rows is None and not takes.isdisjoint({"rows", "facts"}):
            raise TypeError(f"the metric {self.part.name!r} needs rows, the Examples in the order of the predictions")
        answers = {"predictions": predictions, "probabilities": probabilities, "quantiles": quantiles}
        given = predictions if references is None else references
        if (given is not None and not len(given)) or any(
            _has_gap(references, answer) for name, answer in answers.items() if name in takes
        ):
            return UNDEFINED
        prepared = rows if isinstance(rows, PreparedRows) else self.prepare(rows or ())
        values = {
            **answers,
            "references": references,
            "labels": self.labels,
            "rows": prepared.rows,
            "facts": prepared.facts,
        }
        return float(self.part.function(**{key: values[key] for key in takes}, **self.function_options))

    def prepare(self, rows: Sequence[Example]) -> PreparedRows:
        """Read from the rows what the metric needs. A bootstrap does it once and then only takes positions of the result.

        Raises what the metric's `prepare` raises, for example DataError if a row lacks a field.
        """
        prepare = self.part.prepare
        facts = prepare(rows, **_select_arguments(prepare, self.options)) if prepare else None
        return PreparedRows(rows if "rows" in self.takes else None, facts)


def prepare_rows(measures: Mapping[str, Measure], rows: Sequence[Example]) -> dict[str, PreparedRows]:
    """Prepare the rows for several metrics: name → prepared rows. Metrics with the same `prepare` and options share its result."""
    prepared: dict[str, PreparedRows] = {}
    results: dict[tuple[Any, str], Any] = {}
    for name, measure in measures.items():
        prepare = measure.part.prepare
        options = _select_arguments(prepare, measure.options) if prepare else {}
        key = (prepare, repr(sorted(options.items())))
        if key not in results:
            results[key] = measure.prepare(rows).facts
        prepared[name] = PreparedRows(rows if "rows" in measure.takes else None, results[key])
    return prepared


def bind(name: str, labels: LabelSpace | None = None, arguments: Mapping[str, Any] | None = None) -> Measure:
    """Look up a metric and fix its options and labels.

    Raises RecipeError for an argument that the metric does not take; UnknownName; TypeError for a metric with a positional parameter
    that the SDK does not pass.
    """
    part = catalog.metrics.part(name)
    options = catalog.metrics.check(name, arguments or {})
    return Measure(part, _positional(part), labels, options, _select_arguments(part.function, options))


def inputs(name: str) -> frozenset[str]:
    """Which of predictions, references, probabilities, quantiles, labels and rows a metric needs. `facts` are read from rows.

    Raises UnknownName; TypeError for a metric with another positional parameter.
    """
    takes = _positional(catalog.metrics.part(name))
    return frozenset("rows" if parameter == "facts" else parameter for parameter in takes)


def higher_is_better(name: str) -> bool:
    """Whether a higher value of this metric is better.

    Raises UnknownName.
    """
    return catalog.metrics.part(name).higher_is_better


def draw_curve(
    name: str,
    predictions: Any,
    references: Any,
    rows: Sequence[Example],
    arguments: Mapping[str, Any] | None = None,
    probabilities: Any = None,
) -> Mapping[str, Any] | None:
    """Compute the metric's curve over these rows; None for a metric without one.

    A metric's curve (`@metrics.register(..., curve=draw_roc)`) takes those of predictions, references, probabilities, rows, facts
    and the metric's options that it names. It returns {"title", "x", "y": names of the axes, "lines": {name: [(x, y), ...]}}, or
    None if there is nothing to draw. The line "" is the system's own.

    Raises RecipeError for an argument that the metric does not take; UnknownName.
    """
    measure = bind(name, arguments=arguments)
    curve = measure.part.curve
    if curve is None:
        return None
    values = {"predictions": predictions, "references": references, "probabilities": probabilities, "rows": rows}
    if "facts" in inspect.signature(curve).parameters:
        values["facts"] = measure.prepare(rows).facts
    return curve(**_select_arguments(curve, {**values, **measure.options}))


def _positional(part: catalog.Part[Any]) -> frozenset[str]:
    """The names of a metric's positional parameters.

    Raises TypeError for one that the SDK does not pass.
    """
    parameters = inspect.signature(part.function).parameters.values()
    takes = frozenset(parameter.name for parameter in parameters if parameter.kind is not parameter.KEYWORD_ONLY)
    if unknown := takes - set(INPUTS):
        raise TypeError(
            f"the metric {part.name!r} has the positional parameter {', '.join(sorted(unknown))}. "
            f"Use only these: {', '.join(INPUTS)}."
        )
    if "facts" in takes and part.prepare is None:
        raise TypeError(f"the metric {part.name!r} takes facts. Register it with prepare=, which reads them from the rows.")
    return takes


def _has_gap(references: Any, answer: Any) -> bool:
    """Whether an answer is NaN for a row, a step or a channel whose truth is known.

    answer  an array in the shape of the references, or with one more axis
    """
    if not isinstance(answer, np.ndarray) or answer.dtype.kind != "f":
        return False
    with np.errstate(invalid="ignore"):
        if not np.isnan(answer.sum()):  # a quick check: the sum is NaN if a value is
            return False
    gaps = np.isnan(answer)
    if isinstance(references, np.ndarray) and references.dtype.kind == "f":
        known = ~np.isnan(references)
        gaps &= known.reshape(known.shape + (1,) * (gaps.ndim - known.ndim))
    return bool(gaps.any())


def _select_arguments(function: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the values that the function has a parameter for."""
    parameters = inspect.signature(function).parameters
    return {key: value for key, value in values.items() if key in parameters}
