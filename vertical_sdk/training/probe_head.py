"""The linear probe of the frozen base: it is fitted before training, and the head may start from it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vertical_sdk.baselines.frozen_base import FrozenBase
from vertical_sdk.families.batching import Encoded
from vertical_sdk.families.head import PROBE_HEAD, STRENGTHS, Head, fit_probe, load_head, save_head
from vertical_sdk.families.specialist import Specialist, run_rows
from vertical_sdk.paths import report_full_disk
from vertical_sdk.training.job import Job, is_main_process
from vertical_sdk.types import Example

__all__ = ["restart_head", "start_head"]

PROBE_TOKENS = 1_000_000
"""The linear probe is fitted on training rows of at most this many tokens in all; reading them costs a pass through the base."""


def start_head(job: Job, base: FrozenBase, rows: Sequence[Encoded], validation: Sequence[Encoded]) -> None:
    """Fit the linear probe of the frozen base, store it in the run, and start the head from it if the recipe says so.

    A resumed run reads the stored probe.

    base              of the specialist
    rows, validation  the job's training rows without augmented copies, and its validation rows, in the job's order
    """
    specialist = base.specialist
    head = specialist.head
    assert head is not None
    if (job.folder / PROBE_HEAD).is_file():
        probe = load_head(job.folder, PROBE_HEAD)
    else:
        probe = _fit_head_probe(job, base.features, head, rows, validation)
        if is_main_process():
            with report_full_disk(job.folder):
                save_head(job.folder, probe, PROBE_HEAD)
    head.mean.copy_(probe.mean)
    head.std.copy_(probe.std)
    if job.recipe.head.init == "probe":
        head.load_state_dict(probe.state_dict())
    head.to(next(specialist.backbone.parameters()).device)


def restart_head(job: Job, specialist: Specialist, rows: Sequence[Encoded], validation: Sequence[Encoded]) -> None:
    """Start the head from a linear probe of the features that the specialist has now, if the recipe starts heads from probes.

    rows, validation  as for `start_head`
    """
    head = specialist.head
    assert head is not None
    if job.recipe.head.init != "probe":
        return

    def read(_examples: Sequence[Example], encoded: Sequence[Encoded]) -> Tensor:
        return run_rows(specialist, encoded, specialist.features, bf16=job.arguments.bf16)

    head.load_state_dict(_fit_head_probe(job, read, head, rows, validation).state_dict())


def _fit_head_probe(
    job: Job,
    read: Callable[[Sequence[Example], Sequence[Encoded]], Tensor],
    head: Head,
    rows: Sequence[Encoded],
    validation: Sequence[Encoded],
) -> Head:
    """Fit probes with several penalties on features; return the best on the validation rows.

    read  examples, and the same rows encoded → features (rows, width)
    """
    chosen = _limit_tokens(rows, PROBE_TOKENS, job.seed)
    validated = _limit_tokens(validation, PROBE_TOKENS // 4, job.seed)
    originals = job.prepared.originals
    rows, validation = [rows[n] for n in chosen], [validation[n] for n in validated]
    examples = [originals[n] for n in chosen] + [job.prepared.validation[n] for n in validated]
    features = read(examples, [*rows, *validation])
    targets = [row.target for row in rows]
    probes = [
        fit_probe(features[: len(rows)], targets, job.recipe.task, head.linear.out_features, seed=job.seed, strength=strength)
        for strength in STRENGTHS
    ]
    return _choose_probe(job, probes, features[len(rows) :], validation)


def _choose_probe(job: Job, probes: Sequence[Head], features: Tensor, validation: Sequence[Encoded]) -> Head:
    """The probe with the lowest loss on the validation rows; the first if there are no such rows or no labels.

    features  (validation rows, width)
    """
    if not validation or not job.task.labelled:
        return probes[0]
    truth = torch.tensor([row.target for row in validation])

    def measure_loss(probe: Head) -> float:
        with torch.inference_mode():
            logits = probe(features)
            if not job.task.single_label:
                return float(F.binary_cross_entropy_with_logits(logits, truth))
            return float(F.cross_entropy(logits, truth))

    return min(probes, key=measure_loss)


def _limit_tokens(rows: Sequence[Encoded], tokens: int, seed: int) -> list[int]:
    """The positions of all rows, or of as many randomly chosen ones as have at most this many tokens together."""
    if sum(row.length for row in rows) <= tokens:
        return list(range(len(rows)))
    chosen: list[int] = []
    for place in random.Random(seed).sample(range(len(rows)), len(rows)):  # noqa: S311
        tokens -= rows[place].length
        if tokens < 0:
            break
        chosen.append(place)
    return chosen
