"""Measure how good a specialist is with few rows a label, beside systems that cost less.

    python benchmarks/learning_curve.py [--data FOLDER] [--recipes RECIPE...] [--rows 4 8 16 32 64 all] [--seeds 0 1 2]

A seed draws so many training rows of each label, and every system learns from these rows alone. What is measured is macro-F1 on
the recipe's *validation* rows, at most --judges of them, which are the same for all and of which no system sees any. So a choice by
these numbers leaves the test rows untouched.

    tfidf        logistic regression on words and pieces of words
    probe        a linear probe of the frozen base
    plain        the recipe's own settings without members: LoRA from the probe, with the recipe's loss and augmentation
    contrastive  train.contrastive_steps, and a head that is fitted on the adapter's features; the settings are in CONTRASTIVE
    whole        contrastive with the members tfidf and probe; a quarter of the rows fit the weights of the three

A value that was measured with the current recipe is not measured again, so a second call continues after the last value of the
first. Results go to benchmarks/learning_curve.json, docs/few-rows.md and docs/images/few-rows.png. Without --recipes, the values that
are there are written again.
"""

from __future__ import annotations

import argparse
import functools
import random
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import few_rows_page
import page
import transformers
from local import FILES, machine

from vertical_sdk import catalog
from vertical_sdk.bases.base import pull_base
from vertical_sdk.checking import check_recipe
from vertical_sdk.data.augment import augment
from vertical_sdk.data.labels import count_labels
from vertical_sdk.data.prepare import Prepared, prepare
from vertical_sdk.families.specialist import run_rows
from vertical_sdk.metrics.measure import bind
from vertical_sdk.outputs import Outputs
from vertical_sdk.recipe import Recipe, load_recipe
from vertical_sdk.tasks import get_task
from vertical_sdk.training.compute import choose_compute
from vertical_sdk.training.job import Job
from vertical_sdk.training.stages import (
    build_specialist,
    encode_job_rows,
    fit_members,
    measure_validation,
    read_with_base,
    start_specialist,
    train_weights,
)
from vertical_sdk.training_arguments import training_arguments
from vertical_sdk.types import Example, LabelSpace

CONTRASTIVE: dict[str, Any] = {
    "data.augment": [],
    "train.contrastive_steps": 30,
    "train.num_train_epochs": 0,
    "train.learning_rate": 1e-3,
    "train.per_device_train_batch_size": 32,
}
"""What the systems contrastive and whole change in a recipe."""
MEMBERS: list[dict[str, Any]] = [{"use": "tfidf"}, {"use": "probe"}]
HELD_OUT = 4
"""One row in so many fits the weights of the members."""


def draw(prepared: Prepared, count: int | None, seed: int) -> list[Example]:
    """Draw so many training rows of each label, or all that it has."""
    groups: dict[Any, list[Example]] = defaultdict(list)
    for row in prepared.originals:
        groups[row.target].append(row)
    drawn = []
    for label, rows in sorted(groups.items()):
        rng = random.Random(f"{seed} {label}")
        drawn += rng.sample(rows, len(rows) if count is None else min(count, len(rows)))
    return drawn


