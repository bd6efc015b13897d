# ruff: noqa: ARG001, ARG002  (all baselines are given the same things)
"""A linear model on the pixels themselves: what a picture tells without anything that knows pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vertical_sdk.baselines.fitted import Arrays, as_bytes, from_bytes
from vertical_sdk.catalog import baselines
from vertical_sdk.errors import DataError
from vertical_sdk.families.head import Head, fit_probe
from vertical_sdk.outputs import Outputs
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, LabelSpace, Task

__all__ = ["Pixels", "pixels"]


@dataclass(frozen=True, eq=False)
class Pixels:
    """A linear layer on the greys of small pictures, side × side."""

    task: Task
    side: int
    head: Head

    def ask(self, rows: Sequence[Example], base: Any) -> Outputs:
        """Probabilities of the labels, or numbers."""
        with torch.inference_mode():
            return get_task(self.task).decode(self.head(_greys(rows, self.side)).numpy())

    def arrays(self) -> Arrays:
        """The layer's weights."""
        state = {key: value.numpy() for key, value in self.head.state_dict().items()}
        return {"kept": as_bytes({"task": self.task, "side": self.side})} | state

    @classmethod
    def of(cls, arrays: Arrays) -> Pixels:
        """The same again."""
        kept = from_bytes(arrays["kept"])
        outputs, width = arrays["linear.weight"].shape
        head = Head(width, outputs)
        head.load_state_dict({key: torch.from_numpy(value) for key, value in arrays.items() if key != "kept"})
        return cls(kept["task"], kept["side"], head)


@baselines.register(
    "pixels",
    tasks=("classification", "ordinal", "multilabel", "regression"),
    title="linear model of pixels",
    saves_as=Pixels,
    classical=3,
)
def pixels(
    train: Sequence[Example],
    labels: LabelSpace | None,
    task: Task,
    seed: int,
    base: Any,
    *,
    side: Annotated[int, Field(ge=2, le=128)] = 28,
    C: Annotated[float, Field(gt=0)] = 0.01,  # noqa: N803  (scikit-learn's name)
) -> Pixels:
    """Logistic regression, or ridge regression for numbers, on the greys of pictures that are brought to side × side.

    C  inverse strength of the L2 penalty

    Raises DataError where there are no training rows, or a row is no picture.
    """
    if not train:
        raise DataError("pixels: there are no training rows.")
    truth = get_task(task).references(train, labels)
    return Pixels(task, side, fit_probe(_greys(train, side), truth, task, len(labels) if labels else 1, seed=seed, strength=C))


def _greys(rows: Sequence[Example], side: int) -> Tensor:
    """(rows, side²) float32 of -1 to 1, each pixel the mean of what falls together in it."""
    made = []
    for row in rows:
        if row.values is None or row.values.ndim not in {2, 3}:
            raise DataError(f"pixels: row {row.id} is no picture (height, width) or (height, width, 3).")
        whole = torch.from_numpy(row.values.astype(np.float32))
        grey = whole.mean(dim=2) if whole.ndim == 3 else whole
        made.append(F.adaptive_avg_pool2d(grey[None], side).flatten())
    return torch.stack(made) / 127.5 - 1
