"""The predictions of a system in one form, for adapters, base models and baselines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.errors import DataError
from vertical_sdk.types import Example

__all__ = ["Outputs", "alarm_outputs", "answer_of", "join_outputs", "prompt_of", "select_outputs", "source_of"]


NUMBERS = ("probabilities", "values", "quantiles", "answered")
"""The outputs that have a row for each row."""


@dataclass(frozen=True, eq=False)
class Outputs:
    """The predictions of a system, row by row.

    probabilities (rows, labels); a row of zeros means that the system's answer could not be read
    values    (rows,) numbers, for regression; (rows, steps, channels) for forecasting
    quantiles (rows, steps, channels, q) for forecasting with quantiles, the median first
    texts     one a row, for generation
    unparsed  rows whose answer could not be read
    offsets   (labels,) added to log-probabilities (log-odds for multilabel) before labels are chosen; (rows, labels) if they differ
    threshold anomaly: `values` are scores (rows,) from 0 without bound, and from here on they are alarms; `probabilities` has their order
    answered  (rows,) bool: whether the confidence is high enough for the promise of the specialist; None if it has none
    """

    probabilities: NDArray[np.float64] | None = None
    values: NDArray[np.float64] | None = None
    quantiles: NDArray[np.float64] | None = None
    texts: list[str] | None = None
    unparsed: int = 0
    offsets: NDArray[np.float64] | None = None
    threshold: float | None = None
    answered: NDArray[np.bool_] | None = None


def select_outputs(outputs: Outputs, rows: NDArray[Any]) -> Outputs:
    """Return the outputs for some rows, by their positions or a mask; for labels and numbers."""
    offsets = outputs.offsets if outputs.offsets is None or outputs.offsets.ndim == 1 else outputs.offsets[rows]
    numbers = {name: part[rows] for name in NUMBERS if (part := getattr(outputs, name)) is not None}
    return replace(outputs, **numbers, offsets=offsets)


def join_outputs(parts: Sequence[tuple[Sequence[int], Outputs]]) -> Outputs:
    """Join outputs for parts of the rows, given with the positions of these rows, in the order of the rows; for labels and numbers."""
    order = np.argsort([place for places, _ in parts for place in places])
    outputs = [part for _, part in parts]

    def join(name: str) -> NDArray[Any] | None:
        arrays = [array for part in outputs if (array := getattr(part, name)) is not None]
        return np.concatenate(arrays)[order] if len(arrays) == len(outputs) else None

    probabilities, offsets = join("probabilities"), None
    if probabilities is not None and any(part.offsets is not None for part in outputs):
        shapes = [(len(places), probabilities.shape[1]) for places, _ in parts]
        rules = [
            np.zeros(shape[1]) if part.offsets is None else part.offsets for part, shape in zip(outputs, shapes, strict=True)
        ]
        offsets = np.concatenate([np.broadcast_to(rule, shape) for rule, shape in zip(rules, shapes, strict=True)])[order]
    unparsed = sum(part.unparsed for part in outputs)
    return Outputs(
        *(probabilities, join("values"), join("quantiles")), unparsed=unparsed, offsets=offsets, answered=join("answered")
    )


def alarm_outputs(values: NDArray[np.float64], threshold: float | None) -> Outputs:
    """Outputs of a detector: `values` from 0 without bound, and in `scores` s / (1 + s), for metrics that only look at their order."""
    share = values / (1 + values)
    return Outputs(probabilities=np.stack([1 - share, share], axis=1), values=values, threshold=threshold)


def prompt_of(row: Example) -> str:
    """Return the prompt of a row: all turns but the answer, or the text of a row without a conversation."""
    if not row.messages:
        return row.text
    turns = row.messages[:-1] if row.messages[-1].role == "assistant" else row.messages
    return "\n".join(turn.content for turn in turns)


def source_of(row: Example) -> str:
    """Return what the answer of a row is written from: its prompt without the instruction, which is the system's turn."""
    return prompt_of(replace(row, messages=tuple(turn for turn in row.messages if turn.role != "system")))


def answer_of(row: Example) -> str:
    """Return the answer at the end of a row's conversation.

    Raises DataError if there is no answer.
    """
    if row.messages and row.messages[-1].role == "assistant":
        return row.messages[-1].content
    raise DataError(f"row {row.id}: has no answer; the last turn of a conversation must be the assistant's.")
