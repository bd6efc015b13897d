"""Losses for legal tasks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vertical_sdk.catalog import NotNegative, Share, losses
from vertical_sdk.losses.classification import class_weights, mean, select_labelled
from vertical_sdk.types import LabelSpace

__all__ = ["long_tail"]


@losses.register("legal.long_tail", tasks=("classification",))
def long_tail(
    logits: Tensor,
    labels: Tensor,
    space: LabelSpace,
    *,
    tau: NotNegative = 0.5,
    beta: Share = 0.9,
    smoothing: Share = 0.0,
) -> Tensor:
    """Class-balanced weights on logits that are moved by the labels' prior: the vector-scaling loss with scales of one.

    A row with label y costs w(y) · -log softmax(z + tau · log prior)[y], with w of Cui et al. (2019) and the prior of Menon et al.
    (2021); Kini et al. (2021) show why the two act differently: the weights early in training, the moved logits to its end.
    Each by itself already favours rare labels: with w as 1/n^a a perfect model would rank labels by p(y|x) / prior^(a + tau).
    So a + tau near 1 aims at equal recall of all labels, and more goes past it; a beta of 0.9 only lifts labels with fewer than
    some ten rows.

    logits     (batch, classes)  float
    labels     (batch,)          int64, IGNORE for rows without a label
    tau        strength of the prior; 0 is class_balanced
    beta       of the class balance; 0 is logit_adjusted
    smoothing  share of the probability that is spread over all labels
    returns    ()                mean over labelled rows, 0 if there are none
    """
    rows, target = select_labelled(logits, labels)
    counts = torch.tensor([max(1, space.counts.get(label, 0)) for label in space.labels]).to(logits)
    moved = rows + tau * (counts / counts.sum()).log()
    values = F.cross_entropy(moved, target, reduction="none", label_smoothing=smoothing)
    return mean(values * class_weights(space, beta).to(logits)[target], logits)
