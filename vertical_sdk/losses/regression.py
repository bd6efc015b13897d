"""Losses for a number. Errors are in units of the training targets' spread, so that learning rates carry over."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vertical_sdk.catalog import NotNegative, losses
from vertical_sdk.losses.classification import mean

__all__ = ["huber", "squared_error"]


@losses.register("squared_error", tasks=("regression",))
def squared_error(logits: Tensor, labels: Tensor, scale: float) -> Tensor:
    """The squared error.

    logits   (batch, 1)  in the target's unit
    labels   (batch,)    in the target's unit
    scale    the spread of the training targets, in the same unit
    returns  ()          mean over rows, in units of scale², 0 if there are none
    """
    return mean(((logits[:, 0] - labels) / scale).square(), logits)


@losses.register("huber", tasks=("regression",))
def huber(logits: Tensor, labels: Tensor, scale: float, *, delta: NotNegative = 1.0) -> Tensor:
    """The squared error for small errors, the absolute error for large ones, so that outliers count less (Huber, 1964).

    logits   (batch, 1)  in the target's unit
    labels   (batch,)    in the target's unit
    scale    the spread of the training targets, in the same unit
    delta    the largest small error, in units of scale
    returns  ()          mean over rows, 0 if there are none
    """
    error = logits[:, 0] / scale
    return mean(F.huber_loss(error, (labels / scale).to(error), reduction="none", delta=delta), logits)
