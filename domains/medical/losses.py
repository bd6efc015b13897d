"""Losses of the medical vertical."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vertical_sdk.catalog import NotNegative, Share, losses
from vertical_sdk.losses.classification import IGNORE, mean, select_labelled

from .faithfulness import make_unsupported_token_finder

SURE = 1e-6
"""The probability of a token to avoid is clamped this far below 1, so that its cost is finite."""


@losses.register("medical.faithful", tasks=("generation",), prepare=make_unsupported_token_finder)
def faithful(logits: Tensor, labels: Tensor, avoid: Tensor, *, weight: NotNegative = 0.5, smoothing: Share = 0.0) -> Tensor:
    """Cross-entropy of the answer's tokens, plus the unlikelihood of numbers and drugs that the question does not contain.

    A token y with the tokens C to avoid in its place costs -log p(y) - weight · Σ log(1 - p(c)), the sum over c in C: token-level
    unlikelihood (Welleck et al., 2020, equation 3), with candidates that would write an unsupported number or drug.

    logits   (tokens, vocabulary)  float
    labels   (tokens,)             int64, IGNORE for tokens without a label
    avoid    (tokens, most)        int64, ids of tokens to avoid in its place, padded with -1
    weight   of the unlikelihood; 0 is cross_entropy
    returns  ()                    mean over labelled tokens, 0 if there are none
    """
    rows, target = select_labelled(logits, labels)
    values = F.cross_entropy(rows, target, reduction="none", label_smoothing=smoothing)
    ids = avoid[labels != IGNORE]
    if weight and ids.shape[-1]:
        logp = rows.gather(1, ids.clamp(min=0)) - rows.logsumexp(-1, keepdim=True)
        cost = -(-logp.exp().clamp(max=1 - SURE)).log1p()
        values = values + weight * cost.masked_fill(ids < 0, 0.0).sum(-1)
    return mean(values, logits)
