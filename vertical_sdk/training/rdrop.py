"""R-Drop (`train.rdrop_alpha`): two passes with different dropout should give the same probabilities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from vertical_sdk.errors import RecipeError
from vertical_sdk.losses import IGNORE

__all__ = ["rdrop_loss", "require_dropout"]


def rdrop_loss(
    loss: Callable[..., Tensor], alpha: float, outputs: Tensor, targets: Tensor, *, exclusive: bool, **more: Tensor
) -> Tensor:
    """Mean loss of two passes, plus alpha times the symmetric Kullback-Leibler divergence between their probabilities (Wu et al., 2021).

        ½ (L(p) + L(q)) + alpha · ½ (KL(p‖q) + KL(q‖p)) = ½ (L(p) + L(q)) + alpha · ½ Σ (p - q)(a - b)

    with p, q the probabilities of the logits a, b. So the authors' program computes it; the paper adds both losses without ½, so its
    alpha is twice this one. Both L are the recipe's own loss.

    outputs    (2 · rows, k) float  logits of the rows in the first pass, then of the same rows in the second
    targets    as the loss takes them, of both passes; rows with IGNORE count in neither term
    exclusive  softmax over k, summed over it; else each of k labels has a sigmoid of its own, and the mean over labels is taken, as the
               losses of many labels do
    returns    ()  mean over rows
    """
    first, second = outputs.chunk(2)
    p, q = (first.softmax(-1), second.softmax(-1)) if exclusive else (first.sigmoid(), second.sigmoid())
    products = (p - q) * (first - second)
    values = products.sum(-1) if exclusive else products.mean(-1)
    if exclusive:
        values = values[targets.chunk(2)[0] != IGNORE]
    divergence = values.mean() / 2 if len(values) else outputs.sum() * 0.0
    return loss(outputs, targets, **more) + alpha * divergence


def require_dropout(specialist: Any, where: str) -> None:
    """Check that two passes of a specialist differ.

    Raises RecipeError if nothing in it drops numbers.
    """
    if not any(module.p > 0 for module in specialist.modules() if isinstance(module, nn.Dropout)):
        raise RecipeError(
            "rdrop_alpha compares two passes with different dropout, and nothing in this specialist has dropout. Set "
            "adapter.lora_dropout above 0; on an encoder or a vision base, head.dropout does too.",
            where=where,
        )
