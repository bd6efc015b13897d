"""Measure what each recipe's vertical loss and augmentations contribute, and what a pretrained backbone contributes on numbers.

    python benchmarks/ablation.py [--data FOLDER] [--rows N] [--seeds 0 1 2] [RECIPE]...

The comparison is with the task's default loss without augmentation. Every variant of a recipe is trained on the same rows from the
same start, and is scored on the recipe's *validation* rows, so that a choice by it leaves the test rows untouched. To cost minutes
instead of days, a run takes at most --rows training rows, as many steps as --epochs of them need, and at most --judges validation
rows. The adapter is scored alone, without ensemble members, by the recipe's own metric. The label offsets of one half of the rows
are fitted on the other half. A value that was measured with the current recipe is not measured again, so a second call continues
after the last value of the first.
Results go to benchmarks/ablation.json, docs/results.md and docs/results/parts.md.
"""

from __future__ import annotations

import argparse
import functools
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import page
import transformers
from local import FILES, machine

from vertical_sdk import catalog
from vertical_sdk.bases.base import pull_base
from vertical_sdk.checking import check_recipe
from vertical_sdk.data.augment import augment
from vertical_sdk.data.labels import count_labels
from vertical_sdk.data.prepare import Prepared, prepare
from vertical_sdk.families.head import fit_probe
from vertical_sdk.families.specialist import create_specialist, run_rows
from vertical_sdk.kernels.fused_lora import fast_training
from vertical_sdk.losses import bind_loss
from vertical_sdk.metrics.measure import bind
from vertical_sdk.outputs import Outputs
from vertical_sdk.recipe import Part, Recipe, load_recipe, recipe_names
from vertical_sdk.tasks import get_task, main_metric
from vertical_sdk.training.encode import encode_rows
from vertical_sdk.training.trainer import VerticalTrainer
from vertical_sdk.training_arguments import training_arguments
from vertical_sdk.types import Example, LabelSpace, silent

LEFT_OUT: dict[str, dict[str, Any]] = {
    "finance/bankruptcy": {"loss": {"use": "class_balanced", "beta": 0.999, "gamma": 1.0}},
    "legal/license-category": {"loss": {"use": "hierarchical", "weight": 0.5, "beta": 0.99, "smoothing": 0.05}},
    "legal/unfair-terms": {"loss": {"use": "asymmetric", "gamma_positive": 0.0, "gamma_negative": 2.0, "clip": 0.05}},
    "traffic/flow-forecast": {
        "loss": {"use": "traffic.smooth_mae", "weight": 0.05},
        "augment": [{"use": "traffic.jitter", "share": 0.1}, {"use": "traffic.missing_block", "p": 0.2}],
    },
}
"""Parts that a recipe leaves out because they gained nothing here. They are still measured."""


@dataclass(frozen=True)
class Variant:
    """One way to train: loss, augmentations, copies of each row, and how the backbone is treated."""

    title: str
    loss: Part
    parts: tuple[Part, ...] = ()
    copies: int = 0
    backbone: Literal["adapted", "frozen", "random", "scratch"] = "adapted"


def variants(recipe: Recipe) -> Iterator[Variant]:
    """List the variants to compare; the first is the plain one."""
    plain = Part(use=get_task(recipe.task).default_loss)
    left: dict[str, Any] = LEFT_OUT.get(recipe.name, {})
    own = Part.model_validate(left["loss"]) if "loss" in left else recipe.loss or plain
    without = [Part.model_validate(part) for part in left.get("augment", ())]
    parts = (*recipe.data.augment, *without)
    if recipe.task == "ordinal":
        plain = Part(use="cross_entropy")
    if own.use == "quantile" and recipe.series.quantiles:
        plain = own  # it is the question, not the answer, that has quantiles
    copies = max(1, recipe.data.copies)
    yield Variant("plain", plain)
    if own != plain:
        yield Variant(f"loss {own.use}" + (" (left out)" if "loss" in left else ""), own)
    for part in parts:
        yield Variant(f"augmentation {part.use}" + (" (left out)" if part in without else ""), plain, (part,), copies)
    if parts and own != plain:
        yield Variant("all of them", own, parts, copies)
    if recipe.data.modality != "text":
        yield Variant("plain, backbone frozen, without LoRA", plain, backbone="frozen")
        yield Variant("plain, backbone of random weights with LoRA", plain, backbone="random")
        yield Variant("plain, same shape from scratch, all of it trained", plain, backbone="scratch")


def chosen(prepared: Prepared, most: int, seed: int) -> list[Example]:
    """Sample at most `most` original training rows."""
    rows = list(prepared.originals)
    return rows if len(rows) <= most else random.Random(seed).sample(rows, most)


