"""Training without padding: whether a base can, and the loss of rows that lie one after another.

A base can if it reads tokens by their positions and attends through transformers' interface, with nothing that depends on the place
in a batch. That is not known by its name but tried: some rows are read padded and without padding, and the features must agree.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from vertical_sdk.families.batching import Encoded
from vertical_sdk.families.specialist import Specialist, has_fast_path
from vertical_sdk.kernels.attention import knows_layouts
from vertical_sdk.kernels.chunked_loss import chunked_loss
from vertical_sdk.kernels.precision import exact_weights
from vertical_sdk.training.frozen_layers import FrozenLayers

__all__ = ["find_obstacle", "packed_loss"]

TOLERANCE = 1e-4
"""Of the largest feature: what the features may differ by in float32, since sums are rounded in another order."""


def find_obstacle(specialist: Specialist, rows: Sequence[Encoded], *, checkpointing: bool) -> str:
    """Return why these rows are padded in training; "" if they need not be.

    checkpointing  activations are computed again in the backward pass, which does not know the layout
    """
    if not has_fast_path(specialist, "pack") or not rows:
        return "this family of bases has no tokens to put one after another"
    if next(specialist.backbone.parameters()).device.type != "cpu":
        return "attention without padding is for a CPU"
    if checkpointing:
        return "gradient_checkpointing is on"
    if not knows_layouts(specialist.backbone):
        return "the base has an attention of its own"
    chosen = sorted(rows, key=lambda row: row.length)
    return _compare_features(specialist, [chosen[0], chosen[len(chosen) // 2], chosen[-1]])


def _compare_features(specialist: Any, rows: Sequence[Encoded]) -> str:
    """Say how the features of padded and of packed rows differ in float32; "" if they agree."""
    specialist.backbone.eval()
    with torch.no_grad(), exact_weights(specialist.backbone):
        padded = specialist.features(specialist.collate(rows)).float()
        try:
            packed = specialist.features(specialist.pack(rows)).float()
        except (NotImplementedError, TypeError, ValueError, RuntimeError, IndexError, AttributeError) as error:
            return f"the base cannot be read without ({str(error).splitlines()[0][:200]})"
    difference = float((padded - packed).abs().max())
    return (
        ""
        if difference <= TOLERANCE * float(padded.abs().max())
        else f"the base answers otherwise without (by {difference:.2g})"
    )


def packed_loss(
    model: Any, specialist: Specialist, part: Sequence[Encoded], loss: Callable[..., Tensor], lower: FrozenLayers | None = None
) -> Tensor:
    """The mean loss of some rows, read without padding.

    model  the specialist, or what accelerate made of it
    lower  what the layers below the trained ones compute, if it is kept
    """
    own: Any = specialist
    batch = own.pack(part)
    with lower.use(part, batch["layout"]) if lower is not None else contextlib.nullcontext():
        outputs, targets = model(batch)
    names = ["avoid"] if "avoid" in batch else []
    if "reads" not in batch:
        return loss(outputs.float(), targets)
    if (layer := own.output_layer) is None:
        return loss(own.read_logits(outputs).float(), targets, **{name: batch[name] for name in names})
    call = functools.partial(_call, loss, own.logit_change, names)
    return chunked_loss(outputs, layer, call, targets, *(batch[name] for name in names))


def _call(
    loss: Callable[..., Tensor],
    change: Callable[[Tensor], Tensor] | None,
    names: Sequence[str],
    numbers: Tensor,
    targets: Tensor,
    *more: Tensor,
) -> Tensor:
    logits = numbers if change is None else change(numbers)
    return loss(logits, targets, **dict(zip(names, more, strict=True)))
