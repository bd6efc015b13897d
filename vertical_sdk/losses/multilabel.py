"""Losses for any number of labels at once."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vertical_sdk.catalog import NotNegative, Share, losses
from vertical_sdk.losses.classification import mean

__all__ = ["asymmetric", "binary_cross_entropy"]


@losses.register("binary_cross_entropy", tasks=("multilabel",))
def binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The negative log-probability of each label's presence or absence, averaged over labels.

    logits   (batch, labels)  float
    labels   (batch, labels)  0 or 1
    returns  ()               mean over rows, 0 if there are none
    """
    return mean(F.binary_cross_entropy_with_logits(logits, labels.to(logits), reduction="none").mean(-1), logits)


@losses.register("asymmetric", tasks=("multilabel",))
def asymmetric(
    logits: Tensor, labels: Tensor, *, gamma_positive: NotNegative = 0.0, gamma_negative: NotNegative = 4.0, clip: Share = 0.05
) -> Tensor:
    """Focal loss that forgives easy absences more than easy presences, for labels that are mostly absent (Ridnik et al., 2021).

    logits   (batch, labels)  float
    labels   (batch, labels)  0 or 1
    clip     absences with a probability below it cost nothing
    returns  ()               mean over rows, 0 if there are none
    """
    labels = labels.to(logits)
    present = logits.sigmoid()
    absent = (1 - present + clip).clamp(max=1)
    gain = labels * (1 - present) ** gamma_positive * present.clamp(min=1e-8).log()
    loss = (1 - labels) * (1 - absent) ** gamma_negative * absent.clamp(min=1e-8).log()
    return mean(-(gain + loss).mean(-1), logits)
