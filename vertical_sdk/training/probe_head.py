"""The linear probe of the frozen base, and that of an adapter that has learned something already: the head may start from either."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from typing import Any

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
FOLDS = 5
MOST_FOLDED = 5000
"""Training rows up to which a probe without validation rows is cross-validated. With more, the penalty matters less."""


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
        probe = _fit_probe(job, base.features, head, rows, validation)
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
        report = functools.partial(job.progress, "reading with the adapter")
        return run_rows(specialist, encoded, specialist.features, bf16=job.compute.bf16, progress=report)

    head.load_state_dict(_fit_probe(job, read, head, rows, validation).state_dict())


def _fit_probe(
    job: Job,
    read: Callable[[Sequence[Example], Sequence[Encoded]], Tensor],
    head: Head,
    rows: Sequence[Encoded],
    validation: Sequence[Encoded],
) -> Head:
    """Fit probes with several penalties on features; return the best on the validation rows, for numbers the first.

    Without validation rows the best is found by cross-validation over the training rows, if these are few.

    read  examples, and the same rows encoded → features (rows, width)
    """
    chosen = _limit_tokens(rows, PROBE_TOKENS, job.seed)
    validated = _limit_tokens(validation, PROBE_TOKENS // 4, job.seed)
    rows, validation = [rows[n] for n in chosen], [validation[n] for n in validated]
    examples = [job.prepared.originals[n] for n in chosen] + [job.prepared.validation[n] for n in validated]
    features = read(examples, [*rows, *validation])
    targets = [row.target for row in rows]
    fit = functools.partial(fit_probe, task_name=job.recipe.task, outputs=head.linear.out_features, seed=job.seed)
    if not job.task.labelled:
        return fit(features[: len(rows)], targets, strength=STRENGTHS[0])
    if not validation:
        losses = _cross_validate(job, features, targets, fit)
        return fit(features, targets, strength=min(losses, key=losses.__getitem__))
    wanted = torch.tensor([row.target for row in validation])
    probes = [fit(features[: len(rows)], targets, strength=strength) for strength in STRENGTHS]
    return min(probes, key=lambda probe: _measure_loss(job, probe, features[len(rows) :], wanted))


def _cross_validate(job: Job, features: Tensor, targets: Sequence[Any], fit: Callable[..., Head]) -> dict[float, float]:
    """The loss of each penalty, summed over rows that the probe was not fitted on; 0 for all if there are too many rows.

    features  (rows, width)
    """
    losses = dict.fromkeys(STRENGTHS, 0.0)
    if not FOLDS <= len(targets) <= MOST_FOLDED:
        return losses
    wanted = torch.tensor(targets)
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(job.seed))
    for fold in order.tensor_split(FOLDS):
        kept = torch.ones(len(targets), dtype=torch.bool).index_fill(0, fold, value=False)
        if job.task.single_label and len(set(wanted[kept].tolist())) < 2:
            continue
        for strength in STRENGTHS:
            probe = fit(features[kept], wanted[kept].numpy(), strength=strength)
            losses[strength] += _measure_loss(job, probe, features[fold], wanted[fold]) * len(fold)
    return losses


def _measure_loss(job: Job, probe: Head, features: Tensor, wanted: Tensor) -> float:
    """The mean loss of a probe of labels.

    features  (rows, width)
    wanted    (rows,) labels, or (rows, labels) 0 and 1
    """
    with torch.inference_mode():
        logits = probe(features)
        if not job.task.single_label:
            return float(F.binary_cross_entropy_with_logits(logits, wanted))
        return float(F.cross_entropy(logits, wanted))


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
