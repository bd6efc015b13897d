"""Self-tests: inputs stored with an adapter, with the outputs of base and adapter when it was trained.

Each load replays them. Their texts are the labels' own descriptions or sentences written for this purpose, never rows of
anyone's data.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vertical_sdk.card import SelfTest
from vertical_sdk.errors import IdleAdapter
from vertical_sdk.families.batching import Encoded
from vertical_sdk.families.specialist import Specialist, run_rows, switched_off
from vertical_sdk.tasks import get_task

__all__ = ["record_self_tests", "replay_self_tests"]

SENTENCES = (
    "The first of two parts is complete.",
    "Nothing of note was found on Monday.",
    "Please send 12 copies to the office.",
)
MOST_NUMBERS = 64
"""About how many numbers of an output are stored: a forecast for many channels has thousands."""
MOST_TOKENS = 24
"""Tokens of a self-test that a generation specialist is compared on."""


def record_self_tests(specialist: Specialist, most: int = 4) -> tuple[SelfTest, ...]:
    """Record the outputs of base and adapter for the same few inputs."""
    labels = specialist.labels
    texts = [labels.describe(label) for label in labels.labels[: most - 1]] if labels else list(SENTENCES[1:])
    texts.append(SENTENCES[0])
    rows = _encode(specialist, texts)
    adapter = _outputs(specialist, rows)
    with switched_off(specialist):
        base = _outputs(specialist, rows)
    return tuple(
        SelfTest(text=text, base=tuple(before.tolist()), adapter=tuple(after.tolist()))
        for text, before, after in zip(texts, base, adapter, strict=True)
    )


def replay_self_tests(specialist: Specialist, self_tests: Sequence[SelfTest], where: str, *, large: bool = False) -> None:
    """Check that the adapter gives the recorded outputs, and that they come from the adapter and not from the base alone.

    The base runs only if the adapter's outputs do not already show that: its weights are known by their fingerprint. Numbers may
    differ by 2% of what the adapter changes (or 1e-3), because processors round differently.

    large  the base may have run in bfloat16, so 10% are allowed

    Raises IdleAdapter if the adapter changes nothing, or something else than when it was trained.
    """
    if not self_tests:
        raise IdleAdapter("the adapter has no self-tests, so nothing shows that it works. Train it again.", where=where)
    rows = _encode(specialist, [self_test.text for self_test in self_tests])
    outputs = _outputs(specialist, rows)
    share = 0.1 if large else 0.02
    recorded = [(torch.tensor(self_test.base), torch.tensor(self_test.adapter)) for self_test in self_tests]
    changes = [float((adapter - base).abs().max()) if len(base) == len(adapter) else 0.0 for base, adapter in recorded]
    allowed = [max(1e-3, share * change) for change in changes]
    for (_, adapter), output in zip(recorded, outputs, strict=True):
        if adapter.shape != output.shape:
            raise IdleAdapter(
                f"the adapter gives {len(output)} numbers for a self-test; {len(adapter)} were recorded.", where=where
            )
    distances = [float((adapter - output).abs().max()) for (_, adapter), output in zip(recorded, outputs, strict=True)]
    if all(distance <= limit < change for distance, limit, change in zip(distances, allowed, changes, strict=True)):
        return  # the outputs are as recorded, and further from the base than the tolerance
    with switched_off(specialist):
        bare = _outputs(specialist, rows)
    for n, self_test in enumerate(self_tests):
        if changes[n] == 0.0 or float((outputs[n] - bare[n]).abs().max()) < min(changes[n] / 2, 1e-6):
            raise IdleAdapter(
                "the adapter changes nothing: base and adapter give the same outputs. It was not applied, or it is empty.",
                where=where,
            )
        for name, distance in (("base", float((recorded[n][0] - bare[n]).abs().max())), ("adapter", distances[n])):
            if not distance <= allowed[n]:
                raise IdleAdapter(
                    f"the {name} gives other outputs than when the adapter was trained: {self_test.text!r} differs by {distance:.4g}, "
                    f"and {allowed[n]:.4g} is allowed. Base weights, tokenizer, library versions or the adapter's files have changed.",
                    where=where,
                )


def _encode(specialist: Specialist, texts: Sequence[str]) -> list[Encoded]:
    rows = [specialist.encode(specialist.self_test_row(text), learn=False) for text in texts]
    if get_task(specialist.task).written:
        return [Encoded(ids=row.ids[:MOST_TOKENS], learn=(True,) * len(row.ids[:MOST_TOKENS])) for row in rows]
    return rows


def _outputs(specialist: Specialist, rows: Sequence[Encoded]) -> list[Tensor]:
    """Outputs of each row (k,), or every n-th of them if there are many; for generation each token's log-likelihood after the first."""
    if not get_task(specialist.task).written:
        whole = run_rows(specialist, rows, lambda batch: specialist(batch)[0]).flatten(1)
        return list(whole[:, :: max(1, whole.shape[1] // MOST_NUMBERS)])
    with torch.inference_mode():
        device = next(specialist.backbone.parameters()).device
        outputs, targets = specialist({key: value.to(device) for key, value in specialist.collate(rows).items()})
        assert targets is not None
        likelihoods = outputs.float().log_softmax(-1).gather(1, targets[:, None])[:, 0].cpu()
        return list(torch.split(likelihoods, [row.units for row in rows]))
