"""Losses for a number. Errors are taken in units of the training targets' spread, so that learning rates carry over."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vertical_sdk.catalog import NotNegative, Share, losses
from vertical_sdk.losses.classification import mean

__all__ = ["huber", "quantile", "squared_error"]


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
    """The squared error for small errors, the absolute one for large ones, which outliers pull at less (Huber, 1964).

    logits   (batch, 1)  in the target's unit
    labels   (batch,)    in the target's unit
    scale    the spread of the training targets, in the same unit
    delta    where small ends, in units of scale
    returns  ()          mean over rows, 0 if there are none
    """
    error = logits[:, 0] / scale
    return mean(F.huber_loss(error, (labels / scale).to(error), reduction="none", delta=delta), logits)


@losses.register("quantile", tasks=("regression",))
def quantile(logits: Tensor, labels: Tensor, scale: float, *, level: Share = 0.5) -> Tensor:
    """The pinball loss, whose least expected value is at a quantile (Koenker and Bassett, 1978).

    logits   (batch, 1)  in the target's unit
    labels   (batch,)    in the target's unit
    scale    the spread of the training targets, in the same unit
    level    the share of truths that should lie below what is said; 0.5 is the median, and half the absolute error
    returns  ()          mean over rows, in units of scale, 0 if there are none
    """
    missed = (labels - logits[:, 0]) / scale
    return mean(torch.maximum(level * missed, (level - 1) * missed), logits)