def score(  # noqa: PLR0914  (one measurement, from top to bottom)
    recipe: Recipe, variant: Variant, train: list[Example], prepared: Prepared, seed: int, epochs: float, real: int
) -> float:
    """Train an adapter on these rows and compute the recipe's metric on the validation rows.

    real  the number of rows that are not augmented copies; it sets the number of steps of every variant
    """
    labels: LabelSpace | None = prepared.labels
    if labels is not None:
        counts = count_labels([row for row in train if row.copy_of is None])
        labels = replace(labels, counts={label: counts.get(label, 0) for label in labels.labels})
    transformers.set_seed(seed)
    specialist = create_specialist(pull_base(recipe.base), recipe, labels, prepared.layout)
    for name, weights in specialist.backbone.named_parameters():
        lora = "lora_" in name
        weights.requires_grad_(variant.backbone != "frozen" if lora else variant.backbone == "scratch")
        if (
            variant.backbone in {"random", "scratch"} and not lora and weights.dim() > 1
        ):  # as wide as it was, without what it had learned
            weights.data.normal_(std=float(weights.std()))
    rows = encode_rows(specialist, train, learn=True)
    validation = encode_rows(specialist, prepared.validation, learn=False)
    originals = [row for row, example in zip(rows, train, strict=True) if example.copy_of is None]
    specialist.fit_to_rows(originals)
    if specialist.head is not None:
        features = run_rows(specialist, originals, specialist.features, bf16=True)
        head = fit_probe(features, [row.target for row in originals], recipe.task, specialist.head.linear.out_features)
        specialist.head.mean.copy_(head.mean)
        specialist.head.std.copy_(head.std)
        specialist.head.load_state_dict(head.state_dict())
    folder = Path(tempfile.mkdtemp())
    steps = max(1, round(epochs * real / int(recipe.train.get("per_device_train_batch_size", 32))))
    settings = {**recipe.train, "max_steps": steps, "eval_strategy": "no", "save_strategy": "no", "seed": seed}
    loss = bind_loss(
        recipe.replace({"loss": variant.loss.model_dump()}), labels, specialist.scale, prepared.layout, default=variant.loss.use
    )
    trainer = VerticalTrainer(specialist, training_arguments(settings, folder, "ablation"), rows, [], loss, silent)
    with fast_training(specialist.backbone, bf16=True):
        trainer.train()
    trainer.accelerator.unwrap_model(trainer.model_wrapped, keep_fp32_wrapper=False).eval()
    shutil.rmtree(folder)
    raw = run_rows(specialist, validation, lambda batch: specialist(batch)[0], bf16=True)
    outputs = get_task(recipe.task).decode(raw.numpy())
    part = main_metric(recipe)
    measure = bind(part.use, labels, part.arguments)
    task = get_task(recipe.task)
    truth = task.references(prepared.validation, labels)
    predictions = task.predictions(outputs)
    if outputs.probabilities is not None:  # the label offsets of one half are fitted on the other half
        half = np.arange(len(truth)) % 2 == 0
        for scored, fitted in ((half, ~half), (~half, half)):
            examples = [prepared.validation[i] for i in np.flatnonzero(fitted)]
            offsets = task.fit_offsets(Outputs(probabilities=outputs.probabilities[fitted]), examples, labels, recipe)
            moved = Outputs(probabilities=outputs.probabilities[scored], offsets=np.array(offsets) if offsets else None)
            predictions[scored] = task.predictions(moved)
    return measure(predictions, truth, outputs.probabilities, prepared.validation, outputs.quantiles)


def ablate(name: str, settings: dict[str, Any], options: argparse.Namespace, known: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Measure all variants of a recipe; yield its record after each run."""
    recipe = load_recipe(name, settings)
    check_recipe(recipe)
    key = {
        "recipe": load_recipe(name).replace({"loss": None}).digest,
        "rows": options.rows,
        "judges": options.judges,
        "epochs": options.epochs,
    }
    record = known if all(known.get(k) == v for k, v in key.items()) else {**key, "values": {}}
    record |= {"metric": main_metric(recipe).use, "date": time.strftime("%Y-%m-%d"), "machine": machine()}
    prepared = prepare(recipe.replace({"data.augment": []}))
    if len(prepared.validation) > options.judges:
        judges = random.Random(0).sample(prepared.validation, options.judges)
        prepared = replace(prepared, validation=tuple(judges))
    for seed in options.seeds:
        rows = chosen(prepared, options.rows, seed)
        for variant in variants(recipe):
            values = record["values"].setdefault(variant.title, {})
            if str(seed) in values:
                continue
            train = rows
            if variant.parts:
                named = [
                    functools.partial(
                        catalog.augmentations.get(part.use), **catalog.augmentations.check(part.use, part.arguments, name)
                    )
                    for part in variant.parts
                ]
                train, _ = augment(rows, named, variant.copies, seed)
            values[str(seed)] = score(recipe, variant, list(train), prepared, seed, options.epochs, len(rows))
            print(f"{name}: {variant.title}, seed {seed}: {values[str(seed)]:.4f}", flush=True)
            yield record


def can_ablate(recipe: Recipe) -> bool:
    """Whether a recipe's answers are compared with labels or numbers: not if it writes them, or learns without labels."""
    task = get_task(recipe.task)
    return not (task.written or task.unlabelled)


def main() -> None:
    """Ablate the recipes named on the command line, or all with labels or numbers."""
    given = argparse.ArgumentParser(description="Measure what each recipe's vertical loss and augmentations contribute.")
    given.add_argument("recipes", nargs="*", help="default: all recipes with labels or numbers")
    given.add_argument("--data", type=Path, help="a folder with the files of benchmarks/local.py")
    given.add_argument("--rows", type=int, default=600, help="maximum number of training rows")
    given.add_argument("--judges", type=int, default=1000, help="maximum number of validation rows")
    given.add_argument("--epochs", type=float, default=3.0)
    given.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = given.parse_args()
    data = options.data.resolve() if options.data else None
    records = page.read_records(page.ABLATION)
    for name in options.recipes or [one for one in recipe_names() if can_ablate(load_recipe(one))]:
        places = FILES.get(name, {}) if data else {}
        settings = {key: str(data / value) if value and data else value for key, value in places.items()}
        for record in ablate(name, settings, options, records.get(name, {})):
            records[name] = record
            page.save_records(page.ABLATION, records)


if __name__ == "__main__":
    main()
