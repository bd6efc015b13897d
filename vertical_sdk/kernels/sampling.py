"""The choice of the next token by its score."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

__all__ = ["penalize", "sample_token"]

FIRST = 256
"""Tokens that are sorted first: they usually have the probability `top_p` together, and a whole vocabulary takes long to sort."""


def penalize(scores: Tensor, seen: Collection[int], penalty: float) -> Tensor:
    """Lower the scores of tokens that are there already, by a penalty above 1 (Keskar et al., 2019, https://arxiv.org/abs/1909.05858).

    As in transformers, a positive score is divided by the penalty and another one multiplied by it.

    scores  (vocabulary,)
    seen    tokens; those that `scores` does not have are left out
    returns (vocabulary,), new
    """
    tokens = torch.tensor([token for token in seen if token < len(scores)], dtype=torch.long, device=scores.device)
    old = scores[tokens]
    return scores.index_copy(0, tokens, torch.where(old < 0, old * penalty, old / penalty))


def sample_token(scores: Tensor, draw: float, *, temperature: float = 1.0, top_k: int | None = None, top_p: float = 1.0) -> int:
    """Choose a token with its probability, softmax(scores / temperature), among the likeliest.

    scores  (vocabulary,)
    draw    a uniform random number in [0, 1): the same draw gives the same token
    top_k   only the `top_k` likeliest tokens
    top_p   of those, only the likeliest that have the probability `top_p` together, at least one (Holtzman et al., 2020)

    Tokens are in the order of their ids when the number is drawn, so that two of almost the same score in another order change nothing.
    """
    chances = torch.softmax(scores.double() / temperature, dim=-1)
    tokens: Tensor | None = None
    if top_k is not None and top_k < len(chances):
        chances, tokens = torch.topk(chances, top_k)
        chances = chances / chances.sum()
    if top_p < 1.0:
        if tokens is None:
            chances, tokens = _sort(chances, top_p)
        before = chances.cumsum(0) - chances
        count = int((before < top_p).sum())
        chances, tokens = chances[:count], tokens[:count]
    if tokens is not None:
        tokens, order = tokens.sort()
        chances = chances[order]
    sums = chances.cumsum(0)
    place = int(torch.searchsorted(sums, sums[-1] * draw, right=True).clamp(max=len(sums) - 1))
    return place if tokens is None else int(tokens[place])


def _sort(chances: Tensor, enough: float) -> tuple[Tensor, Tensor]:
    """The largest chances, which sum up to `enough`, with their tokens, the largest first."""
    if len(chances) > FIRST:
        largest, tokens = torch.topk(chances, FIRST)
        if float(largest.sum()) > enough:
            return largest, tokens
    largest, tokens = chances.sort(descending=True)
    return largest, tokens
