"""The pixel baseline: a linear model on small grey images, without a pretrained image model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vertical_sdk.baselines.fitted import Arrays, decode_json, encode_json, read_targets
from vertical_sdk.catalog import baselines
from vertical_sdk.errors import DataError
from vertical_sdk.families.head import Head, fit_probe, head_from_arrays, head_to_arrays
from vertical_sdk.outputs import Outputs
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, LabelSpace, TaskName

__all__ = ["Pixels", "pixels"]


@dataclass(frozen=True, eq=False)
class Pixels:
    """A linear layer on the grey values of small images, side × side."""

    task: TaskName
    side: int
    head: Head

    def predict(self, rows: Sequence[Example], base: Any) -> Outputs:
        """Predict probabilities of the labels, or numbers."""
        with torch.inference_mode():
            return get_task(self.task).decode(self.head(_grey_values(rows, self.side)).numpy())

    def to_arrays(self) -> Arrays:
        """Return the layer's weights."""
        return {"settings": encode_json({"task": self.task, "side": self.side})} | head_to_arrays(self.head)

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Pixels:
        """Restore the baseline from `to_arrays`."""
        settings = decode_json(arrays["settings"])
        side, head = settings["side"], head_from_arrays(arrays)
        if not isinstance(side, int) or not 2 <= side <= 128 or head.linear.in_features != side**2:
            raise ValueError(f"side is {side!r}, and linear.weight reads {head.linear.in_features} pixels")
        return cls(settings["task"], side, head)


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
    task: TaskName,
    seed: int,
    base: Any,
    *,
    side: Annotated[int, Field(ge=2, le=128)] = 28,
    C: Annotated[float, Field(gt=0)] = 0.01,  # noqa: N803  (scikit-learn's name)
) -> Pixels:
    """Fit logistic regression, or ridge regression for numbers, on the grey values of images scaled to side × side.

    C  inverse strength of the L2 penalty

    Raises DataError if there are no training rows, or a row does not contain an image.
    """
    truth = read_targets(train, labels, task)
    size = len(labels) if labels else 1
    return Pixels(task, side, fit_probe(_grey_values(train, side), truth, task, size, seed=seed, strength=C))


def _grey_values(rows: Sequence[Example], side: int) -> Tensor:
    """Scale images to (rows, side²) float32 from -1 to 1; each pixel is the mean of the pixels that fall into it."""
    scaled = []
    for row in rows:
        if row.values is None or row.values.ndim not in {2, 3}:
            raise DataError(
                f"Row {row.id} does not contain an image (height, width) or (height, width, 3), which the pixels baseline needs."
            )
        image = torch.from_numpy(row.values.astype(np.float32))
        grey = image.mean(dim=2) if image.ndim == 3 else image
        scaled.append(F.adaptive_avg_pool2d(grey[None], side).flatten())
    return torch.stack(scaled) / 127.5 - 1
