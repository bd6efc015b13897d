"""Our metrics as metrics of Hugging Face `evaluate`, without downloads, scripts and files on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import evaluate
import numpy as np
from datasets import Features, Value
from datasets import Sequence as Several

from vertical_sdk import catalog
from vertical_sdk.errors import DataError, did_you_mean
from vertical_sdk.metrics.measure import Measure, bind, inputs
from vertical_sdk.types import LabelSpace

__all__ = ["CatalogMetric", "as_evaluate"]

FORMATS = (Value("float64"), Value("string"), Several(Value("float64")), Several(Value("string")))
"""One prediction: a number or label position, a label or text, 0 and 1 for each label, the labels of a row."""


class CatalogMetric(evaluate.Metric):  # type: ignore[misc]
    """A metric of the catalog with the interface of `evaluate`: add, add_batch, compute."""

    def __init__(self, metric: str, labels: LabelSpace | None, arguments: Mapping[str, Any]) -> None:
        self._metric = metric
        self._labels = labels
        self._inputs = inputs(metric)
        if "rows" in self._inputs:
            raise TypeError(
                f"the metric {metric!r} looks at the rows themselves, which `evaluate` cannot pass. "
                f"Call bind({metric!r}, labels)(predictions, references, probabilities, rows) of vertical_sdk.metrics instead."
            )
        self._measure: Measure = bind(metric, labels, arguments)
        super().__init__(keep_in_memory=True, seed=0)
        self.info.module_name = metric

    def _info(self) -> evaluate.MetricInfo:
        more = {"probabilities": Several(Value("float64"))} if "probabilities" in self._inputs else {}
        return evaluate.MetricInfo(
            description=(catalog.metrics.get(self._metric).__doc__ or "").strip(),
            citation="",
            inputs_description="Label positions, labels, numbers or texts, as the task has them.",
            features=[Features({"predictions": format_, "references": format_, **more}) for format_ in FORMATS],
        )

    def _infer_feature_from_example(self, example: Mapping[str, Any]) -> Features:
        return self._infer_feature_from_batch({key: [value] for key, value in example.items()})

    def _infer_feature_from_batch(self, batch: Mapping[str, Any]) -> Features:
        """Choose the format of these rows by their types; `evaluate` would take the first one that they can be cast to."""
        rows = [*batch["predictions"], *batch["references"]]
        if rows and isinstance(rows[0], Sequence | np.ndarray) and not isinstance(rows[0], str):
            inner = [value for row in rows for value in row]
            named = isinstance(inner[0], str) if inner else self._labels is not None
            place = 3 if named else 2
        else:
            place = 1 if rows and isinstance(rows[0], str) else 0
        format_: Features = self.features[place]
        return format_

    def _compute(self, predictions: Any, references: Any, probabilities: Any = None, **_: Any) -> dict[str, float]:
        chances = None if probabilities is None else np.asarray(probabilities, np.float64)
        return {self._metric: self._measure(self._plain(predictions), self._plain(references), chances)}

    def _plain(self, values: Sequence[Any]) -> Any:
        """Convert values to the arrays that the catalog's metrics take, and labels to positions."""
        first = values[0] if len(values) else 0
        if isinstance(first, str):
            return np.array([self._position(v) for v in values], np.int64) if self._labels else list(values)
        if isinstance(first, list) and self._labels and all(isinstance(v, str) for row in values for v in row):
            table = np.zeros((len(values), len(self._labels)), np.int64)
            for i, row in enumerate(values):
                table[i, [self._position(label) for label in row]] = 1
            return table
        numbers = np.asarray(values, np.float64)
        whole = bool(np.isfinite(numbers).all() and (numbers == np.floor(numbers)).all())
        return numbers.astype(np.int64) if whole else numbers

    def _position(self, label: str) -> int:
        known = self._labels.labels if self._labels else ()
        if label not in known:
            raise DataError(
                f"{self._metric}: {label!r} is not a label of this task.{did_you_mean(label, known)} Labels: {', '.join(known)}."
            )
        return known.index(label)


def as_evaluate(name: str, labels: LabelSpace | None = None, **arguments: Any) -> CatalogMetric:
    """Wrap a metric of the catalog in `evaluate`'s interface. The result also works in `evaluate.combine([...])`.

        as_evaluate("macro_f1").compute(predictions=[0, 1], references=[0, 0])

    name       a name in the catalog of metrics
    labels     needed if predictions and references are label names instead of positions
    arguments  the metric's options

    Raises UnknownName; RecipeError for an argument that the metric does not take; TypeError for a metric that needs the rows
    themselves, which `evaluate` cannot pass.
    """
    return CatalogMetric(name, labels, arguments)
