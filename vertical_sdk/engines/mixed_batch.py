"""Rows of several adapters in one pass through their base: each layer adds to each row its own adapter's part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vertical_sdk.families.batching import Encoded, micro_batches
from vertical_sdk.families.low_rank import AdaptedModel, mix_adapters
from vertical_sdk.families.specialist import Batch, Specialist, count_batch_tokens, has_fast_path

__all__ = ["can_mix", "run_mixed"]


def can_mix(specialist: Specialist) -> bool:
    """Whether a specialist's rows may share a pass with those of others: its adapter is plain LoRA, its family reads hidden states."""
    return isinstance(specialist.backbone, AdaptedModel) and has_fast_path(specialist, "read_hidden")


@dataclass(frozen=True, eq=False)
class _Segment:
    """Rows of one adapter within a batch."""

    specialist: Any
    positions: list[int]
    batch: Batch
    inputs: Batch

    @property
    def kind(self) -> tuple[Any, ...]:
        """What the segments of one pass have in common."""
        return type(self.specialist), *((key, value.ndim) for key, value in sorted(self.inputs.items()))


def run_mixed(
    specialists: Sequence[Specialist],
    rows: Sequence[Encoded],
    model: AdaptedModel,
    *,
    batch_size: int | None = None,
    bf16: bool = False,
    progress: Callable[[float], None] | None = None,
) -> list[Tensor]:
    """Compute the outputs of rows in length-sorted batches, without gradients.

    specialists  one for each row; `can_mix` is true of all
    model        of mixed batches: its layers include those of all the adapters
    batch_size   at most so many rows in a batch; None: as many as `count_batch_tokens` allows
    bf16         under autocast to bfloat16

    returns  (k,) float32 on the CPU for each row

    Raises UnmixableBatch for a base that cannot keep the rows of a batch apart.
    """
    order = {id(specialist): number for number, specialist in reversed(list(enumerate(specialists)))}
    device = next(model.parameters()).device
    outputs: dict[int, Tensor] = {}
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        for group in micro_batches([row.length for row in rows], count_batch_tokens(device), batch_size):
            kinds: dict[tuple[Any, ...], list[_Segment]] = {}
            owned: dict[int, list[int]] = {}
            for position in group:
                owned.setdefault(order[id(specialists[position])], []).append(position)
            for owner in sorted(owned):
                segment = _prepare(specialists[owner], owned[owner], rows, device)
                kinds.setdefault(segment.kind, []).append(segment)
            for segments in kinds.values():
                outputs |= _run_segments(segments, model)
            if progress:
                progress(len(outputs) / len(rows))
    return [outputs[position] for position in range(len(rows))]


def _prepare(specialist: Any, positions: list[int], rows: Sequence[Encoded], device: torch.device) -> _Segment:
    batch = {key: value.to(device) for key, value in specialist.collate([rows[position] for position in positions]).items()}
    return _Segment(specialist, positions, batch, specialist.backbone_inputs(batch))


def _run_segments(segments: Sequence[_Segment], model: AdaptedModel) -> dict[int, Tensor]:
    """One pass through the base; each specialist then reads the hidden states of its rows. Position → output."""
    counts = [len(segment.inputs["input_ids"]) for segment in segments]
    with mix_adapters([segment.specialist.backbone.low_rank for segment in segments], counts):
        hidden = segments[0].specialist.run_backbone(model, _join([segment.inputs for segment in segments]))
    outputs: dict[int, Tensor] = {}
    for segment, own in zip(segments, hidden.split(counts), strict=True):
        tokens = segment.inputs["input_ids"].shape[1]
        values = segment.specialist.read_hidden(own[:, :tokens], segment.batch).float().cpu()
        outputs |= zip(segment.positions, values, strict=True)
    return outputs


def _join(inputs: Sequence[Batch]) -> Batch:
    """Join inputs of backbones along the rows, padded on the right to the longest.

    Masks (rows, tokens) get 0, as do ids and positions. Masks of pairs (rows, 1, tokens, tokens) hide a padding token from all but
    itself, so that no softmax is empty.
    """
    longest = max(len(one["input_ids"][0]) for one in inputs)
    joined = {}
    for key in inputs[0]:
        parts = []
        for value in (one[key] for one in inputs):
            short = longest - value.shape[-1]
            if value.ndim == 4 and short:
                value = F.pad(value, (0, short, 0, short), value=torch.finfo(value.dtype).min)  # noqa: PLW2901
                value.diagonal(dim1=-2, dim2=-1)[..., -short:] = 0
            elif short:
                value = F.pad(value, (0, short))  # noqa: PLW2901
            parts.append(value)
        joined[key] = torch.cat(parts)
    return joined
