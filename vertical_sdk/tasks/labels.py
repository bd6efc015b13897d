"""What the tasks with labels share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vertical_sdk.errors import DataError, did_you_mean
from vertical_sdk.outputs import Outputs
from vertical_sdk.tasks.task import Floats
from vertical_sdk.types import Example, LabelSpace

__all__ = ["SMALLEST", "clip_probabilities", "label_position", "label_positions", "require_labels", "require_probabilities"]

SMALLEST = 1e-6
"""Probabilities are kept this far from 0 and 1 when systems are pooled, so that one certain member cannot silence the others."""


def require_labels(labels: LabelSpace | None, task: str) -> LabelSpace:
    """Return the labels.

    Raises DataError if there are none.
    """
    if labels is None:
        raise DataError(f"{task} needs labels.")
    return labels


def require_probabilities(outputs: Outputs, task: str) -> Any:
    """Return the probabilities (rows, labels).

    Raises ValueError for the outputs of another task.
    """
    if outputs.probabilities is None:
        raise ValueError(f"these outputs are not those of {task}")
    return outputs.probabilities


def clip_probabilities(outputs: Outputs, task: str) -> Floats:
    """Return probabilities (rows, labels) that are at least SMALLEST away from 0 and 1."""
    return np.asarray(np.clip(require_probabilities(outputs, task).astype(np.float64), SMALLEST, 1 - SMALLEST))


def label_positions(labels: LabelSpace) -> dict[str, int]:
    """Map each label to its position in the outputs."""
    return {label: position for position, label in enumerate(labels.labels)}


def label_position(row: Example, label: object, positions: Mapping[str, int]) -> int:
    """Look up the position of a row's label.

    Raises DataError that names the row and the nearest label.
    """
    if isinstance(label, str) and label in positions:
        return positions[label]
    hint = did_you_mean(label, positions) if isinstance(label, str) else ""
    raise DataError(f"row {row.id}: {label!r} is not a label of this task.{hint} Labels: {', '.join(positions)}.")


def encode_labels(target: object, labels: LabelSpace) -> Sequence[int]:
    """Look up the positions of a row's labels.

    Raises DataError for a label that the label space does not have.
    """
    chosen = target if isinstance(target, tuple) else (target,)
    try:
        return [labels.index(str(label)) for label in chosen]
    except KeyError as error:
        raise DataError(
            f"the label {error.args[0]!r} is not in the training rows. Known labels: {', '.join(labels.labels)}."
        ) from None
