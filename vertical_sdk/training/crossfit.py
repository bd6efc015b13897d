"""Train a recipe in folds: one adapter a fold, each on the other folds, and the mean of them, which ships.

Each fold is an ordinary run in `folds/N` of the run. The mean of the adapters is one adapter of K times the rank: of the low-rank
updates s B_k A_k, the matrices A_k are joined as rows and the B_k as columns, and PEFT's scale s = alpha / rank becomes
s / K by itself. The update is then exactly the mean of the K updates, as in a model soup (Wortsman et al., 2022). The answers are not
exactly the mean of the K answers, since a network is not linear in its weights, so the card says how far they agree.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor

from vertical_sdk.adapters.folder import Adapter
from vertical_sdk.baselines.frozen_base import FrozenBase, InMemory
from vertical_sdk.baselines.kept_features import save_features
from vertical_sdk.baselines.stacking import Ensemble, fit_member, stack_members
from vertical_sdk.card import Calibration, read_card
from vertical_sdk.data.prepare import Prepared
from vertical_sdk.errors import RecipeError
from vertical_sdk.evaluation.out_of_fold import Folds, fold_folder, load_folds
from vertical_sdk.families.head import Head, load_head
from vertical_sdk.families.lora import ADAPTER_WEIGHTS, DEFAULTS, read_weights
from vertical_sdk.families.specialist import Specialist, family_for, run_rows
from vertical_sdk.model_card import CROSSFIT
from vertical_sdk.outputs import Outputs
from vertical_sdk.recipe import Recipe
from vertical_sdk.tables import ENGINES
from vertical_sdk.training.job import Job
from vertical_sdk.training.run import Run, claim_folder
from vertical_sdk.training.stages import (
    JobRows,
    build_specialist,
    calibrate_on,
    encode_job_rows,
    keep_features,
    read_with_base,
    start_specialist,
    train_weights,
)
from vertical_sdk.training.start_record import check_resumed_job, read_start
from vertical_sdk.training.write import write_adapter
from vertical_sdk.training_arguments import training_arguments

__all__ = ["mean_of_weights", "train_folds"]

COMPARED = 1000
"""The most rows on which the mean adapter is compared with the adapters of the folds."""


def train_folds(job: Job) -> Run:
    """Train the adapters of the folds, and write their mean with the stacker and the calibration of their out-of-fold answers.

    Folds that are finished are kept.

    Raises RecipeError for a base that is not an encoder, and for a rank that, times the folds, no weight of the base has.
    """
    recipe = job.recipe
    where = f"{recipe.name}: evaluate.use: crossfit"
    if (family := family_for(job.base, recipe)) != "encoder":
        raise RecipeError(
            f"cross-fitting is made for encoders, and {job.base.name} is {family}. Choose an encoder, or set evaluate.use: split.",
            where=where,
        )
    transformers.set_seed(job.seed)
    specialist = build_specialist(replace(job, recipe=_widen(recipe)))
    rows = encode_job_rows(job, specialist)
    base = read_with_base(job, specialist)
    start_specialist(job, base, rows)
    trainings = [_train_fold(job, number, fold, base) for number, fold in enumerate(job.prepared.folds, 1)]
    job.progress("reading the rows of the folds", None)
    base = FrozenBase(specialist, progress=job.progress, known=keep_features(base))
    folds = load_folds(ENGINES.load("torch")(job.base), job.folder, recipe, job.prepared, base)
    ensemble, calibration = _fit_whole(job, folds, base)
    adapters = [folds.engine.adapter(name) for name in folds.names]
    _set_mean(specialist, adapters, recipe)
    facts = _list_facts(job, rows, trainings)
    if ensemble is not None:
        facts["ensemble"] = {name: round(weight, 4) for name, weight in ensemble.shares.items()}
    facts[CROSSFIT] = {
        "folds": len(adapters),
        "rows": len(folds.rows),
        "agreement": _compare(job, specialist, folds),
        "adapters": [adapter.card.files[ADAPTER_WEIGHTS] for adapter in adapters],
    }
    job.progress("saving the adapter", None)
    write_adapter(job, specialist, calibration, ensemble, facts)
    save_features(specialist, job.base.fingerprint, job.prepared, keep_features(base))
    return Run(job.folder, facts["resumed_from"], InMemory(recipe.digest, job.prepared, keep_features(base)))


def _train_fold(job: Job, number: int, prepared: Prepared, base: FrozenBase) -> Mapping[str, Any]:
    """Train the adapter of one fold, without members, in a run of its own; return the facts about it.

    base  what it has read of the rows is not read again
    """
    recipe, folder = job.recipe.replace({"ensemble": []}), fold_folder(job.folder, number)
    if (folder / "adapter").is_dir():
        return read_card(folder / "adapter").training

    def progress(what: str, share: float | None = None) -> None:
        job.progress(f"fold {number} of {len(job.prepared.folds)}: {what}", share)

    with claim_folder(folder, recipe, resume=job.resume):
        arguments = replace(training_arguments(recipe.train, folder, recipe.name), bf16=job.compute.bf16)
        fold = replace(job, recipe=recipe, folder=folder, arguments=arguments, prepared=prepared, progress=progress)
        recorded = read_start(folder) if job.resume else None
        if recorded is not None:
            check_resumed_job(fold, recorded)
        transformers.set_seed(job.seed)
        specialist = build_specialist(fold)
        rows = encode_job_rows(fold, specialist)
        own_base = read_with_base(fold, specialist)
        own_base.known.update(base.known)
        start_specialist(fold, own_base, rows)
        _, facts = train_weights(fold, specialist, rows)
        write_adapter(fold, specialist, Calibration(), None, {**facts, "fold": number})
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return facts


def _fit_whole(job: Job, folds: Folds, base: FrozenBase) -> tuple[Ensemble | None, Calibration]:
    """Fit the members on all rows, and stacker and calibration on the out-of-fold answers of adapters and members."""
    recipe, prepared, raw = job.recipe, job.prepared, folds.answer(job.progress)
    ensemble = None
    if recipe.ensemble:
        members, out_of_fold = [], []
        for number, part in enumerate(recipe.ensemble):
            job.progress(f"ensemble: {part.use}", number / len(recipe.ensemble))
            out_of_fold.append(folds.predict(part))
            members.append(fit_member(recipe, number, prepared.originals, prepared.labels, job.seed, base))
        ensemble, raw = stack_members(recipe, members, out_of_fold, folds.rows, raw, prepared.labels)
    return ensemble, calibrate_on(job, raw, folds.rows)


def _widen(recipe: Recipe) -> Recipe:
    """The recipe with the rank of the mean adapter: the adapters' ranks added up."""
    ranks = recipe.adapter.get("rank_pattern") or {}
    wide = {"r": recipe.folds * recipe.adapter.get("r", DEFAULTS["r"])}
    wide |= {"rank_pattern": {name: recipe.folds * rank for name, rank in ranks.items()}} if ranks else {}
    return recipe.replace({"adapter": {**recipe.adapter, **wide}})


