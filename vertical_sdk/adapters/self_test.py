"""Probes: inputs kept with an adapter, with what base and adapter answered when it was made.

They are replayed on every load. Their texts are the labels' own descriptions or sentences made for the purpose, never rows of
anyone's data.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vertical_sdk.card import SelfTest
from vertical_sdk.errors import IdleAdapter
from vertical_sdk.families.batching import Encoded
from vertical_sdk.families.specialist import LARGE, Specialist, run_rows, switched_off
from vertical_sdk.tasks import get_task

__all__ = ["record_self_tests", "replay_self_tests"]

SENTENCES = (
    "The first of two parts is complete.",
    "Nothing of note was found on Monday.",
    "Please send 12 copies to the office.",
)
MOST = 64
"""Numbers of an answer that are kept, about: a forecast for many channels has thousands."""
TOKENS = 24
"""Tokens of a probe that a generation specialist is compared on."""


def record_self_tests(specialist: Specialist, most: int = 4) -> tuple[SelfTest, ...]:
    """Ask base and adapter the same few things."""
    labels = specialist.labels
    texts = [labels.describe(label) for label in labels.labels[: most - 1]] if labels else list(SENTENCES[1:])
    texts.append(SENTENCES[0])
    rows = _rows(specialist, texts)
    adapter = _answer(specialist, rows)
    with switched_off(specialist):
        base = _answer(specialist, rows)
    return tuple(
        SelfTest(text=t, base=tuple(b.tolist()), adapter=tuple(a.tolist()))
        for t, b, a in zip(texts, base, adapter, strict=True)
    )


def replay_self_tests(specialist: Specialist, self_tests: Sequence[SelfTest], where: str) -> None:
    """Check that the adapter still answers what it did, and does not do so because it was never applied.

    The base is asked too where that does not follow from the adapter's answers: its weights are known by their fingerprint.
    Numbers may differ by 2% of what the adapter changes (or 1e-3), as another processor rounds otherwise; by 10% for a base so
    LARGE that it may have run in bfloat16.

    Raises IdleAdapter where the adapter changes nothing, or another thing than when it was made.
    """
    if not self_tests:
        raise IdleAdapter(f"{where}: has no self_tests, so it cannot be shown to work. Train it anew.")
    rows = _rows(specialist, [probe.text for probe in self_tests])
    now = _answer(specialist, rows)
    share = 0.1 if sum(p.numel() for p in specialist.backbone.parameters()) > LARGE else 0.02
    then = [(torch.tensor(probe.base), torch.tensor(probe.adapter)) for probe in self_tests]
    changed = [float((adapter - base).abs().max()) if len(base) == len(adapter) else 0.0 for base, adapter in then]
    allowed = [max(1e-3, share * change) for change in changed]
    for (_, adapter), answer in zip(then, now, strict=True):
        if adapter.shape != answer.shape:
            raise IdleAdapter(f"{where}: answers a probe with {len(answer)} numbers, {len(adapter)} when it was made.")
    off = [float((adapter - answer).abs().max()) for (_, adapter), answer in zip(then, now, strict=True)]
    if all(o <= a < c for o, a, c in zip(off, allowed, changed, strict=True)):
        return  # as it was then, which is further from the base than it may be from itself
    with switched_off(specialist):
        bare = _answer(specialist, rows)
    for n, probe in enumerate(self_tests):
        if changed[n] == 0.0 or float((now[n] - bare[n]).abs().max()) < min(changed[n] / 2, 1e-6):
            raise IdleAdapter(
                f"{where}: changes nothing: base and adapter give the same answers. It was not applied, or is empty."
            )
        for name, distance in (("base", float((then[n][0] - bare[n]).abs().max())), ("adapter", off[n])):
            if not distance <= allowed[n]:
                raise IdleAdapter(
                    f"{where}: the {name} answers otherwise than when the adapter was made: {probe.text!r} is off by {distance:.4g}, where "
                    f"{allowed[n]:.4g} is allowed. Base weights, tokenizer, library versions or the adapter's files are not the same."
                )


def _rows(specialist: Specialist, texts: Sequence[str]) -> list[Encoded]:
    rows = [specialist.encode(specialist.self_test_row(text), learn=False) for text in texts]
    if get_task(specialist.task).written:
        return [Encoded(ids=row.ids[:TOKENS], learn=(True,) * len(row.ids[:TOKENS])) for row in rows]
    return rows


def _answer(specialist: Specialist, rows: Sequence[Encoded]) -> list[Tensor]:
    """Outputs of each row (k,), or some where they are many; for generation the log-likelihood of each token after the first."""
    if not get_task(specialist.task).written:
        whole = run_rows(specialist, rows, lambda batch: specialist(batch)[0]).flatten(1)
        return list(whole[:, :: max(1, whole.shape[1] // MOST)])
    with torch.inference_mode():
        device = next(specialist.backbone.parameters()).device
        outputs, targets = specialist({key: value.to(device) for key, value in specialist.collate(rows).items()})
        assert targets is not None
        said = outputs.float().log_softmax(-1).gather(1, targets[:, None])[:, 0].cpu()
        return list(torch.split(said, [row.units for row in rows]))
