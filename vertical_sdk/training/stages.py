"""The stages of a training, one function each: encode, build, train, fit members, calibrate."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor

from vertical_sdk.baselines.frozen_base import Features, FrozenBase
from vertical_sdk.baselines.kept_features import load_features
from vertical_sdk.baselines.stacking import Ensemble, fit_ensemble
from vertical_sdk.bases.reading import NOTHING_READ, WORTH_A_WARNING, mean_share, read_texts
from vertical_sdk.card import Calibration
from vertical_sdk.data.texts import full_text
from vertical_sdk.errors import DataError
from vertical_sdk.families.batching import Encoded
from vertical_sdk.families.specialist import Batch, Specialist, create_specialist, reads_by_base_alone, run_rows
from vertical_sdk.kernels.fused_lora import fast_training
from vertical_sdk.losses import bind_loss, compares_rows, get_token_finder
from vertical_sdk.model_card import describe_promise
from vertical_sdk.tasks import get_task
from vertical_sdk.training.contrastive import require_pooled_features, train_contrastive
from vertical_sdk.training.encode import check_unknown, encode_rows
from vertical_sdk.training.job import Job, is_main_process
from vertical_sdk.training.probe_head import restart_head, start_head
from vertical_sdk.training.start_record import read_start, record_start, save_start
from vertical_sdk.training.trainer import VerticalTrainer, last_checkpoint
from vertical_sdk.training.warm_start import check_start, load_start_weights
from vertical_sdk.types import Example

__all__ = [
    "JobRows",
    "build_specialist",
    "calibrate",
    "calibrate_on",
    "encode_job_rows",
    "fit_members",
    "keep_features",
    "measure_validation",
    "read_with_base",
    "start_specialist",
    "train_weights",
]


@dataclass(frozen=True)
class JobRows:
    """The encoded rows of a job.

    train       with augmented copies
    originals   the training rows that are not augmented copies
    validation  the validation rows; empty if the recipe splits off none
    facts       what the base cannot read of the texts, for the card
    """

    train: Sequence[Encoded]
    originals: Sequence[Encoded]
    validation: Sequence[Encoded]
    facts: Mapping[str, Any]


def build_specialist(job: Job) -> Specialist:
    """Create the specialist with an untrained adapter, and check that the job's start fits it.

    Raises BaseModelError for a base that cannot do the task; RecipeError for a contrastive stage without a head; what `check_start`
    raises.
    """
    require_pooled_features(job)
    specialist = create_specialist(job.base, job.recipe, job.prepared.labels, job.prepared.layout)
    if job.start is not None:
        check_start(job.start, specialist, job.base, job.recipe, job.prepared)
    return specialist


def read_with_base(job: Job, specialist: Specialist) -> FrozenBase:
    """Return the specialist's base, which reads each row once for the linear probe and the members.

    It reads in the precision of the training. With members it reads in float32, as they will when they answer. In float32 it knows
    what an earlier run kept.
    """
    bf16 = job.arguments.bf16 and not job.recipe.ensemble
    known = {} if bf16 else load_features(specialist, job.base.fingerprint, job.prepared)
    return FrozenBase(specialist, progress=job.progress, bf16=bf16, known=known)


def keep_features(base: FrozenBase) -> Features:
    """Return the features that are those of the base in float32, whatever was trained since; {} for series and records.

    The base reads numbers through layers that training changes.
    """
    return base.known if reads_by_base_alone(base.specialist) and not base.bf16 else {}


def encode_job_rows(job: Job, specialist: Specialist) -> JobRows:
    """Encode the training and validation rows.

    Raises DataError for rows that are cut, that the base cannot read, or that have nothing to learn from; see `encode_rows`.
    """
    prepared, avoid = job.prepared, get_token_finder(job.recipe)
    limits = job.recipe.data.limits
    tokenizer = getattr(specialist, "text_tokenizer", None)
    test = read_texts(tokenizer, map(full_text, prepared.test)) if tokenizer else NOTHING_READ
    train = encode_rows(specialist, prepared.train, learn=True, limits=limits, base=job.base, what="training rows", avoid=avoid)
    validation = encode_rows(
        specialist,
        prepared.validation,
        learn=True,
        limits=limits.model_copy(update={"truncated": 1.0}),
        base=job.base,
        what="validation rows",
        avoid=avoid,
    )
    check_unknown(test.unknown, prepared.test, limits, job.base, "test rows")
    originals = [row for row, example in zip(train, prepared.train, strict=True) if example.copy_of is None]
    shares = {
        "train": [row.unknown_share for row in originals],
        "validation": [row.unknown_share for row in validation],
        "test": test.unknown,
    }
    control = sum(row.control > 0 for row in (*originals, *validation)) + test.control
    facts = {"unknown_share": {split: round(mean_share(part), 4) for split, part in shares.items()}, "control_rows": control}
    if (share := max(map(mean_share, shares.values()))) > WORTH_A_WARNING:
        job.progress(f"warning: {job.base.name} does not know {share:.1%} of the tokens of these texts", None)
    if control:
        job.progress(f"warning: {control} rows contain control tokens, which are read as characters", None)
    return JobRows(train, originals, validation, facts if tokenizer else {})


def start_specialist(job: Job, base: FrozenBase, rows: JobRows) -> None:
    """Set the weights that training starts from: those of the base and its linear probe, or of the job's start.

    A start that has no head, as it learned without labels, gives its LoRA; the head is then a linear probe of what it reads.

    With `train.contrastive_steps` the adapter is then trained by the contrastive loss, and a head that starts from a probe does so from
    one of the adapter's features. A stage that was stopped is computed again; one that was finished before a checkpoint is not.

    A run first records what it begins with, so that nothing is stored that could be resumed without this record.

    base  of the specialist
    """
    specialist = base.specialist
    if is_main_process() and read_start(job.folder) is None:
        save_start(job.folder, record_start(job))
    specialist.fit_to_rows(rows.originals)
    if specialist.head is not None:
        start_head(job, base, rows.originals, rows.validation)
    if job.start is not None:
        load_start_weights(job.start, specialist)
    adapted = job.start is not None and get_task(job.start.card.task).unlabelled
    if job.arguments.contrastive_steps and not (job.resume and last_checkpoint(job.folder / "checkpoints")):
        train_contrastive(job, specialist, rows.train)
        adapted = True
    if adapted and specialist.head is not None:
        restart_head(job, specialist, rows.originals, rows.validation)


def train_weights(
    job: Job, specialist: Specialist, rows: JobRows, watchers: Sequence[transformers.TrainerCallback] = ()
) -> tuple[VerticalTrainer, dict[str, Any]]:
    """Train the specialist in place.

    watchers  callbacks of the trainer, which may stop it
    returns  the trainer, and the facts about the training that the card records
    """
    arguments, prepared = job.arguments, job.prepared
    default = job.task.default_loss
    loss = bind_loss(job.recipe, prepared.labels, specialist.scale, prepared.layout, default=default)
    trainer = VerticalTrainer(
        specialist,
        arguments,
        rows.train,
        rows.validation,
        loss,
        job.progress,
        watchers,
        compares_rows=compares_rows(job.recipe, default=default),
    )
    checkpoint = last_checkpoint(job.folder / "checkpoints") if job.resume else None
    started = time.monotonic()
    with fast_training(specialist.backbone, bf16=job.compute.bf16, onednn=job.compute.onednn):
        result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seconds = time.monotonic() - started
    # accelerate made forward run in bfloat16; the stored weights must be what a plain load gives
    trainer.accelerator.unwrap_model(trainer.model_wrapped, keep_fp32_wrapper=False).eval()
    facts = _list_facts(trainer, rows, float(result.training_loss), seconds, checkpoint)
    return trainer, {**facts, "onednn": job.compute.onednn}


def _list_facts(
    trainer: VerticalTrainer, rows: JobRows, loss: float, seconds: float, checkpoint: Path | None
) -> dict[str, Any]:
    """The facts about a training that the card records."""
    arguments: Any = trainer.args
    return {
        "steps": trainer.state.global_step,
        "seconds": round(seconds, 1),
        "loss": round(loss, 5),
        "rows": len(rows.train),
        "cut_rows": len([row for row in rows.train if row.cut]),
        **rows.facts,
        "trained_parameters": trainer.trained_parameters,
        "seed": arguments.seed,
        "bf16": arguments.bf16,
        "processes": arguments.world_size,
        "cpu_threads": torch.get_num_threads(),
        "resumed_from": int(checkpoint.name.rpartition("-")[2]) if checkpoint else None,
    }


def measure_validation(job: Job, trainer: VerticalTrainer, rows: JobRows) -> tuple[float | None, NDArray[Any] | None]:
    """Read the validation rows once with the trained specialist.

    returns  their mean loss, None without such rows; and the raw outputs that members and calibration are fitted on, (rows, ...), also
             None for generation and for tasks without labels
    """
    specialist = trainer.specialist
    if not rows.validation:
        return None, None
    if job.task.written or job.task.unlabelled:
        with fast_training(specialist.backbone, bf16=job.compute.bf16, onednn=job.compute.onednn):
            return trainer.measure_loss(), None
    total = 0.0

    def answer(batch: Batch) -> Tensor:
        nonlocal total
        outputs, targets = specialist(batch)
        total += float(trainer.loss(outputs.float(), targets)) * len(outputs)
        return outputs

    outputs = run_rows(specialist, rows.validation, answer)
    return total / len(rows.validation), outputs.numpy()


def fit_members(job: Job, base: FrozenBase, own: NDArray[Any] | None) -> tuple[Ensemble | None, NDArray[Any] | None]:
    """Fit the ensemble's members and their stacker, if the recipe names members.

    base     of the specialist, with the features that were computed before training
    own      the specialist's raw outputs for the validation rows; None without such rows or for generation
    returns  the ensemble, None without members; the raw outputs for the validation rows that calibration is fitted on: of an
             ensemble those out of fold, else `own`

    Raises DataError if there are members but no validation rows.
    """
    recipe, prepared = job.recipe, job.prepared
    if not recipe.ensemble:
        return None, own
    if own is None:
        raise DataError(
            "the stacker is fitted on validation rows, and there are none. Split off validation rows in data.split.",
            where=f"{recipe.name}: ensemble",
        )
    base = FrozenBase(base.specialist, progress=job.progress, known=keep_features(base))
    return fit_ensemble(recipe, prepared.originals, prepared.validation, own, prepared.labels, job.seed, base, job.progress)


def calibrate(job: Job, outputs: NDArray[Any] | None) -> Calibration:
    """Fit the calibration on raw outputs for the validation rows. Without outputs, nothing is calibrated."""
    return Calibration() if outputs is None else calibrate_on(job, outputs, job.prepared.validation)


def calibrate_on(job: Job, outputs: NDArray[Any], rows: Sequence[Example]) -> Calibration:
    """Fit the calibration on raw outputs for these rows, and say what promise they allow, if the recipe asks for one."""
    calibration = job.task.calibrate(outputs, rows, job.prepared.labels, job.recipe, job.prepared.layout)
    if (promise := calibration.promise) is not None:
        job.progress(f"{'warning: ' if promise.threshold is None else ''}{describe_promise(promise)}", None)
    return calibration