def _set_mean(specialist: Specialist, adapters: Sequence[Adapter], recipe: Recipe) -> None:
    """Give a specialist of the widened recipe the mean of adapters and heads."""
    import peft

    module: Any = specialist
    backbone = module.backbone
    parameters = sum(weight.numel() for weight in backbone.parameters())
    weights = [read_weights(adapter.files, parameters) for adapter in adapters]
    mean = mean_of_weights(weights, stabilized=bool(recipe.adapter.get("use_rslora")))
    missing = set(peft.get_peft_model_state_dict(backbone, save_embedding_layers=False)) ^ set(mean)
    if missing:
        raise AssertionError(f"the mean of the adapters and the specialist have other tensors: {sorted(missing)[:5]}")
    peft.set_peft_model_state_dict(backbone, mean)
    if specialist.head is not None:
        device = specialist.head.linear.weight.device
        specialist.head.load_state_dict(_mean_head([load_head(adapter.files) for adapter in adapters]).state_dict())
        specialist.head.to(device)
    module.eval()


def mean_of_weights(weights: Sequence[Mapping[str, Tensor]], *, stabilized: bool = False) -> dict[str, Tensor]:
    """Join the tensors of K adapters of rank r to one of rank K r, whose update is the mean of theirs if alpha is the same.

    weights     name → tensor of each, as PEFT saves them: A (r, in), B (out, r)
    stabilized  the scale is alpha / sqrt(rank) (Kalajdzievski, 2023), of which joining makes 1 / sqrt(K): B is divided by the same again
    """
    count, joined = len(weights), {}
    for name in weights[0]:
        tensors = [tensors[name] for tensors in weights]
        if "lora_A" in name or "lora_embedding_A" in name:
            joined[name] = torch.cat(tensors, dim=0)
        else:
            joined[name] = torch.cat(tensors, dim=1) / (math.sqrt(count) if stabilized else 1)
    return joined


