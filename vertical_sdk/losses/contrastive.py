"""Losses that compare the rows of a batch with each other."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vertical_sdk.catalog import losses

__all__ = ["info_nce"]


@losses.register("info_nce", tasks=("contrastive",), compares_rows=True)
def info_nce(logits: Tensor, labels: Tensor, *, temperature: Annotated[float, Field(gt=0)] = 0.05) -> Tensor:
    """The negative log-probability of a row's counterpart among the other rows of its batch (InfoNCE; van den Oord et al., 2018).

    With s(i, j) the cosine similarity of the features of rows i and j, and P(i) the other rows with the key of i:

        L = mean over i of  1 / |P(i)| · Σ over p in P(i) of  -log( exp(s(i, p) / t) / Σ over j ≠ i of exp(s(i, j) / t) )

    With one counterpart a row it is the loss of SimCLR (Chen et al., 2020); with several, that of Khosla et al. (2020). The temperature t
    is that of SimCSE (Gao et al., 2021).

    logits   (batch, width)  features
    labels   (batch,)        int64 keys
    returns  ()              mean over rows with a counterpart, 0 if there are none
    """
    unit = F.normalize(logits, dim=-1)
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    likelihood = (unit @ unit.T / temperature).masked_fill(itself, -torch.inf).log_softmax(-1)
    counterpart = (labels[:, None] == labels[None, :]) & ~itself
    count = counterpart.sum(-1)
    surprise = -likelihood.masked_fill(~counterpart, 0.0).sum(-1) / count.clamp_min(1)
    return surprise[count > 0].mean() if bool((count > 0).any()) else logits.sum() * 0.0
