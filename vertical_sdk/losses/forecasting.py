"""Losses for what comes next in series. What is not known of the target counts nothing; errors are in units of the targets' spread."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vertical_sdk.catalog import losses
from vertical_sdk.errors import RecipeError
from vertical_sdk.losses.classification import mean

__all__ = ["masked_mae", "masked_mean", "pinball", "residuals"]


@losses.register("masked_mae", tasks=("forecasting", "anomaly"))
def masked_mae(logits: Tensor, labels: Tensor, scale: float) -> Tensor:
    """The absolute error of the median.

    logits   (rows, horizon, channels, quantiles)  in the target's unit, the median first
    labels   (rows, horizon, channels)             in the target's unit, NaN where it is not known
    scale    the spread of the training targets, in the same unit
    returns  ()  mean over rows of each row's mean, in units of scale; rows of which nothing is known count nothing
    """
    error, known = residuals(logits, labels, scale)
    return masked_mean(error.abs(), known, logits)


@losses.register("pinball", tasks=("forecasting", "anomaly"))
def pinball(logits: Tensor, labels: Tensor, scale: float, quantiles: Sequence[float]) -> Tensor:
    """The quantile loss (Koenker and Bassett, 1978): max(q (y - f), (q - 1) (y - f)), which is least where f is the quantile q.

    logits     (rows, horizon, channels, quantiles)  in the target's unit
    labels     (rows, horizon, channels)             in the target's unit, NaN where it is not known
    scale      the spread of the training targets, in the same unit
    quantiles  the levels of the outputs, between 0 and 1
    returns    ()  mean over rows of each row's mean over steps, channels and quantiles, in units of scale, times 2: so that the median
               alone has its absolute error

    Raises RecipeError where there are not as many outputs as levels.
    """
    if logits.shape[-1] != len(quantiles):
        raise RecipeError(f"loss: pinball: {logits.shape[-1]} outputs for the {len(quantiles)} quantiles {list(quantiles)}.")
    known = ~labels.isnan()
    level = torch.tensor(tuple(quantiles), dtype=logits.dtype, device=logits.device)
    off = (labels.nan_to_num().to(logits)[..., None] - logits) / scale
    each = torch.maximum(level * off, (level - 1) * off).mean(-1)
    return 2 * masked_mean(each, known, logits)


def residuals(logits: Tensor, labels: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Errors of the median (rows, horizon, channels) in units of scale, 0 where the truth is not known; and where it is known."""
    known = ~labels.isnan()
    error = (logits[..., 0] - labels.nan_to_num().to(logits)) / scale
    return error * known, known


def masked_mean(values: Tensor, known: Tensor, logits: Tensor) -> Tensor:
    """The mean over rows of each row's mean over what is known of (rows, ...); 0, with a gradient of 0, where nothing is."""
    count = known.flatten(1).sum(1)
    each = (values * known).flatten(1).sum(1) / count.clamp_min(1)
    return mean(each[count > 0], logits)
