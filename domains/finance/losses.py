"""Losses for decisions about money: what mistakes cost, and the sign of a return."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vertical_sdk.catalog import NotNegative, Share, losses
from vertical_sdk.errors import RecipeError
from vertical_sdk.losses.classification import mean, select_labelled
from vertical_sdk.types import LabelSpace

__all__ = ["cost_sensitive", "signed_return"]

Costs = tuple[tuple[NotNegative, ...], ...]
Positive = Annotated[float, Field(gt=0)]
PUBLISHED: Costs = ((0.0, 1.0), (5.0, 0.0))
"""German credit data: a bad risk accepted costs 5, a good one refused 1. Rows are the truth, columns the decision."""


@losses.register("finance.cost_sensitive", tasks=("classification", "ordinal"))
def cost_sensitive(
    logits: Tensor,
    labels: Tensor,
    space: LabelSpace,
    *,
    costs: Costs = PUBLISHED,
    cross_entropy: Share = 0.5,
    softness: Positive = 0.1,
) -> Tensor:
    """What the decisions that the probabilities lead to would cost, with a share of cross-entropy (after Elkan, 2001).

    logits         (batch, classes)  float
    labels         (batch,)          int64, IGNORE for rows without a label
    costs          (classes, classes): row by truth, column by decision, each from 0
    cross_entropy  share of the mixture; 1 is cross-entropy alone
    softness       how soft the choice of the cheapest decision is, in units of the largest cost; towards 0 it is hard
    returns        ()                mean over labelled rows, 0 if there are none, in units of the largest cost

    With p = softmax(logits) and costs C, scaled to a largest of 1, decision j has the expected cost E_j = sum_k p_k C[k, j]. It
    is taken with probability softmax(-E / softness)_j, and costs C[label, j]. So the costs are in the decision, as the metric
    `finance.cost` has them, and the probabilities need not be bent to make up for them; the plain sum_k p_k C[label, k] would
    bend them, and costs would then be counted twice. Cross-entropy keeps probabilities honest away from the threshold.
    """
    matrix = as_matrix(costs, len(space)).to(logits)
    rows, target = select_labelled(logits, labels)
    expected = rows.softmax(-1) @ matrix
    taken = (-expected / softness).softmax(-1)
    cost = (taken * matrix[target]).sum(-1)
    surprise = F.cross_entropy(rows, target, reduction="none")
    return mean(cross_entropy * surprise + (1 - cross_entropy) * cost, logits)


def as_matrix(costs: Costs, size: int) -> Tensor:
    """The costs (size, size), scaled so that the largest is 1.

    Raises RecipeError for another shape, or if all costs are 0.
    """
    if len(costs) != size or any(len(row) != size for row in costs):
        raise RecipeError(f"costs: {len(costs)} rows of {[len(row) for row in costs]}; {size} rows of {size} are needed.")
    matrix = torch.tensor(costs, dtype=torch.float64)
    if not matrix.max() > 0:
        raise RecipeError("costs: nothing costs anything, so nothing can be learned from them.")
    return matrix / matrix.max()


@losses.register("finance.signed_return", tasks=("regression",))
def signed_return(logits: Tensor, labels: Tensor, scale: float, *, cap: Positive = 3.0) -> Tensor:
    """Logistic loss of the sign, in which a large return counts more, up to a cap.

    logits   (batch, 1)  in the target's unit; only sign and size relative to scale matter
    labels   (batch,)    returns
    scale    the spread of the training returns, in the same unit
    cap      the largest weight, in units of scale, so that one crash does not decide what is learned
    returns  ()          mean over rows, 0 if there are none

    A row costs min(|return| / scale, cap) * log(1 + exp(-sign(return) * logit / scale)): what a position loses by the wrong
    sign grows with the return. A return of 0 costs nothing. The output is a bet in units of scale, no forecast of the return.
    """
    returns = labels.to(logits)
    weights = (returns.abs() / scale).clamp(max=cap)
    return mean(weights * F.softplus(-returns.sign() * logits[:, 0] / scale), logits)