def hold_out(rows: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """Divide rows into those to train on and those that fit weights: of each label, every fourth."""
    seen: dict[Any, int] = defaultdict(int)
    parts: tuple[list[Example], list[Example]] = ([], [])
    for row in rows:
        seen[row.target] += 1
        parts[seen[row.target] % HELD_OUT == 0].append(row)
    return parts


def augmented(recipe: Recipe, rows: Sequence[Example], seed: int) -> list[Example]:
    """Add the recipe's augmented copies."""
    parts = [
        functools.partial(
            catalog.augmentations.get(part.use), **catalog.augmentations.check(part.use, part.arguments, recipe.name)
        )
        for part in recipe.data.augment
    ]
    return augment(rows, parts, recipe.data.copies, seed)[0] if parts else list(rows)


class Measurement:
    """One recipe with one draw of rows; each system answers the same judges."""

    def __init__(self, recipe: Recipe, prepared: Prepared, count: int | None, seed: int) -> None:
        self.recipe, self.prepared, self.seed = recipe.replace({"train.seed": seed}), prepared, seed
        self.task, self.base = get_task(recipe.task), pull_base(recipe.base)
        self.rows, self.judges = draw(prepared, count, seed), prepared.validation

    def score(self, system: str) -> float:
        """Train a system on the rows, and compute its macro-F1 on the judges."""
        if system == "tfidf":
            return self._measure(self._fit_alone("tfidf"))
        if system == "probe":
            return self._measure(self._train({"train.num_train_epochs": 0, "data.augment": []}, self.rows))
        if system == "plain":
            return self._measure(self._train({}, self.rows))
        if system == "contrastive":
            return self._measure(self._train(CONTRASTIVE, self.rows))
        return self._measure(self._train({**CONTRASTIVE, "ensemble": MEMBERS}, *hold_out(self.rows)))

    def _fit_alone(self, name: str) -> Outputs:
        fitted = catalog.baselines.get(name)(self.rows, self._count(self.rows), self.recipe.task, self.seed, None)
        return fitted.predict(self.judges, None)

    def _count(self, rows: Sequence[Example]) -> LabelSpace:
        assert self.prepared.labels is not None
        counts = count_labels(rows)
        return replace(self.prepared.labels, counts={label: counts.get(label, 0) for label in self.prepared.labels.labels})

    def _train(self, settings: Mapping[str, Any], train: Sequence[Example], held_out: Sequence[Example] = ()) -> Outputs:
        """Train as `vertical train` does, on these rows, and answer the judges."""
        recipe = self.recipe.replace({"ensemble": [], **settings})
        check_recipe(recipe)
        prepared = replace(
            self.prepared,
            train=tuple(augmented(recipe, train, self.seed)),
            validation=tuple(held_out),
            test=(),
            labels=self._count(train),
        )
        folder = Path(tempfile.mkdtemp())
        options = {key: value for key, value in recipe.train.items() if key not in {"eval_steps", "save_steps"}}
        arguments = training_arguments({**options, "save_strategy": "no"}, folder, recipe.name)
        compute = choose_compute(arguments, set(recipe.train), self.base)
        job = Job(recipe, folder, replace(arguments, bf16=compute.bf16), compute, prepared, self.base)
        transformers.set_seed(self.seed)
        specialist = build_specialist(job)
        rows = encode_job_rows(job, specialist)
        base = read_with_base(job, specialist)
        start_specialist(job, base, rows)
        trainer, _ = train_weights(job, specialist, rows)
        ensemble, _ = fit_members(job, base, measure_validation(job, trainer, rows)[1])
        shutil.rmtree(folder)
        encoded = [specialist.encode(row, learn=False) for row in self.judges]
        own = run_rows(specialist, encoded, lambda batch: specialist(batch)[0]).numpy()
        return self.task.decode(own if ensemble is None else ensemble.combine(own, ensemble.gather(self.judges, base)))

    def _measure(self, outputs: Outputs) -> float:
        labels = self.prepared.labels
        truth = self.task.references(self.judges, labels)
        return bind("macro_f1", labels, {})(self.task.predictions(outputs), truth, outputs.probabilities, self.judges, None)


def measure(name: str, options: argparse.Namespace, records: dict[str, Any]) -> Iterator[None]:
    """Measure all systems of a recipe; add each value to its record."""
    places = FILES.get(name, {}) if options.data else {}
    recipe = load_recipe(name, {key: str(options.data.resolve() / value) if value else value for key, value in places.items()})
    check_recipe(recipe)
    key = {"recipe": load_recipe(name).digest, "judges": options.judges, "contrastive": CONTRASTIVE, "members": MEMBERS}
    record = records.get(name, {})
    if any(record.get(k) != v for k, v in key.items()):
        record = {**key, "values": {}}
    prepared = prepare(recipe.replace({"data.augment": []}))
    judges = random.Random(0).sample(prepared.validation, min(options.judges, len(prepared.validation)))
    prepared = replace(prepared, validation=tuple(judges))
    record |= {
        "rows": len(judges),
        "labels": len(prepared.labels or ()),
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
    }
    records[name] = record
    for seed in options.seeds:
        for count in options.rows:
            values = record["values"].setdefault(str(count), {})
            measurement = Measurement(recipe, prepared, None if count == "all" else int(count), seed)
            for system in options.systems:
                if str(seed) in values.setdefault(system, {}):
                    continue
                values[system][str(seed)] = value = measurement.score(system)
                print(f"{name}: {count} rows a label, {system}, seed {seed}: {value:.4f}", flush=True)
                yield


def main() -> None:
    """Measure the recipes named on the command line."""
    given = argparse.ArgumentParser(description="Measure specialists that learn from few rows a label.")
    given.add_argument("--recipes", nargs="*", default=[])
    given.add_argument("--data", type=Path, help="a folder with the files of benchmarks/local.py")
    given.add_argument("--rows", nargs="+", default=["16"], help="training rows of each label, or all")
    given.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given.add_argument("--systems", nargs="+", default=list(few_rows_page.SYSTEMS), choices=few_rows_page.SYSTEMS)
    given.add_argument("--judges", type=int, default=300, help="maximum number of validation rows that judge")
    options = given.parse_args()
    records = page.read_records(few_rows_page.RECORDS)
    for name in options.recipes:
        for _ in measure(name, options, records):
            few_rows_page.save(records)
    few_rows_page.save(records)


if __name__ == "__main__":
    main()