def _mean_head(heads: Sequence[Head]) -> Head:
    """The head whose outputs are the mean of those of heads: (W x + b) std + mean is linear in x, whatever std and mean are."""
    outputs, width = heads[0].linear.weight.shape
    std = float(np.mean([float(head.std) for head in heads]))
    mean = Head(width, outputs, float(np.mean([float(head.mean) for head in heads])), std)
    with torch.no_grad():
        for own, others in (
            (mean.linear.weight, [h.linear.weight * h.std for h in heads]),
            (mean.linear.bias, [h.linear.bias * h.std for h in heads]),
        ):
            own.copy_(torch.stack(others).mean(dim=0) / std)
    return mean


def _compare(job: Job, specialist: Specialist, folds: Folds) -> dict[str, Any]:
    """How far the answers of the mean adapter agree with the mean of the answers of the adapters, all without members."""
    rows: Sequence[Any] = job.prepared.test or folds.rows
    if len(rows) > COMPARED:
        rows = random.Random(job.seed).sample(list(rows), COMPARED)  # noqa: S311
    encoded = [specialist.encode(row, learn=True) for row in rows]
    task = job.task
    own = task.decode(run_rows(specialist, encoded, lambda batch: specialist(batch)[0]).numpy())
    single = [
        task.decode(np.stack([raw.values for raw in folds.engine.outputs(rows, [name] * len(rows))])) for name in folds.names
    ]
    facts: dict[str, Any] = {"rows": len(rows), "held_out": bool(job.prepared.test)}
    if own.probabilities is None:
        values = [task.predictions(outputs) for outputs in single]
        difference = np.abs(task.predictions(own) - np.mean(values, axis=0))
        return facts | {
            "largest_difference": round(float(difference.max()), 4),
            "mean_difference": round(float(difference.mean()), 4),
        }
    mean = np.mean([outputs.probabilities for outputs in single if outputs.probabilities is not None], axis=0)
    equal = task.predictions(own) == task.predictions(Outputs(probabilities=mean))
    share = float(equal.reshape(len(rows), -1).all(axis=1).mean())
    difference = np.abs(own.probabilities - mean)
    return facts | {
        "equal_labels": round(share, 4),
        "largest_difference": round(float(difference.max()), 4),
        "mean_difference": round(float(difference.mean()), 4),
    }


def _list_facts(job: Job, rows: JobRows, trainings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The facts about the training of all folds that the card records."""
    last = trainings[-1]
    same = ("trained_parameters", "seed", "bf16", "processes", "cpu_threads", "onednn")
    return {
        "steps": sum(facts["steps"] for facts in trainings),
        "seconds": round(sum(facts["seconds"] for facts in trainings), 1),
        "loss": round(float(np.mean([facts["loss"] for facts in trainings])), 5),
        "rows": len(job.prepared.train),
        "cut_rows": len([row for row in rows.train if row.cut]),
        **rows.facts,
        **{name: last[name] for name in same},
        "resumed_from": next((facts["resumed_from"] for facts in trainings if facts["resumed_from"] is not None), None),
        "eval_loss": None,
    }
