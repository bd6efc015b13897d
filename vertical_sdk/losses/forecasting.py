"""Losses of forecasts and quantiles. Unknown targets (NaN) do not count; errors are in units of the training targets' spread."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vertical_sdk.catalog import Share, losses
from vertical_sdk.errors import RecipeError
from vertical_sdk.losses.classification import mean

__all__ = ["masked_mae", "masked_mean", "quantile", "residuals"]


@losses.register("masked_mae", tasks=("forecasting", "anomaly"))
def masked_mae(logits: Tensor, labels: Tensor, scale: float) -> Tensor:
    """The absolute error of the median.

    logits   (rows, horizon, channels, quantiles)  in the target's unit, the median first
    labels   (rows, horizon, channels)             in the target's unit; NaN if unknown
    scale    the spread of the training targets, in the same unit
    returns  ()  mean over rows of each row's mean, in units of scale; rows without a known value do not count
    """
    error, known = residuals(logits, labels, scale)
    return masked_mean(error.abs(), known, logits)


@losses.register("quantile", tasks=("regression", "forecasting", "anomaly"))
def quantile(
    logits: Tensor, labels: Tensor, scale: float, quantiles: Sequence[float] = (0.5,), *, level: Share | None = None
) -> Tensor:
    """The pinball loss max(q (y - f), (q - 1) (y - f)), which is lowest if f is the quantile q (Koenker and Bassett, 1978).

    logits     (rows, horizon, channels, quantiles), or (rows, 1) for regression, in the target's unit
    labels     (rows, horizon, channels), or (rows,), in the target's unit; NaN if unknown
    scale      the spread of the training targets, in the same unit
    quantiles  the levels of the outputs, between 0 and 1
    level      the level of a single output in place of the median: the share of truths that should be below the prediction
    returns    ()  mean over rows of each row's mean over steps, channels and quantiles, in units of scale, times 2, so that the median
               alone has its absolute error; 0 if there are no rows

    Raises RecipeError if the number of outputs is not the number of levels.
    """
    levels = tuple(quantiles) if level is None else (level,)
    if logits.shape[-1] != len(levels):
        raise RecipeError(f"loss: quantile: {logits.shape[-1]} outputs for the {len(levels)} quantiles {list(levels)}.")
    known = ~labels.isnan()
    q = torch.tensor(levels, dtype=logits.dtype, device=logits.device)
    error = (labels.nan_to_num().to(logits)[..., None] - logits) / scale
    each = torch.maximum(q * error, (q - 1) * error).mean(-1)
    return 2 * masked_mean(each, known, logits)


def residuals(logits: Tensor, labels: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Errors of the median (rows, horizon, channels) in units of scale, 0 if the truth is unknown; and where it is known, bool."""
    known = ~labels.isnan()
    error = (logits[..., 0] - labels.nan_to_num().to(logits)) / scale
    return error * known, known


def masked_mean(values: Tensor, known: Tensor, logits: Tensor) -> Tensor:
    """The mean over rows of each row's mean over the known values of (rows, ...); 0, with a gradient of 0, if none are known."""
    count = known[:, None].flatten(1).sum(1)
    each = (values * known)[:, None].flatten(1).sum(1) / count.clamp_min(1)
    return mean(each[count > 0], logits)
