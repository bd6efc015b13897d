"""The contrastive stage: before its head is fitted, the adapter learns to put rows of one label near to each other.

SetFit (Tunstall et al., 2022) trains a sentence encoder on pairs of rows, and then fits a linear classifier on its features. Here
the loss is that of Khosla et al. (2020), which compares each row with all others of a batch: `info_nce` with the labels as keys.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.families.batching import Encoded, micro_batches
from vertical_sdk.families.pooled import PooledSpecialist
from vertical_sdk.families.specialist import Specialist, family_for, specialist_class
from vertical_sdk.kernels.fused_lora import fast_training
from vertical_sdk.losses.contrastive import info_nce
from vertical_sdk.training.job import Job
from vertical_sdk.training.packing import find_obstacle

__all__ = ["draw_batches", "require_pooled_features", "train_contrastive"]

TEMPERATURE = 0.1
"""Of the similarities; Khosla et al. (2020) found the same value best."""

Item = TypeVar("Item")


def draw_batches(rows: Sequence[Encoded], size: int, seed: int) -> Iterator[list[Encoded]]:
    """Draw batches without end, each of `size` rows, in pairs that share a label.

    The labels take turns, and so do the rows of a label, in a new random order each time. A label of one row gives it twice.
    """
    rng = random.Random(seed)  # noqa: S311
    groups: dict[Any, list[Encoded]] = defaultdict(list)
    for row in rows:
        groups[row.target].append(row)
    turns = {label: _take_turns(group, rng) for label, group in groups.items()}
    labels = _take_turns(sorted(groups), rng)
    while True:
        yield [next(turns[label]) for _, label in zip(range(size // 2), labels, strict=False) for _ in range(2)]


def _take_turns(items: Sequence[Item], rng: random.Random) -> Iterator[Item]:
    while True:
        yield from rng.sample(items, len(items))


def require_pooled_features(job: Job) -> None:
    """Refuse the stage for a family that has no pooled features under a head, before its weights load.

    Raises RecipeError.
    """
    if job.arguments.contrastive_steps and not issubclass(specialist_class(family_for(job.base, job.recipe)), PooledSpecialist):
        raise RecipeError(
            f"contrastive_steps trains the features that a head reads, and {job.base.name} has no head for {job.recipe.task}. Leave it "
            "out, or choose an encoder such as minilm-l6.",
            where=f"{job.recipe.name}: train",
        )


def train_contrastive(job: Job, specialist: Specialist, rows: Sequence[Encoded]) -> None:
    """Train the adapter for `train.contrastive_steps` batches, in place.

    Batch size, learning rate, weight decay and clipping are those of the training after it; the rate rises over the first steps
    and falls to 0. Dropout is off. A batch is read in parts under the budget of tokens: the features of all parts first, then the
    parts again with gradients (Gao et al., 2021), so the result does not depend on the budget. Each process of a training computes
    the whole stage from the same seed.

    rows  the training rows, augmented copies included

    Raises DataError if the rows have only one label, or the loss is not finite.
    """
    arguments = job.arguments
    if len({row.target for row in rows}) < 2:
        raise DataError(
            "contrastive_steps compares rows of different labels, and all training rows have one label. Leave it out.",
            where=f"{job.recipe.name}: train",
        )
    steps, model = arguments.contrastive_steps, _Reader(job, specialist, rows)
    weights = [weight for weight in specialist.backbone.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=arguments.learning_rate, weight_decay=arguments.weight_decay)
    warmup = max(1, arguments.get_warmup_steps(steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, (steps - step) / max(1, steps - warmup))
    )
    specialist.backbone.eval()
    batches = draw_batches(rows, max(4, arguments.per_device_train_batch_size), job.seed)
    with fast_training(specialist.backbone, bf16=job.compute.bf16, onednn=job.compute.onednn):
        for step, batch in zip(range(steps), batches, strict=False):
            loss = model.learn(batch)
            if not math.isfinite(loss):
                raise DataError(
                    f"the contrastive loss became {loss} at step {step}, so training cannot continue. Lower train.learning_rate."
                )
            if arguments.max_grad_norm:
                torch.nn.utils.clip_grad_norm_(weights, arguments.max_grad_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            job.progress("contrastive training", (step + 1) / steps)


class _Reader:
    """Reads rows with the adapter, with gradients, packed if the base allows it."""

    def __init__(self, job: Job, specialist: Any, rows: Sequence[Encoded]) -> None:
        self.specialist, self.budget = specialist, job.arguments.tokens_per_pass
        self.device = next(specialist.backbone.parameters()).device
        self.bf16 = job.compute.bf16
        with self._autocast():
            self.packs = not find_obstacle(specialist, rows, checkpointing=False)

    def _autocast(self) -> Any:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def learn(self, rows: Sequence[Encoded]) -> float:
        """Add the gradients of a batch's loss. Returns the loss."""
        parts = list(micro_batches([row.length for row in rows], self.budget))
        labels = torch.tensor([rows[place].target for part in parts for place in part], device=self.device)
        if len(parts) == 1:
            loss = info_nce(self._read(rows, parts[0]), labels, temperature=TEMPERATURE)
            loss.backward()
            return float(loss.detach())
        with torch.no_grad():
            features = torch.cat([self._read(rows, part) for part in parts])
        loss = info_nce(features.requires_grad_(), labels, temperature=TEMPERATURE)
        (gradient,) = torch.autograd.grad(loss, features)
        for part, wanted in zip(parts, torch.split(gradient, [len(part) for part in parts]), strict=True):
            self._read(rows, part).backward(wanted)  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def _read(self, rows: Sequence[Encoded], part: Sequence[int]) -> Tensor:
        """The features of some rows, (rows of the part, width)."""
        chosen = [rows[place] for place in part]
        with self._autocast():
            if self.packs:
                features: Tensor = self.specialist.features(self.specialist.pack(chosen))
            else:
                batch = {key: value.to(self.device) for key, value in self.specialist.collate(chosen).items()}
                features = self.specialist.features(batch)
        return features.float()
