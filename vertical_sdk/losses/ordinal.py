"""Losses for labels that have an order: a far miss costs more than a near one."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vertical_sdk.catalog import NotNegative, Share, losses
from vertical_sdk.losses.classification import class_weights, mean, select_labelled
from vertical_sdk.types import LabelSpace

__all__ = ["earth_mover"]


@losses.register("earth_mover", tasks=("ordinal",))
def earth_mover(
    logits: Tensor,
    labels: Tensor,
    space: LabelSpace,
    *,
    weight: NotNegative = 1.0,
    beta: Share = 0.0,
    smoothing: Share = 0.0,
) -> Tensor:
    """Cross-entropy plus the squared earth mover's distance to the label, along the labels' order (Hou et al., 2016).

    logits     (batch, classes)  float, classes in order
    labels     (batch,)          int64, IGNORE for rows without a label
    weight     of the distance; 0 is cross-entropy
    beta       of the class balance by effective number of rows (Cui et al., 2019), for both terms, so that rare ends of the scale are
               not pulled to a frequent middle; 0: all labels weigh the same; towards 1: as 1/n
    smoothing  share of the probability that is spread over all labels, in the cross-entropy
    returns    ()                mean over labelled rows, 0 if there are none

    CORN (Shi, Cao and Raschka, 2021) has K - 1 outputs, P(label > k given label >= k). With a softmax over K labels, as here, their
    product is the label's probability: the likelihood is cross-entropy, which ignores distance.
    """
    rows, target = select_labelled(logits, labels)
    reached = rows.softmax(-1).cumsum(-1)
    wanted = F.one_hot(target, logits.shape[-1]).to(rows).cumsum(-1)
    distance = (reached - wanted).square().sum(-1)
    values = F.cross_entropy(rows, target, reduction="none", label_smoothing=smoothing) + weight * distance
    return mean(values * class_weights(space, beta).to(logits)[target], logits)
