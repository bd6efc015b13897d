"""What a system said about rows, in one shape for adapters, base models and baselines, beside what is true of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.errors import DataError, did_you_mean
from vertical_sdk.types import NO_ANSWER, Example, LabelSpace, Task

__all__ = ["Outputs", "alarms", "answer", "prompt", "references"]


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a system said, row by row.

    probabilities (rows, labels); a row of zeros means that the system's answer could not be read
    values    (rows,) numbers, for regression; (rows, steps, channels) for forecasting
    quantiles (rows, steps, channels, q) for forecasting with quantiles, the median first
    texts     one a row, for generation
    unparsed  rows whose answer could not be read
    offsets   (labels,) added to log-probabilities (log-odds for multilabel) before labels are chosen (`models.decision`)
    threshold anomaly: `values` are scores (rows,) from 0 without bound, and from here on they are alarms; `probabilities` has their order
    """

    probabilities: NDArray[np.float64] | None = None
    values: NDArray[np.float64] | None = None
    quantiles: NDArray[np.float64] | None = None
    texts: list[str] | None = None
    unparsed: int = 0
    offsets: NDArray[np.float64] | None = None
    threshold: float | None = None

    def predictions(self, task: Task) -> Any:
        """The predictions as the task's metrics want them (see `vertical_sdk.metrics`).

        Raises ValueError where the outputs are not those of this task.
        """
        if task == "generation" and self.texts is not None:
            return self.texts
        if task == "anomaly" and self.values is not None and self.threshold is not None:
            return (self.values >= self.threshold).astype(np.int64)
        if task in {"regression", "forecasting"} and self.values is not None:
            return self.values
        if task == "multilabel" and self.probabilities is not None:
            least = 0.5 if self.offsets is None else 1 / (1 + np.exp(self.offsets))
            return (self.probabilities >= least).astype(np.int64)
        if task in {"classification", "ordinal"} and self.probabilities is not None:
            best = self.probabilities if self.offsets is None else np.log(self.probabilities.clip(1e-300)) + self.offsets
            return np.where(self.probabilities.max(axis=1) > 0, best.argmax(axis=1), NO_ANSWER).astype(np.int64)
        raise ValueError(f"these outputs are not those of {task}")


def alarms(values: NDArray[np.float64], threshold: float | None) -> Outputs:
    """Outputs of a detector: `values` from 0 without bound, and in `scores` s / (1 + s), for metrics that only look at their order."""
    share = values / (1 + values)
    return Outputs(probabilities=np.stack([1 - share, share], axis=1), values=values, threshold=threshold)


def references(rows: Sequence[Example], labels: LabelSpace | None, task: Task) -> Any:
    """The truth about rows, in the shape of `Outputs.predictions`.

    Raises DataError for a row whose target is missing or no label of the task.
    """
    if task == "generation":
        return [answer(row) for row in rows]
    if task == "regression":
        return np.array([_number(row) for row in rows], dtype=np.float64)
    if task == "forecasting":
        return np.stack([np.asarray(row.target, dtype=np.float64) for row in rows])
    if task == "anomaly":
        return np.array([dict(row.record).get("anomaly") == 1 for row in rows], dtype=np.int64)
    if labels is None:
        raise ValueError(f"{task} needs labels")
    place = {label: i for i, label in enumerate(labels.labels)}
    if task == "multilabel":
        table = np.zeros((len(rows), len(labels)), dtype=np.int64)
        for i, row in enumerate(rows):
            for label in row.target if isinstance(row.target, tuple) else (row.target,):
                table[i, _position(row, label, place)] = 1
        return table
    return np.array([_position(row, row.target, place) for row in rows], dtype=np.int64)


def prompt(row: Example) -> str:
    """What is asked: all turns but the answer, or the text of a row that has no conversation."""
    if not row.messages:
        return row.text
    turns = row.messages[:-1] if row.messages[-1].role == "assistant" else row.messages
    return "\n".join(turn.content for turn in turns)


def answer(row: Example) -> str:
    """The answer that a row of a conversation holds.

    Raises DataError where it has none.
    """
    if row.messages and row.messages[-1].role == "assistant":
        return row.messages[-1].content
    raise DataError(f"row {row.id}: has no answer; the last turn of a conversation must be the assistant's.")


def _position(row: Example, label: object, place: dict[str, int]) -> int:
    if isinstance(label, str) and label in place:
        return place[label]
    hint = did_you_mean(label, place) if isinstance(label, str) else ""
    raise DataError(f"row {row.id}: {label!r} is no label of this task.{hint} Labels: {', '.join(place)}.")


def _number(row: Example) -> float:
    if isinstance(row.target, int | float):
        return float(row.target)
    raise DataError(f"row {row.id}: the target must be a number, not {row.target!r}.")
