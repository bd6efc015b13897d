"""Train a recipe: from its rows to an adapter in a run's folder."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers

from vertical_sdk.baselines.frozen_base import InMemory
from vertical_sdk.baselines.kept_features import save_features
from vertical_sdk.bases.base import pull_base
from vertical_sdk.checking import check_recipe
from vertical_sdk.data.labels import describe_untested
from vertical_sdk.data.prepare import prepare
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.families.lora import hide_peft_notice
from vertical_sdk.kernels.threads import use_threads
from vertical_sdk.recipe import Recipe, load_recipe
from vertical_sdk.sources.tables import is_table, keep_tables
from vertical_sdk.training.compute import Compute, choose_compute
from vertical_sdk.training.crossfit import train_folds
from vertical_sdk.training.job import Job, is_main_process
from vertical_sdk.training.run import Run, claim_folder, default_folder, find_unfinished
from vertical_sdk.training.stages import (
    build_specialist,
    calibrate,
    encode_job_rows,
    fit_members,
    keep_features,
    measure_validation,
    read_with_base,
    start_specialist,
    train_weights,
)
from vertical_sdk.training.start_record import check_resumed_job, read_start
from vertical_sdk.training.warm_start import Start, find_start, require_same_start, require_unseen_rows
from vertical_sdk.training.write import write_adapter
from vertical_sdk.training_arguments import training_arguments
from vertical_sdk.types import Progress, log_progress

__all__ = ["isolate_caller", "train"]

Choice = TypeVar("Choice")


def train(
    recipe: Recipe | Mapping[str, Any] | str | Path,
    *,
    base: str | None = None,
    settings: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    start: str | Path | None = None,
    progress: Progress = log_progress,
) -> Run:
    """Train the adapter of a recipe.

    recipe    a Recipe, the name of one ("medical/icd-chapter"), the path of its YAML file, or its keys as a dict. The `source` in
              its `data`, or the setting "data.source", may be a pandas DataFrame or an Arrow table. Its rows are then kept in a file
              (`vertical_sdk.paths.rows_home`), which the card names and later evaluations read
    base      a base model to use instead of the recipe's
    settings  dotted key → value, as `--set` takes them: {"train.learning_rate": 1e-4}
    out       the run's folder; None: `runs/<name>-<time>`
    resume    continue a stopped run from its last complete checkpoint. The final weights are those of a run that was never
              stopped (on a CPU, bit for bit). The recipe, the data's bytes, the prepared rows and the base must be those that the
              run began with. Without `out`: the newest unfinished run of this recipe
    start     an adapter to continue from (warm start), in place of the recipe's `start`: a registry reference, or a folder as for
              `evaluate`. It must have the same base, task, labels and adapter settings; or it learned from texts without labels (the
              tasks contrastive and language) and has the same base and adapter settings. The new card records it as its parent. To
              resume such a run, pass the same adapter again

    Raises RecipeError, DataError, SourceError, BaseModelError and RunError; AdapterError or RegistryError for `start`. If possible,
    it raises them before any weights are loaded. A stopped run leaves its checkpoints and no half-written adapter.
    """
    overrides = dict(settings or {}) | ({"base": base} if base else {})
    if start is not None:
        overrides["start"] = str(start.absolute()) if isinstance(start, Path) else start
    recipe = _load(recipe, overrides)
    recipe = recipe.anchored(Path.cwd())  # the card's paths are then the same from every folder
    check_recipe(recipe)
    _check_alone(recipe)
    folder = _choose_folder(recipe, out, resume=resume)
    start_adapter = find_start(recipe)
    recorded = read_start(folder) if resume else None
    if recorded is not None:
        require_same_start(folder, recorded.parent, start_adapter)
    if resume and (folder / "adapter").is_dir():
        with claim_folder(folder, recipe, resume=True):
            return Run(folder)
    claim = claim_folder(folder, recipe, resume=resume) if is_main_process() else contextlib.nullcontext()
    with claim, isolate_caller():
        compute = recorded.compute if recorded is not None else None
        job = _create_job(recipe, folder, start_adapter, compute, resume=resume, progress=progress)
        if recorded is not None:
            check_resumed_job(job, recorded)
        with use_threads(job.compute.threads):
            return train_folds(job) if recipe.folds else _run_stages(job)


def _load(recipe: Recipe | Mapping[str, Any] | str | Path, overrides: dict[str, Any]) -> Recipe:
    """Load a recipe in any form; tables in place of its source become files."""
    if is_table(recipe):
        raise RecipeError(
            "a table is not a recipe. Name it as the source of one: train({'name': 'my-team', 'task': 'classification', 'data': "
            "{'source': table, 'columns': {'text': ..., 'label': ...}}})."
        )
    if "data.source" in overrides:
        overrides["data.source"] = keep_tables(overrides["data.source"])
    if isinstance(recipe, Recipe):
        return recipe.replace(overrides)
    data = recipe.get("data") if isinstance(recipe, Mapping) else None
    if isinstance(recipe, Mapping) and isinstance(data, Mapping) and "source" in data:
        recipe = {**recipe, "data": {**data, "source": keep_tables(data["source"])}}
    return load_recipe(recipe, overrides)


def _check_alone(recipe: Recipe) -> None:
    """Check that a training in folds is one process, and starts from the base."""
    if not recipe.folds:
        return
    where = f"{recipe.name}: evaluate.use: crossfit"
    if recipe.start is not None:
        raise RecipeError(
            f"an adapter that has learned some of the rows would judge them too well: train without {recipe.start}.",
            where=where,
        )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RecipeError("the folds are trained in one process. Train without torchrun or accelerate launch.", where=where)


def _create_job(
    recipe: Recipe, folder: Path, start: Start | None, compute: Compute | None, *, resume: bool, progress: Progress
) -> Job:
    """Prepare the rows, fetch the base, and choose how to compute, unless the run has started already."""
    arguments = training_arguments(recipe.train, folder, recipe.name)
    prepared = prepare(recipe, progress=progress)
    require_unseen_rows(start, recipe, prepared)
    if recipe.evaluate.abstention is not None and not (prepared.validation or prepared.folds):
        raise DataError(
            "its threshold is fitted on validation rows, and there are none. Split off validation rows in data.split.",
            where=f"{recipe.name}: evaluate.abstention",
        )
    for gap in describe_untested(prepared.judged, prepared.labels):
        progress(f"warning: {gap}", None)
    progress(f"loading {recipe.base}", None)
    base = pull_base(recipe.base, progress=progress)
    compute = _agree(compute or choose_compute(arguments, set(recipe.train), base))
    arguments = replace(arguments, bf16=compute.bf16)
    return Job(recipe, folder, arguments, compute, prepared, base, start, resume, progress)


def _run_stages(job: Job) -> Run:
    """Train the job's specialist and write its adapter."""
    transformers.set_seed(job.seed)
    specialist = build_specialist(job)
    rows = encode_job_rows(job, specialist)
    base = read_with_base(job, specialist)
    start_specialist(job, base, rows)
    trainer, facts = train_weights(job, specialist, rows)
    if is_main_process():
        job.progress("reading the validation rows", None)
        facts["eval_loss"], own = measure_validation(job, trainer, rows)
        ensemble, outputs = fit_members(job, base, own)
        if ensemble is not None:
            facts["ensemble"] = {name: round(weight, 4) for name, weight in ensemble.shares.items()}
        job.progress("saving the adapter", None)
        write_adapter(job, specialist, calibrate(job, outputs), ensemble, facts)
        save_features(specialist, job.base.fingerprint, job.prepared, keep_features(base))
    trainer.accelerator.wait_for_everyone()
    return Run(job.folder, facts["resumed_from"], InMemory(job.recipe.digest, job.prepared, keep_features(base)))


def _choose_folder(recipe: Recipe, out: str | Path | None, *, resume: bool) -> Path:
    """The run's folder."""
    root = Path("runs")
    return _agree(Path(out) if out else (find_unfinished(recipe, root) if resume else None) or default_folder(recipe, root))


def _agree(choice: Choice) -> Choice:
    """What the first process of a training chose."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return choice
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    PartialState(cpu=not torch.cuda.is_available())
    shared = [choice]
    broadcast_object_list(shared)
    return shared[0]


@contextlib.contextmanager
def isolate_caller() -> Iterator[None]:
    """Restore the caller's random states after training, and hide a notice of PEFT's that does not apply."""
    state, torch_state = random.getstate(), torch.get_rng_state()
    try:
        with hide_peft_notice():
            yield
    finally:
        random.setstate(state)
        torch.set_rng_state(torch_state)
