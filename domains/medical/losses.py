"""Losses of the medical vertical."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vertical_sdk.catalog import NotNegative, Share, losses
from vertical_sdk.losses.classification import labelled, mean

from .faithfulness import make_unsupported_token_finder

SURE = 1e-6
"""How near to 1 the probability of a token to avoid is taken to come, so that its cost is finite."""


@losses.register("medical.faithful", tasks=("generation",), prepare=make_unsupported_token_finder)
def faithful(logits: Tensor, labels: Tensor, avoid: Tensor, *, weight: NotNegative = 0.5, smoothing: Share = 0.0) -> Tensor:
    """Cross-entropy of the answer's tokens, plus the unlikelihood of numbers and drugs of which the question does not speak.

    A token y with the tokens C to avoid in its place costs -log p(y) - weight · Σ log(1 - p(c)), the sum over c in C: token-level
    unlikelihood (Welleck et al., 2020, equation 3), with what would write an unsaid number or drug for candidates.

    logits   (tokens, vocabulary)  float
    labels   (tokens,)             int64, IGNORE where nothing is to be learned
    avoid    (tokens, most)        int64, ids of tokens that should not stand there; -1 where there are fewer
    weight   of the unlikelihood; 0 is cross_entropy
    returns  ()                    mean over labelled tokens, 0 if there are none
    """
    kept, target = labelled(logits, labels)
    values = F.cross_entropy(kept, target, reduction="none", label_smoothing=smoothing)
    ids = avoid[labels != -100]
    if weight and ids.shape[-1]:
        logp = kept.gather(1, ids.clamp(min=0)) - kept.logsumexp(-1, keepdim=True)
        cost = -(-logp.exp().clamp(max=1 - SURE)).log1p()
        values = values + weight * cost.masked_fill(ids < 0, 0.0).sum(-1)
    return mean(values, logits)
