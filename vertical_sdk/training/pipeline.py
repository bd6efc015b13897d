"""From a recipe to an adapter in a folder."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor

from vertical_sdk.adapters.self_test import record_self_tests
from vertical_sdk.baselines.frozen_base import FrozenBase
from vertical_sdk.baselines.stacking import Ensemble, fit_ensemble, save_ensemble
from vertical_sdk.bases.base import Base, pull_base
from vertical_sdk.card import Calibration, Card, Parent, library_versions, write_card
from vertical_sdk.checking import check_recipe
from vertical_sdk.data.prepare import Prepared, prepare
from vertical_sdk.data.records import list_record_fields
from vertical_sdk.errors import DataError
from vertical_sdk.families.batching import Encoded
from vertical_sdk.families.head import PROBE_HEAD, STRENGTHS, Head, fit_probe, load_head, save_head
from vertical_sdk.families.lora import hide_peft_notice
from vertical_sdk.families.specialist import Specialist, family_for, fresh_specialist, run_rows, switched_off
from vertical_sdk.kernels.fused_lora import fast_training
from vertical_sdk.kernels.precision import frozen_weights_in_bfloat16
from vertical_sdk.losses import bind_loss, get_token_finder
from vertical_sdk.model_card import render_readme
from vertical_sdk.paths import report_full_disk, write_whole
from vertical_sdk.recipe import Recipe, load_recipe
from vertical_sdk.record_index import write_record_index
from vertical_sdk.tasks import get_task
from vertical_sdk.training.encode import encode_rows
from vertical_sdk.training.run import Run, claim, new_folder, unfinished
from vertical_sdk.training.start import check_start, find_start, go_on_from, require_same_start, save_start
from vertical_sdk.training.trainer import VerticalTrainer, last_checkpoint
from vertical_sdk.training_arguments import Arguments, training_arguments
from vertical_sdk.types import Example, Progress, Split, silent

__all__ = ["train"]

PROBE_TOKENS = 1_000_000
"""The linear probe is fitted on training rows of at most so many tokens in all: reading them costs a pass through the base."""


def train(
    recipe: Recipe | str | Path,
    *,
    base: str | None = None,
    settings: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    start: str | Path | None = None,
    progress: Progress = silent,
) -> Run:
    """Train the adapter of a recipe.

    recipe    a Recipe, the name of one ("medical/icd-chapter") or the path of its YAML file
    base      another base model than the recipe's
    settings  dotted key → value, as `--set` has them: {"train.learning_rate": 1e-4}
    out       the run's folder; `runs/<name>-<time>` where there is none
    resume    go on with a run that was stopped, from its last whole checkpoint; its final weights are those of a run that was
              never stopped (on a CPU, bit for bit). Without `out`: the newest unfinished run of this recipe
    start     an adapter to go on from: a run's folder, an adapter's, or a reference of the registry. It must be of the same base, task,
              labels and adapter settings, and is recorded as the new card's parent; a resumed run must be given the same one

    Raises RecipeError, DataError, SourceError, BaseModelError, RunError, and AdapterError or RegistryError for `start`: before any
    weights load where that is possible. A run that is stopped leaves its checkpoints and no half-written adapter.
    """
    chosen = dict(settings or {}) | ({"base": base} if base else {})
    recipe = recipe.replace(chosen) if isinstance(recipe, Recipe) else load_recipe(recipe, chosen)
    check_recipe(recipe)
    given = Path(out) if out else None
    folder = _same_everywhere(
        given or (unfinished(recipe, Path("runs")) if resume else None) or new_folder(recipe, Path("runs"))
    )
    begun = find_start(start) if start is not None else None
    if resume:
        require_same_start(folder, begun)
    if resume and (folder / "adapter").is_dir():
        with claim(folder, recipe, resume=True):
            return Run(folder)
    main = _rank() == 0
    with claim(folder, recipe, resume=resume) if main else contextlib.nullcontext(), _quiet():
        arguments = training_arguments(recipe.train, folder, recipe.name)
        prepared = prepare(recipe, progress=progress)
        progress(f"loading {recipe.base}", None)
        pulled = pull_base(recipe.base, progress=progress)
        transformers.set_seed(arguments.seed)
        specialist = fresh_specialist(pulled, recipe, prepared.labels, prepared.layout)
        if begun is not None:
            check_start(begun, specialist, pulled, recipe, prepared)
        limit = recipe.data.limits.truncated
        avoid = get_token_finder(recipe)
        rows = encode_rows(specialist, prepared.train, learn=True, truncated=limit, what="training rows", avoid=avoid)
        validation = encode_rows(specialist, prepared.validation, learn=True, what="validation rows", avoid=avoid)
        originals = [row for row, example in zip(rows, prepared.train, strict=True) if example.copy_of is None]
        specialist.begin(originals)
        if specialist.head is not None:
            _start_head(specialist, originals, validation, recipe, folder, arguments, progress)
        if begun is not None:
            go_on_from(begun, specialist)
            if main:
                save_start(folder, begun)
        loss = bind_loss(recipe, prepared.labels, specialist.scale, prepared.layout, default=get_task(recipe.task).default_loss)
        trainer = VerticalTrainer(specialist, arguments, rows, validation, loss, progress)
        checkpoint = last_checkpoint(folder / "checkpoints") if resume else None
        started = time.monotonic()
        with fast_training(specialist.backbone, bf16=arguments.bf16):
            result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        facts = {
            "steps": trainer.state.global_step,
            "seconds": round(time.monotonic() - started, 1),
            "loss": round(float(result.training_loss), 5),
            "eval_loss": next((log["eval_loss"] for log in reversed(trainer.state.log_history) if "eval_loss" in log), None),
            "rows": len(rows),
            "cut_rows": len([row for row in rows if row.cut]),
            "trained_parameters": trainer.trained_parameters,
            "seed": arguments.seed,
            "bf16": arguments.bf16,
            "processes": arguments.world_size,
            "cpu_threads": torch.get_num_threads(),
            "resumed_from": int(checkpoint.name.rpartition("-")[2]) if checkpoint else None,
        }
        # accelerate made forward run in bfloat16; what is kept must be what a plain load gives
        trainer.accelerator.unwrap_model(trainer.model_wrapped, keep_fp32_wrapper=False).eval()
        if main:
            progress("saving the adapter", None)
            outputs, ensemble = None, None
            if validation and not get_task(recipe.task).written:
                outputs = run_rows(specialist, validation, lambda batch: specialist(batch)[0]).numpy()
            if recipe.ensemble:
                ensemble, outputs = _ensemble(specialist, outputs, recipe, prepared, arguments.seed, progress)
                facts["ensemble"] = {name: round(weight, 4) for name, weight in ensemble.shares.items()}
            calibration = _calibrate(outputs, recipe, prepared)
            parent = begun.parent if begun is not None else None
            _save(folder, specialist, pulled, recipe, prepared, calibration, ensemble, facts, parent)
        trainer.accelerator.wait_for_everyone()
    return Run(folder, facts["resumed_from"])


def _start_head(
    specialist: Specialist,
    rows: Sequence[Encoded],
    validation: Sequence[Encoded],
    recipe: Recipe,
    folder: Path,
    arguments: Arguments,
    progress: Progress,
) -> None:
    """Fit the linear probe of the frozen base, and let the head begin there if the recipe says so."""
    head = specialist.head
    assert head is not None
    kept = folder / PROBE_HEAD
    if kept.is_file():
        probe = load_head(folder, PROBE_HEAD)
    else:
        rows, judges = _within(rows, PROBE_TOKENS, arguments.seed), _within(validation, PROBE_TOKENS // 4, arguments.seed)
        with switched_off(specialist), frozen_weights_in_bfloat16(specialist.backbone, enabled=arguments.bf16):
            features = run_rows(
                specialist,
                [*rows, *judges],
                specialist.features,
                bf16=arguments.bf16,
                progress=lambda share: progress("reading with the base", share),
            )
        probe = _best_probe(
            features[: len(rows)], rows, features[len(rows) :], judges, head.linear.out_features, recipe, arguments
        )
        if _rank() == 0:
            with report_full_disk(folder):
                save_head(folder, probe, PROBE_HEAD)
    head.mean.copy_(probe.mean)
    head.std.copy_(probe.std)
    if recipe.head.init == "probe":
        head.load_state_dict(probe.state_dict())
    head.to(next(specialist.backbone.parameters()).device)


def _best_probe(
    features: Tensor,
    rows: Sequence[Encoded],
    judged: Tensor,
    judges: Sequence[Encoded],
    outputs: int,
    recipe: Recipe,
    arguments: Arguments,
) -> Head:
    """The probe of the penalty that the validation rows like best by their loss."""
    targets = [row.target for row in rows]
    probes = [
        fit_probe(features, targets, recipe.task, outputs, seed=arguments.seed, strength=strength) for strength in STRENGTHS
    ]
    task = get_task(recipe.task)
    if not judges or not task.labelled:
        return probes[0]
    truth = torch.tensor([row.target for row in judges])

    def loss(head: Head) -> float:
        with torch.inference_mode():
            logits = head(judged)
            if not task.single_label:
                return float(F.binary_cross_entropy_with_logits(logits, truth))
            return float(F.cross_entropy(logits, truth))

    return min(probes, key=loss)


def _within(rows: Sequence[Encoded], tokens: int, seed: int) -> list[Encoded]:
    """All rows, or as many of them, chosen by the seed, as have so many tokens."""
    if sum(row.length for row in rows) <= tokens:
        return list(rows)
    chosen: list[Encoded] = []
    for row in random.Random(seed).sample(list(rows), len(rows)):  # noqa: S311
        tokens -= row.length
        if tokens < 0:
            break
        chosen.append(row)
    return chosen


def _ensemble(
    specialist: Specialist, outputs: Any, recipe: Recipe, prepared: Prepared, seed: int, progress: Progress
) -> tuple[Ensemble, Any]:
    """The members and their stacker, and what the whole says of the validation rows out of fold."""
    if outputs is None:
        raise DataError(
            f"{recipe.name}: ensemble: the stacker is fitted on validation rows, and there are none. See data.split."
        )
    base = FrozenBase(specialist, progress=progress)
    return fit_ensemble(recipe, prepared.originals, prepared.validation, outputs, prepared.labels, seed, base, progress)


def _calibrate(outputs: Any, recipe: Recipe, prepared: Prepared) -> Calibration:
    """Fit the calibration on the validation rows."""
    if outputs is None:
        return Calibration()
    return get_task(recipe.task).calibrate(outputs, prepared.validation, prepared.labels, recipe, prepared.layout)


def _save(
    folder: Path,
    specialist: Specialist,
    base: Base,
    recipe: Recipe,
    prepared: Prepared,
    calibration: Calibration,
    ensemble: Ensemble | None,
    facts: dict[str, Any],
    parent: Parent | None,
) -> None:
    """Write the adapter's folder beside its place, then put it there in one move."""
    staged = folder / ".adapter"
    shutil.rmtree(staged, ignore_errors=True)
    with report_full_disk(staged):
        staged.mkdir(parents=True)
        specialist.backbone.save_pretrained(str(staged), save_embedding_layers=False)  # else PEFT asks the hub about the base
        if specialist.tokenizer is not None:
            specialist.tokenizer.save_pretrained(str(staged))
        specialist.save(staged)
        if specialist.head is not None:
            shutil.copyfile(folder / PROBE_HEAD, staged / PROBE_HEAD)
        if ensemble is not None:
            save_ensemble(staged, ensemble)
        if recipe.data.remember_ids:
            parts: dict[Split, Sequence[Example]] = {
                "train": prepared.train,
                "validation": prepared.validation,
                "test": prepared.test,
            }
            write_record_index(staged, parts, groups=prepared.layout is None)
        card = Card(
            name=recipe.name,
            task=recipe.task,
            family=family_for(base, recipe),
            base=base.fingerprint,
            recipe=recipe.to_dict(),
            recipe_digest=recipe.digest,
            labels=prepared.labels,
            fields=list_record_fields(prepared.originals),
            layout=prepared.layout,
            sources=prepared.sources,
            account=prepared.account.to_dict(),
            calibration=calibration,
            self_tests=record_self_tests(specialist),
            training=facts,
            parent=parent,
            versions=library_versions(),
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        )
        write_whole(staged / "README.md", render_readme(card, base.hub_id))
        write_card(staged, card)
        staged.rename(folder / "adapter")


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _same_everywhere(folder: Path) -> Path:
    """The first process's choice, in all of them."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return folder
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    PartialState(cpu=not torch.cuda.is_available())
    chosen = [str(folder)]
    broadcast_object_list(chosen)
    return Path(chosen[0])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Training must not disturb the caller's random numbers, nor warn of what is meant."""
    state, torch_state = random.getstate(), torch.get_rng_state()
    try:
        with hide_peft_notice():
            yield
    finally:
        random.setstate(state)
        torch.set_rng_state(torch_state)
