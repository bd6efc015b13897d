"""Probes: inputs kept with an adapter, with what base and adapter answered when it was made.

They are replayed on every load. Their texts are the labels' own descriptions or sentences made for the purpose, never rows of
anyone's data.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vertical_sdk.card import Probe
from vertical_sdk.errors import IdleAdapter
from vertical_sdk.models.batching import Encoded
from vertical_sdk.models.specialist import LARGE, Specialist, run_rows, switched_off

__all__ = ["replay_probes", "take_probes"]

SENTENCES = (
    "The first of two parts is complete.",
    "Nothing of note was found on Monday.",
    "Please send 12 copies to the office.",
)
MOST = 64
"""Numbers of an answer that are kept, about: a forecast for many channels has thousands."""
TOKENS = 24
"""Tokens of a probe that a generation specialist is compared on."""


def take_probes(specialist: Specialist, most: int = 4) -> tuple[Probe, ...]:
    """Ask base and adapter the same few things."""
    labels = specialist.labels
    texts = [labels.describe(label) for label in labels.labels[: most - 1]] if labels else list(SENTENCES[1:])
    texts.append(SENTENCES[0])
    base, adapter = _answers(specialist, texts)
    return tuple(
        Probe(text=t, base=tuple(b.tolist()), adapter=tuple(a.tolist())) for t, b, a in zip(texts, base, adapter, strict=True)
    )


def replay_probes(specialist: Specialist, probes: Sequence[Probe], where: str) -> None:
    """Check that base and adapter still answer what they did.

    Numbers may differ by 2% of what the adapter changes (or 1e-3), as another processor rounds otherwise; by 10% for a base so LARGE
    that it may have run in bfloat16.

    Raises IdleAdapter where the adapter changes nothing, or another thing than when it was made.
    """
    if not probes:
        raise IdleAdapter(f"{where}: has no probes, so it cannot be shown to work. Train it anew.")
    base, adapter = _answers(specialist, [probe.text for probe in probes])
    share = 0.1 if sum(p.numel() for p in specialist.trunk.parameters()) > LARGE else 0.02
    for probe, base_now, adapter_now in zip(probes, base, adapter, strict=True):
        then_base, then_adapter = torch.tensor(probe.base), torch.tensor(probe.adapter)
        if then_base.shape != base_now.shape or then_adapter.shape != adapter_now.shape:
            raise IdleAdapter(
                f"{where}: answers a probe with {len(adapter_now)} numbers, {len(then_adapter)} when it was made."
            )
        changed = float((then_adapter - then_base).abs().max())
        tolerance = max(1e-3, share * changed)
        if float((adapter_now - base_now).abs().max()) < min(changed / 2, 1e-6) or changed == 0.0:
            raise IdleAdapter(
                f"{where}: changes nothing: base and adapter give the same answers. It was not applied, or is empty."
            )
        for name, then, now in (("base", then_base, base_now), ("adapter", then_adapter, adapter_now)):
            off = float((then - now).abs().max())
            if not off <= tolerance:
                raise IdleAdapter(
                    f"{where}: the {name} answers otherwise than when the adapter was made: {probe.text!r} is off by {off:.4g}, where "
                    f"{tolerance:.4g} is allowed. Base weights, tokenizer, library versions or the adapter's files are not the same."
                )


def _answers(specialist: Specialist, texts: Sequence[str]) -> tuple[list[Tensor], list[Tensor]]:
    rows = [specialist.encode(specialist.probe_row(text), learn=False) for text in texts]
    if specialist.task == "generation":
        rows = [Encoded(ids=row.ids[:TOKENS], learn=(True,) * len(row.ids[:TOKENS])) for row in rows]
    with switched_off(specialist):
        base = [_answer(specialist, row) for row in rows]
    return base, [_answer(specialist, row) for row in rows]


def _answer(specialist: Specialist, row: Encoded) -> Tensor:
    """Outputs for one row (k,), or some where they are many; for generation the log-likelihood of each token after the first."""
    if specialist.task != "generation":
        whole = run_rows(specialist, [row], lambda batch: specialist(batch)[0])[0].flatten()
        return whole[:: max(1, len(whole) // MOST)]
    with torch.inference_mode():
        device = next(specialist.trunk.parameters()).device
        outputs, targets = specialist({key: value.to(device) for key, value in specialist.collate([row]).items()})
        assert targets is not None
        return outputs.float().log_softmax(-1).gather(1, targets[:, None])[:, 0].cpu()
