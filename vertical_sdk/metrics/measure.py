"""What is known of a metric besides its value: what it wants to see, which way is better, which a task uses."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from vertical_sdk import catalog
from vertical_sdk.types import NO_ANSWER, Example, LabelSpace, Task

__all__ = [
    "LABELLED",
    "NO_ANSWER",
    "Measure",
    "bind",
    "codes",
    "curve_of",
    "drawn_by",
    "higher_is_better",
    "inputs",
    "lower_is_better",
]

LABELLED: tuple[Task, ...] = ("classification", "multilabel", "ordinal")
"""The tasks whose answers are labels."""

GIVEN = ("predictions", "references", "probabilities", "quantiles", "labels", "rows")

F = TypeVar("F", bound=Callable[..., float])


class Measure(Protocol):
    """A metric with its arguments and labels settled."""

    def __call__(
        self,
        predictions: Any,
        references: Any,
        probabilities: Any = None,
        rows: Sequence[Example] | None = None,
        quantiles: Any = None,
    ) -> float:
        """The metric's value over these rows; `rows` are the Examples themselves, in the order of the predictions."""


def lower_is_better(metric: F) -> F:
    """Mark a metric of which less is better (an error, a loss); stands under `@metrics.register`."""
    vars(metric)["higher_is_better"] = False
    return metric


def drawn_by(curve: Callable[..., Mapping[str, Any] | None]) -> Callable[[F], F]:
    """Mark a metric that has a curve for the report; stands under `@metrics.register`.

    curve  called with those of predictions, references, probabilities and rows that it names, gives {"title", "x", "y": what the axes
           are, "lines": {name: [(x, y), …]}}, or None where there is nothing to draw; the name "" is the system's own
    """

    def mark(metric: F) -> F:
        vars(metric)["curve"] = curve
        return metric

    return mark


def curve_of(
    name: str,
    predictions: Any,
    references: Any,
    rows: Sequence[Example],
    arguments: Mapping[str, Any] | None = None,
    probabilities: Any = None,
) -> Mapping[str, Any] | None:
    """The metric's curve over these rows; None for a metric without one.

    Raises RecipeError for an argument that the metric does not take; UnknownName.
    """
    curve = getattr(catalog.metrics.get(name), "curve", None)
    options = catalog.metrics.check(name, arguments or {})
    if curve is None:
        return None
    given = {"predictions": predictions, "references": references, "probabilities": probabilities, "rows": rows}
    taken = inspect.signature(curve).parameters
    drawn: Mapping[str, Any] | None = curve(
        **{key: value for key, value in given.items() if key in taken}, **{key: options[key] for key in options if key in taken}
    )
    return drawn


def codes(read: Callable[[Example], int], most: int = 1_000_000) -> Callable[[Sequence[Example]], NDArray[np.int64]]:
    """`read` over rows, computed once a row: a bootstrap asks a thousand times about the same ones.

    most  so many rows are remembered
    """
    seen: dict[int, tuple[Example, int]] = {}  # the row is held, so that its id stays its own

    def of(rows: Sequence[Example]) -> NDArray[np.int64]:
        try:
            return np.fromiter((seen[id(row)][1] for row in rows), np.int64, len(rows))
        except KeyError:
            if len(seen) + len(rows) > most:
                seen.clear()
            for row in rows:
                seen[id(row)] = (row, read(row))
            return np.fromiter((seen[id(row)][1] for row in rows), np.int64, len(rows))

    return of


def higher_is_better(name: str) -> bool:
    """Whether more of this metric is better.

    Raises UnknownName.
    """
    return bool(getattr(catalog.metrics.get(name), "higher_is_better", True))


def inputs(name: str) -> frozenset[str]:
    """Which of predictions, references, probabilities, quantiles, labels and rows a metric wants to see.

    Raises UnknownName.
    """
    metric = catalog.metrics.get(name)
    found = {p.name for p in inspect.signature(metric).parameters.values() if p.kind is not p.KEYWORD_ONLY}
    if not found <= set(GIVEN):
        wrong = ", ".join(sorted(found - set(GIVEN)))
        raise TypeError(f"the metric {name!r} wants {wrong}; a metric's positional parameters are among {', '.join(GIVEN)}")
    return frozenset(found)


def bind(name: str, labels: LabelSpace | None = None, arguments: Mapping[str, Any] | None = None) -> Measure:
    """A metric with its arguments and labels settled, to be called with what is said and what is so.

    Raises RecipeError for an argument that the metric does not take; UnknownName. What it returns raises TypeError where the
    metric wants probabilities or rows and is called without.
    """
    metric = catalog.metrics.get(name)
    wanted = inputs(name)
    options = catalog.metrics.check(name, arguments or {})

    def measure(
        predictions: Any,
        references: Any,
        probabilities: Any = None,
        rows: Sequence[Example] | None = None,
        quantiles: Any = None,
    ) -> float:
        if probabilities is None and "probabilities" in wanted:
            raise TypeError(f"the metric {name!r} needs probabilities")
        if quantiles is None and "quantiles" in wanted:
            raise TypeError(f"the metric {name!r} needs quantiles")
        if rows is None and "rows" in wanted:
            raise TypeError(f"the metric {name!r} needs rows, the Examples in the order of the predictions")
        given = {
            "predictions": predictions,
            "references": references,
            "probabilities": probabilities,
            "quantiles": quantiles,
            "labels": labels,
            "rows": rows,
        }
        return float(metric(**{key: given[key] for key in wanted}, **options))

    return measure
