"""Losses for labels that belong to families: a miss inside the family costs less than one outside it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vertical_sdk.catalog import NotNegative, Share, losses
from vertical_sdk.losses.classification import class_weights, mean, select_labelled
from vertical_sdk.types import LabelSpace

__all__ = ["family_log_probabilities", "hierarchical"]


def family_log_probabilities(logits: Tensor, space: LabelSpace) -> Tensor:
    """The log-probability of each label's family: of the sum of the probabilities of all labels with the same parent.

    logits   (rows, labels)  float
    returns  (rows, labels)  at most 0; a label without a parent is a family of its own
    """
    parents = [space.parent(label) for label in space.labels]
    families = list(dict.fromkeys(parents))
    family = torch.tensor([families.index(parent) for parent in parents], device=logits.device)
    outside = family[None, :] != torch.arange(len(families), device=logits.device)[:, None]
    logp = logits.log_softmax(-1)
    return logp[:, None, :].masked_fill(outside, -torch.inf).logsumexp(-1)[:, family]


@losses.register("hierarchical", tasks=("classification",))
def hierarchical(
    logits: Tensor,
    labels: Tensor,
    space: LabelSpace,
    *,
    weight: NotNegative = 0.5,
    beta: Share = 0.0,
    gamma: NotNegative = 0.0,
    smoothing: Share = 0.0,
) -> Tensor:
    """Class-balanced cross-entropy of the label, plus `weight` times that of its family (parent).

    A row with label y costs w(y) · (-(1 - p(y))^gamma · log p(y) - weight · log Σ p(z)), the sum over the labels z with the
    parent of y: the cross-entropy at both levels of the tree, with the upper level's probabilities summed from below (as in
    Bertinetto et al., 2020, and Redmon and Farhadi, 2017). w(y) is the class balance of Cui et al. (2019).

    logits     (batch, classes)  float
    labels     (batch,)          int64, IGNORE for rows without a label
    weight     of the family's part; 0 is class_balanced
    beta       of the class balance; 0: all labels weigh the same; towards 1: as 1/n
    gamma      of the focal loss, in the label's own part; 0 switches it off
    smoothing  share of the probability that is spread over all labels, in the label's own part
    returns    ()                mean over labelled rows, 0 if there are none
    """
    rows, target = select_labelled(logits, labels)
    values = F.cross_entropy(rows, target, reduction="none", label_smoothing=smoothing)
    if gamma:
        values = values * (1 - rows.softmax(-1).gather(1, target[:, None])[:, 0]) ** gamma
    if weight:
        values = values - weight * family_log_probabilities(rows, space).gather(1, target[:, None])[:, 0]
    return mean(values * class_weights(space, beta).to(logits)[target], logits)
