"""Measure what each vertical loss, augmentation and training method contributes, and what a pretrained backbone contributes on numbers.

    python benchmarks/ablation.py [--data FOLDER] [--recipes RECIPE...] [--methods NAME...] [--rows N] [--seeds 0 1 2 3 4]

A table for each recipe. Losses and augmentations are compared with *plain*: the task's default loss without augmentation. Methods, each
alone, are compared with *the recipe's own settings*. Every variant is trained on the same rows from the same start, and is scored on
the recipe's *validation* rows, so that a choice by it leaves the test rows untouched. To cost minutes instead of days, a training
takes at most --rows training rows, drawn by its seed, as many steps as --epochs of them need, and at most --judges validation rows.
The adapter is scored alone, without ensemble members, by the recipe's own metric. What is fitted on validation rows, such as label
offsets, is fitted on one half of them for the other half. A value that was measured with the current recipe is not measured again, so
a second call continues after the last value of the first.

--methods  rows to measure, by the first word of their titles: parts, ema_decay, rdrop_alpha, ...; default: all

Results go to benchmarks/ablation.json, docs/results.md and docs/results/parts.md.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import random
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import page
from local import FILES, machine

from vertical_sdk import catalog
from vertical_sdk.bases.base import Base, pull_base
from vertical_sdk.checking import check_recipe
from vertical_sdk.data.augment import augment
from vertical_sdk.data.labels import count_labels
from vertical_sdk.data.prepare import Prepared, prepare
from vertical_sdk.errors import RecipeError
from vertical_sdk.metrics.measure import higher_is_better
from vertical_sdk.recipe import Part, Recipe, load_recipe, recipe_names
from vertical_sdk.tasks import get_task, main_metric
from vertical_sdk.tuning.trainings import Trainings, Watch
from vertical_sdk.types import silent

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
PARTS = "parts"
QUERY_AND_VALUE = r".*\.(query|value|q_proj|v_proj|q_lin|v_lin)"
"""The layers that the paper of LoRA trains, as common bases name them."""
RANKS = (4, 16, 32)
NEEDS_MORE = ("hierarchical", "quantile")
"""Losses that need a tree of labels, or outputs of their own: they replace no other loss."""
Backbone = Literal["adapted", "frozen", "random", "scratch"]


@dataclass(frozen=True)
class Variant:
    """One way to train: settings, augmentations, copies of each row, and how the backbone is treated.

    against  the title of the row that it is compared with
    """

    title: str
    loss: Part
    settings: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()
    copies: int = 0
    backbone: Backbone = "adapted"
    against: str = page.PLAIN

    @property
    def rows(self) -> tuple[Any, ...]:
        """What decides which rows it is trained on, and from which weights."""
        return self.parts, self.copies, self.backbone

    @property
    def training(self) -> tuple[Any, ...]:
        """Everything that decides its value."""
        return self.loss, json.dumps(self.settings, sort_keys=True), self.rows


def list_variants(recipe: Recipe, steps: int) -> list[Variant]:
    """List the variants of a recipe; each comes after the one that it is compared with."""
    plain = Part(use="cross_entropy" if recipe.task == "ordinal" else get_task(recipe.task).default_loss)
    own = recipe.loss or Part(use=get_task(recipe.task).default_loss)
    if own.use == "quantile" and recipe.series.quantiles:
        plain = own  # it is the question, not the answer, that has quantiles
    unchanged = Variant(page.OWN, own, {}, recipe.data.augment, recipe.data.copies if recipe.data.augment else 0)
    return [*list_parts(recipe, plain, own), unchanged, *list_methods(recipe, unchanged, steps)]


def list_parts(recipe: Recipe, plain: Part, own: Part) -> Iterator[Variant]:
    """List plain training, and plain training with each vertical part and with each treatment of the backbone."""
    left: dict[str, Any] = LEFT_OUT.get(recipe.name, {})
    loss = Part.model_validate(left["loss"]) if "loss" in left else own
    without = [Part.model_validate(part) for part in left.get("augment", ())]
    parts = (*recipe.data.augment, *without)
    copies = max(1, recipe.data.copies)
    yield Variant(page.PLAIN, plain)
    if loss != plain:
        yield Variant(f"loss {loss.use}" + (" (left out)" if "loss" in left else ""), loss)
    for part in parts:
        yield Variant(f"augmentation {part.use}" + (" (left out)" if part in without else ""), plain, {}, (part,), copies)
    if parts and loss != plain:
        yield Variant(page.EVERY, loss, {}, parts, copies)
    if recipe.data.modality != "text":
        yield Variant("plain, backbone frozen, without LoRA", plain, backbone="frozen")
        yield Variant("plain, backbone of random weights with LoRA", plain, backbone="random")
        yield Variant("plain, same shape from scratch, all of it trained", plain, backbone="scratch")


def list_methods(recipe: Recipe, own: Variant, steps: int) -> Iterator[Variant]:
    """List the recipe's own settings with one method each. Those that have no meaning for the recipe are left out."""
    rank, alpha = recipe.lora.get("r", 16), recipe.lora.get("lora_alpha", 32)
    changes: dict[str, dict[str, Any]] = {
        "ema_decay 0.99": {"train.ema_decay": 0.99},
        "rdrop_alpha 1": {"train.rdrop_alpha": 1.0},
        "adversarial_epsilon 0.3": {"train.adversarial_epsilon": 0.3},
        "layerwise_lr_decay 0.8": {"train.layerwise_lr_decay": 0.8},
        "loraplus_lr_ratio 4": {"train.loraplus_lr_ratio": 4.0},
        "epochs doubled": {"train.max_steps": 2 * steps},
        **{
            f"r {r}, same lora_alpha / r": {"adapter.r": r, "adapter.lora_alpha": alpha * r // rank} for r in RANKS if r != rank
        },
        "target_modules all-linear": {"adapter.target_modules": "all-linear"},
        "target_modules query and value": {"adapter.target_modules": QUERY_AND_VALUE},
        "head.init random": {"head.init": "random"},
        "head.pooling cls": {"head.pooling": "cls"},
    }
    for title, settings in changes.items():
        if is_allowed(recipe, settings) and not is_without_effect(recipe, settings):
            yield replace(own, title=title, settings=settings, against=page.OWN)
    task = get_task(recipe.task)
    general = [name for name in catalog.losses.names() if "." not in name and name not in NEEDS_MORE]
    for name in general if own.loss.use != "quantile" else ():
        if (
            name != own.loss.use
            and catalog.losses.part(name).supports(task.name, *task.like)
            and is_allowed(recipe.replace({"loss": None}), {"loss": name})
        ):
            yield replace(own, title=f"loss {name} instead", loss=Part(use=name), against=page.OWN)


def is_allowed(recipe: Recipe, settings: Mapping[str, Any]) -> bool:
    """Whether the recipe may have these settings."""
    try:
        check_recipe(recipe.replace(settings))
    except RecipeError:
        return False
    return True


def is_without_effect(recipe: Recipe, settings: Mapping[str, Any]) -> bool:
    """Whether the recipe has these settings anyway, or its specialist does not read them."""
    task, causal = get_task(recipe.task), pull_base(recipe.base).family == "causal"
    if "adapter.target_modules" in settings and recipe.data.modality != "image":
        return bool(recipe.lora.get("target_modules", "all-linear") == settings["adapter.target_modules"])
    if "head.pooling" in settings and (causal or recipe.data.modality != "text"):
        return True
    if "head.init" in settings and (task.ahead or (causal and (task.single_label or task.written))):
        return True
    return recipe.replace(settings).digest == recipe.digest


class Treated(Trainings):
    """Trainings on a backbone that is treated in some way before each of them."""

    backbone: Backbone = "adapted"

    def _encode(self, job: Any, specialist: Any) -> Any:
        for name, weights in specialist.backbone.named_parameters() if self.backbone != "adapted" else ():
            lora = "lora_" in name
            weights.requires_grad_(self.backbone != "frozen" if lora else self.backbone == "scratch")
            if self.backbone != "frozen" and not lora and weights.dim() > 1:  # as wide as it was, without what it had learned
                weights.data.normal_(std=float(weights.std()))
        return super()._encode(job, specialist)


class Measure:
    """Trains the variants of a recipe on the rows of one seed."""

    def __init__(
        self, recipe: Recipe, prepared: Prepared, base: Base, options: argparse.Namespace, seed: int, folder: Path
    ) -> None:
        rows = list(prepared.originals)
        self.rows = rows if len(rows) <= options.rows else random.Random(seed).sample(rows, options.rows)
        self.recipe, self.prepared, self.base, self.seed, self.folder = recipe, prepared, base, seed, folder
        self._trainings: dict[tuple[Any, ...], Treated] = {}

    def score(self, variant: Variant, steps: int) -> float | None:
        """The recipe's metric on the validation rows; None if it is undefined there."""
        if variant.rows not in self._trainings:
            self._trainings[variant.rows] = self._create(variant)
        settings = {
            "train.max_steps": steps, "train.eval_strategy": "no", "train.early_stopping_patience": None,
            "train.load_best_model_at_end": False, "loss": variant.loss.model_dump(),
        }  # fmt: skip
        watch = Watch(math.inf, silent)
        return self._trainings[variant.rows].score({**settings, **variant.settings}, self.seed, watch)

    def _create(self, variant: Variant) -> Treated:
        """Augment the rows, and count their labels."""
        train = self.rows
        if variant.parts and variant.copies:
            arguments = [catalog.augmentations.check(part.use, part.arguments, self.recipe.name) for part in variant.parts]
            named = [
                functools.partial(catalog.augmentations.get(part.use), **values)
                for part, values in zip(variant.parts, arguments, strict=True)
            ]
            train, _ = augment(self.rows, named, variant.copies, self.seed)
        labels = self.prepared.labels
        if labels is not None:
            counts = count_labels(train)
            labels = replace(labels, counts={label: counts.get(label, 0) for label in labels.labels})
        prepared = replace(self.prepared, train=tuple(train), labels=labels)
        recipe = self.recipe.replace({"loss": None})
        made = Treated(recipe, prepared, self.base, self.folder, higher=higher_is_better(main_metric(recipe).use))
        made.backbone = variant.backbone
        return made


def ablate(name: str, settings: dict[str, Any], options: argparse.Namespace, known: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Measure the variants of a recipe; yield its record after each value."""
    recipe = load_recipe(name, settings)
    check_recipe(recipe)
    key = {"recipe": load_recipe(name).digest, "rows": options.rows, "judges": options.judges, "epochs": options.epochs}
    record = known if all(known.get(k) == v for k, v in key.items()) else {**key, "values": {}}
    prepared = prepare(recipe.replace({"data.augment": []}))
    if len(prepared.validation) > options.judges:
        judges = random.Random(0).sample(prepared.validation, options.judges)
        prepared = replace(prepared, validation=tuple(judges))
    learned = min(len(prepared.originals), options.rows)
    steps = max(1, round(options.epochs * learned / int(recipe.train.get("per_device_train_batch_size", 32))))
    every = list_variants(recipe, steps)
    chosen = [variant for variant in every if is_wanted(variant, options.methods)]
    needed = {title for variant in chosen for title in (variant.title, variant.against)}
    base = pull_base(recipe.base)
    with tempfile.TemporaryDirectory() as folder:
        for seed in options.seeds:
            measure = Measure(recipe, prepared, base, options, seed, Path(folder))
            for variant in every:
                values = record["values"].get(variant.title, {})
                if variant.title not in needed or str(seed) in values:
                    continue
                twins = [record["values"].get(other.title, {}) for other in every if other.training == variant.training]
                value = next((twin[str(seed)] for twin in twins if str(seed) in twin), None)
                try:
                    value = measure.score(variant, steps) if value is None else value
                except RecipeError as error:  # the data has no tree of labels, for example
                    print(f"{name}: {variant.title}: left out. {error}", flush=True)
                    needed.discard(variant.title)
                    continue
                if value is None:
                    print(f"{name}: {variant.title}, seed {seed}: undefined", flush=True)
                    continue
                record["values"].setdefault(variant.title, {})[str(seed)] = value
                print(f"{name}: {variant.title}, seed {seed}: {value:.4f}", flush=True)
                order = [other.title for other in every]
                record["values"] = {title: record["values"][title] for title in order if title in record["values"]}
                record |= {"against": {other.title: other.against for other in every if other.title in record["values"]}}
                record |= {"metric": main_metric(recipe).use, "date": time.strftime("%Y-%m-%d"), "machine": machine()}
                yield record


def is_wanted(variant: Variant, names: list[str] | None) -> bool:
    """Whether the names choose a variant: all without names."""
    first = variant.title.partition(" ")[0] if variant.against == page.OWN else PARTS
    return names is None or first in names


def can_ablate(recipe: Recipe) -> bool:
    """Whether a recipe's answers are compared with labels or numbers: not if it writes them, or learns without labels."""
    task = get_task(recipe.task)
    return not (task.written or task.unlabelled)


def main() -> None:
    """Measure the recipes that are named, or all with labels or numbers."""
    given = argparse.ArgumentParser(description="Measure what losses, augmentations and training methods contribute.")
    given.add_argument("--recipes", nargs="+", help="default: all recipes with labels or numbers")
    given.add_argument("--methods", nargs="+", help="parts, ema_decay, rdrop_alpha, epochs, r, loss, ...; default: all")
    given.add_argument("--data", type=Path, help="a folder with the files of benchmarks/local.py")
    given.add_argument("--rows", type=int, default=600, help="maximum number of training rows")
    given.add_argument("--judges", type=int, default=1000, help="maximum number of validation rows")
    given.add_argument("--epochs", type=float, default=3.0)
    given.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
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
