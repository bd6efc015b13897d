"""Losses for roads: forecasts whose errors run smoothly along the graph, and casualties that must not be missed."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vertical_sdk.catalog import NotNegative, Share, losses
from vertical_sdk.errors import RecipeError
from vertical_sdk.losses.classification import mean, select_labelled
from vertical_sdk.losses.forecasting import masked_mean, residuals
from vertical_sdk.types import LabelSpace

__all__ = ["missed_harm", "roughness", "smooth_mae"]


@losses.register("traffic.smooth_mae", tasks=("forecasting", "anomaly"))
def smooth_mae(logits: Tensor, labels: Tensor, scale: float, graph: Tensor, *, weight: NotNegative = 0.05) -> Tensor:
    """The absolute error of the median, and a share of how rough the errors are along the road.

    logits   (rows, horizon, channels, quantiles)  in the target's unit, the median first
    labels   (rows, horizon, channels)             in the target's unit; NaN if unknown
    scale    the spread of the training targets, in the same unit
    graph    (channels, channels)  how near two channels are, from 0
    weight   of the roughness; 0 is masked_mae
    returns  ()  mean over rows of each row's mean; rows of which nothing is known count nothing

    With errors e in units of scale, the roughness of a step is sum_ij w_ij (e_i - e_j)² / sum_ij w_ij over the pairs whose truth is
    known: twice the quadratic form of the graph's Laplacian (Belkin, Niyogi and Sindhwani, 2006), here of the errors and not of the
    forecasts. A queue ends between two sensors, and a forecast may have that edge; what both get wrong by the same amount costs
    nothing here, what only one of them gets wrong is likely noise that it has fitted.
    """
    error, known = residuals(logits, labels, scale)
    value = masked_mean(error.abs(), known, logits)
    if not weight:
        return value
    rough = roughness(error, known, graph)
    seen = known.flatten(1).any(dim=1)
    return value + weight * mean(rough.mean(dim=1)[seen], logits)


def roughness(error: Tensor, known: Tensor, graph: Tensor) -> Tensor:
    """(rows, horizon) of errors (rows, horizon, channels), which are 0 if unknown; 0 if no pair is known."""
    near = graph.to(error).clamp_min(0)
    near = near - torch.diag(near.diagonal())
    seen = known.to(error)
    pairs = seen @ near * seen
    weights = near + near.T
    whole = (error.square() * (seen @ weights) * seen).sum(-1) - 2 * ((error @ near) * error).sum(-1)
    return whole / pairs.sum(-1).clamp_min(1e-9) * (pairs.sum(-1) > 0)


@losses.register("traffic.missed_harm", tasks=("classification",))
def missed_harm(
    logits: Tensor,
    labels: Tensor,
    space: LabelSpace,
    *,
    missed: Annotated[float, Field(gt=0)] = 3.0,
    cross_entropy: Share = 0.5,
) -> Tensor:
    """What soft decisions between two labels cost, where a missed second one costs more, with a share of cross-entropy (after Elkan, 2001).

    logits         (batch, 2)  float
    labels         (batch,)    int64, IGNORE for rows without a label
    missed         what it costs to miss the second label; the first one taken for it costs 1
    cross_entropy  share of the mixture; 1 is cross-entropy alone, which keeps probabilities honest
    returns        ()          mean over labelled rows, 0 if there are none, in units of the larger cost

    The second label is predicted if its probability is above 1 / (1 + missed), the threshold that costs least; the decision is soft, with
    the log-odds above the threshold as its own log-odds. So the costs move the decision and need not bend the probabilities.

    Raises RecipeError for another number of labels.
    """
    if len(space) != 2:
        raise RecipeError(f"loss: traffic.missed_harm: is for two labels, and there are {len(space)}.")
    kept, target = select_labelled(logits, labels)
    odds = kept[:, 1] - kept[:, 0] + torch.log(torch.tensor(missed, dtype=kept.dtype, device=kept.device))
    harmed = target == 1
    cost = torch.where(harmed, missed * torch.sigmoid(-odds), torch.sigmoid(odds)) / max(missed, 1.0)
    surprise = F.cross_entropy(kept, target, reduction="none")
    return mean(cross_entropy * surprise + (1 - cross_entropy) * cost, logits)
