"""Write a trained adapter: weights, tokenizer, head, members, record index, model card and card."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vertical_sdk.adapters.members_only import record_members
from vertical_sdk.adapters.self_test import Whole, record_self_tests
from vertical_sdk.baselines.stacking import Ensemble, save_ensemble
from vertical_sdk.card import Calibration, Card, library_versions, write_card
from vertical_sdk.data.training_rows import knows_rows
from vertical_sdk.evaluation.learned_rows import SAME_ROWS, continues_on_same_rows
from vertical_sdk.families.head import PROBE_HEAD
from vertical_sdk.families.specialist import Specialist, family_for
from vertical_sdk.model_card import render_readme
from vertical_sdk.paths import report_full_disk, write_whole
from vertical_sdk.record_index import write_record_index
from vertical_sdk.registry.checked_files import CheckedFiles
from vertical_sdk.training.job import Job
from vertical_sdk.types import Example, Split

__all__ = ["write_adapter"]


def write_adapter(
    job: Job, specialist: Specialist, calibration: Calibration, ensemble: Ensemble | None, facts: Mapping[str, Any]
) -> None:
    """Write the adapter's folder under another name, then rename it to `adapter`, so that no half-written adapter exists.

    facts  about the training, for the card

    Raises RunError if the disk is full.
    """
    staged = job.folder / ".adapter"
    shutil.rmtree(staged, ignore_errors=True)
    with report_full_disk(staged):
        staged.mkdir(parents=True)
        _write_weights(job, specialist, staged)
        if ensemble is not None:
            save_ensemble(staged, ensemble)
        _write_record_index(job, staged)
        card = _create_card(job, specialist, Whole(ensemble, calibration, CheckedFiles(staged), job.prepared.fields), facts)
        card = record_members(card, ensemble)
        write_whole(staged / "README.md", render_readme(card, job.base.hub_id))
        write_card(staged, card)
        staged.rename(job.folder / "adapter")


def _write_weights(job: Job, specialist: Specialist, folder: Path) -> None:
    """Write LoRA weights, tokenizer, head and the head's probe."""
    # save_embedding_layers=False: otherwise PEFT queries the hub about the base
    specialist.backbone.save_pretrained(str(folder), save_embedding_layers=False)
    if specialist.tokenizer is not None:
        specialist.tokenizer.save_pretrained(str(folder))
    specialist.save(folder)
    if specialist.head is not None:
        shutil.copyfile(job.folder / PROBE_HEAD, folder / PROBE_HEAD)


def _write_record_index(job: Job, folder: Path) -> None:
    """Write which records were trained on, if the recipe says so."""
    prepared = job.prepared
    if not job.recipe.data.remember_ids:
        return
    splits: dict[Split, Sequence[Example]] = {
        "train": prepared.train,
        "validation": prepared.validation,
        "test": prepared.test,
    }
    write_record_index(folder, splits, groups=prepared.layout is None)


def _create_card(job: Job, specialist: Specialist, whole: Whole, facts: Mapping[str, Any]) -> Card:
    recipe, prepared = job.recipe, job.prepared
    return Card(
        name=recipe.name,
        task=recipe.task,
        family=family_for(job.base, recipe),
        verb=job.task.verb,
        pipeline_tag=job.task.pipeline_tag(recipe.data.modality),
        base=job.base.fingerprint,
        recipe=recipe.to_dict(),
        recipe_digest=recipe.digest,
        labels=prepared.labels,
        fields=prepared.fields,
        values=prepared.values,
        layout=prepared.layout,
        sources=prepared.sources,
        account=prepared.account.to_dict(),
        calibration=whole.calibration,
        self_tests=record_self_tests(specialist, whole),
        training=dict(facts) | _describe_start(job),
        parent=job.start.parent if job.start is not None else None,
        versions=library_versions(),
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )


def _describe_start(job: Job) -> dict[str, bool]:
    """Whether the adapter of a warm start was trained on rows of this recipe alone; {} without one."""
    if job.start is None:
        return {}
    card = job.start.card
    same = continues_on_same_rows(card, job.recipe, job.prepared.sources)
    return {SAME_ROWS: same or bool(card.parent is None and knows_rows(card, job.recipe.name, job.prepared))}
