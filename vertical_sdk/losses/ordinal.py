"""Losses for labels that have an order: a far miss costs more than a near one."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vertical_sdk.catalog import NotNegative, losses
from vertical_sdk.losses.classification import labelled, mean

__all__ = ["earth_mover"]


@losses.register("earth_mover", tasks=("ordinal",))
def earth_mover(logits: Tensor, labels: Tensor, *, weight: NotNegative = 1.0) -> Tensor:
    """Cross-entropy plus the squared earth mover's distance to the label, along the labels' order (Hou et al., 2016).

    logits   (batch, classes)  float, classes in order
    labels   (batch,)          int64, IGNORE where nothing is to be learned
    weight   of the distance; 0 is cross-entropy
    returns  ()                mean over labelled rows, 0 if there are none
    """
    kept, target = labelled(logits, labels)
    reached = kept.softmax(-1).cumsum(-1)
    wanted = F.one_hot(target, logits.shape[-1]).to(kept).cumsum(-1)
    distance = (reached - wanted).square().sum(-1)
    return mean(F.cross_entropy(kept, target, reduction="none") + weight * distance, logits)
