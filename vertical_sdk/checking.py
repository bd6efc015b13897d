"""The check of a whole recipe before any weights load. Only here do recipes, catalogs, tasks and training keys meet."""

from __future__ import annotations

import inspect
from typing import Any, get_type_hints

from vertical_sdk import catalog
from vertical_sdk.alternatives import MEMBERS
from vertical_sdk.domain import load_domain
from vertical_sdk.errors import RecipeError, did_you_mean
from vertical_sdk.families.lora_settings import find_refused_in_recipe
from vertical_sdk.ranges import list_ends
from vertical_sdk.recipe import QUANTIZE, Part, Recipe
from vertical_sdk.schema_errors import describe_expected
from vertical_sdk.tasks import Task, get_task

__all__ = ["check_recipe"]

OURS_OF_LORA = frozenset({"task_type", "peft_type", "inference_mode", "base_model_name_or_path", "revision", "auto_mapping"})
"""Keys of peft.LoraConfig that a recipe does not set."""
SEARCHED = ("adapter", "head", "loss", "train")
"""The sections whose keys `tune` may search. The others decide which rows there are, and how they are read and judged."""
EXCHANGEABLE = ("stratified", "group", "given")
"""Splits of rows of which each may be learned or judged; folds are dealt at random, which would let an adapter learn from the future."""
SUMMED = frozenset(
    (
        *("r", "lora_alpha", "lora_dropout", "use_rslora", "init_lora_weights", "target_modules", "exclude_modules"),
        *("layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern", QUANTIZE),
    )
)
"""Keys of `adapter` with which an adapter is a sum of low-rank matrices alone, so that the mean of several is one again."""
READ_TEXT = frozenset({"base", "tfidf"})
"""Baselines that read text."""


def check_recipe(recipe: Recipe) -> None:
    """Check every part's name and arguments, and the keys and values of `adapter`, `train` and `tune`; imports torch.

    Raises RecipeError.
    """
    task = get_task(recipe.task, f"{recipe.name}: task")
    if recipe.domain:
        load_domain(recipe.domain)
    _check_parts(recipe, task)
    _check_modality(recipe, task)
    _check_gate(recipe, task)
    _check_abstention(recipe, task)
    _check_texts(recipe)
    _check_keys(recipe)
    _check_methods(recipe, task)
    _check_folds(recipe, task)
    _check_searched(recipe)


def _check_parts(recipe: Recipe, task: Task) -> None:
    """Names and arguments of all parts, and whether they serve the task."""
    if recipe.ensemble and (task.written or task.unlabelled):
        raise RecipeError(f"the answers of {task.name} cannot be pooled. Leave ensemble out.", where=f"{recipe.name}: ensemble")
    data, evaluate = recipe.data, recipe.evaluate
    parts: list[tuple[str, catalog.Catalog[Any], Part | None]] = [
        ("data.reader", catalog.readers, data.reader),
        ("data.deidentify", catalog.deidentifiers, data.deidentify),
        ("data.split", catalog.splitters, data.split),
        ("loss", catalog.losses, recipe.loss),
    ]
    lists: tuple[tuple[str, catalog.Catalog[Any], tuple[Part, ...]], ...] = (
        ("data.clean", catalog.cleaners, data.clean),
        ("data.augment", catalog.augmentations, data.augment),
        ("evaluate.metrics", catalog.metrics, evaluate.metrics),
        ("evaluate.baselines", catalog.baselines, evaluate.baselines),
        ("ensemble", catalog.baselines, recipe.ensemble),
    )
    parts += [(f"{where}.{number}", table, part) for where, table, group in lists for number, part in enumerate(group)]
    for where, table, part in parts:
        if part is not None:
            table.check(part.use, part.arguments, f"{recipe.name}: {where}")
            table.require(part.use, task.name, f"{recipe.name}: {where}", like=task.like)


def _check_modality(recipe: Recipe, task: Task) -> None:
    """Whether the task, the baselines and the forgetting test can read the rows."""
    modality = recipe.data.modality
    if modality not in task.modalities:
        reads = " or ".join(task.modalities)
        raise RecipeError(
            f"{task.name} reads {reads}, and data.modality is {modality}. Set it to {reads}.",
            where=f"{recipe.name}: data.modality",
        )
    if modality == "text":
        return
    if recipe.data.windows > 1:
        raise RecipeError(
            f"windows = {recipe.data.windows}: only texts are read in windows, and data.modality is {modality}. Leave it out.",
            where=f"{recipe.name}: data",
        )
    if recipe.quantize is not None:
        raise RecipeError(
            f"quantize = {recipe.quantize!r}: only bases of text rows are stored in 4 bits, and data.modality is {modality}. Leave it out.",
            where=f"{recipe.name}: adapter",
        )
    if recipe.evaluate.forgetting is not None:
        raise RecipeError(
            f"forgetting is measured on prose, and this specialist reads {modality} rows. Leave it out.",
            where=f"{recipe.name}: evaluate.forgetting",
        )
    if any(part.use in READ_TEXT for part in (*recipe.evaluate.baselines, *recipe.ensemble)):
        raise RecipeError(
            f"base and tfidf read text, and data.modality is {modality}. Set evaluate.baselines (and ensemble) to others, such as probe.",
            where=recipe.name,
        )


def _check_gate(recipe: Recipe, task: Task) -> None:
    """Whether the gate's metric exists, and its baselines are measured."""
    gate = recipe.evaluate.gate
    if not gate:
        return
    where = f"{recipe.name}: evaluate.gate"
    catalog.metrics.require(gate.metric, task.name, f"{where}.metric", like=task.like)
    if gate.beats is None:
        return
    if not gate.beats:
        raise RecipeError(
            "a gate that compares with no baseline lets everything pass. Name a baseline, such as majority, or write gate: false: "
            "the registry then marks the specialist as ungated.",
            where=f"{where}.beats",
        )
    measured = [part.use for part in (*recipe.evaluate.baselines, *recipe.ensemble)] + [MEMBERS] * bool(recipe.ensemble)
    if "base" in gate.beats and not task.untrained:
        raise RecipeError(
            f"this gate can never pass: the untrained base cannot do {task.name}, so nothing can be shown to beat it. Name another "
            "baseline that is measured, such as tfidf or probe.",
            where=f"{where}.beats",
        )
    for name in gate.beats:
        if name not in measured:
            raise RecipeError(
                f"{name!r} is not measured. Name it in evaluate.baselines too, which has {', '.join(measured)}.",
                where=f"{where}.beats",
            )


def _check_abstention(recipe: Recipe, task: Task) -> None:
    """Whether the task chooses one label, of which a specialist can be more or less sure."""
    if recipe.evaluate.abstention is not None and not task.single_label:
        raise RecipeError(
            f"abstention needs one label a row with its probability, which {task.name} does not give. Leave it out.",
            where=f"{recipe.name}: evaluate.abstention",
        )


def _check_texts(recipe: Recipe) -> None:
    """The labels and the prompt."""
    if isinstance(recipe.labels, tuple) and len(set(recipe.labels)) < len(recipe.labels):
        twice = sorted({label for label in recipe.labels if recipe.labels.count(label) > 1})
        raise RecipeError(
            f"{', '.join(map(repr, twice))} is listed twice. List each label once.", where=f"{recipe.name}: labels"
        )
    if "{text}" not in recipe.prompt.user:
        raise RecipeError(
            f"prompt.user = {recipe.prompt.user!r} has no {{text}}, so the model would never see a row's text. Add {{text}}.",
            where=recipe.name,
        )


def _check_keys(recipe: Recipe) -> None:
    """Keys and values of `adapter` (peft.LoraConfig) and `train` (transformers.TrainingArguments)."""
    from peft import LoraConfig

    from vertical_sdk.training_arguments import Arguments

    if refused := find_refused_in_recipe(recipe.adapter):
        raise RecipeError(f"{refused}. Leave it out, or choose another value.", where=f"{recipe.name}: adapter")
    for section, target, ours in (("adapter", LoraConfig, (QUANTIZE,)), ("train", Arguments, ())):
        known, types = (*inspect.signature(target).parameters, *ours), get_type_hints(target)
        where = f"{recipe.name}: {section}"
        for key, value in getattr(recipe, section).items():
            if key in OURS_OF_LORA and section == "adapter":
                raise RecipeError(f"{key} is set by the SDK. Leave it out.", where=where)
            if key not in known:
                raise RecipeError(f"unknown key {key!r}.{did_you_mean(key, known)}", where=where)
            if right := describe_expected(types.get(key, Any), value):
                raise RecipeError(f"{key} = {value!r} is wrong: it should {right}.", where=where)


def _check_folds(recipe: Recipe, task: Task) -> None:
    """Whether a recipe with cross-fitting can be trained in folds, and the mean of the adapters is an adapter."""
    if not recipe.folds:
        return
    where, without = f"{recipe.name}: evaluate.use: crossfit", "or set evaluate.use: split"
    if task.written or task.unlabelled or recipe.data.modality != "text":
        what = f"{task.name} tasks" if task.written or task.unlabelled else f"{recipe.data.modality} rows"
        raise RecipeError(
            f"cross-fitting reads texts and gives labels or numbers; it is not made for {what}. Leave it out.", where=where
        )
    if recipe.data.split.use not in EXCHANGEABLE:
        raise RecipeError(
            f"folds deal the rows at random, and data.split is {recipe.data.split.use}, so an adapter would learn from rows that the split "
            f"keeps apart, such as later ones. Use one of {', '.join(EXCHANGEABLE)}, {without}.",
            where=where,
        )
    if stopping := [key for key in ("early_stopping_patience", "load_best_model_at_end") if recipe.train.get(key)]:
        raise RecipeError(
            f"train.{stopping[0]} chooses weights on validation rows, and cross-fitting keeps none apart. Leave it out, {without}.",
            where=where,
        )
    if odd := [
        key for key, value in recipe.adapter.items() if key not in SUMMED and value not in (None, False, "none", {}, [])
    ]:
        raise RecipeError(
            f"adapter.{odd[0]}: the mean of such adapters is not an adapter of the same kind. Leave it out, {without}.",
            where=where,
        )


def _check_methods(recipe: Recipe, task: Task) -> None:
    """Whether the methods in `train` have a meaning for the task and its rows."""
    where = f"{recipe.name}: train"
    if recipe.train.get("rdrop_alpha") is not None:
        if not task.labelled and not task.written:
            raise RecipeError(
                f"rdrop_alpha compares the probabilities of two passes, and a {task.name} model has none. Leave it out.",
                where=where,
            )
        if not recipe.head.dropout and not recipe.adapter.get("lora_dropout"):
            raise RecipeError(
                "rdrop_alpha compares two passes with different dropout, and there is none. Set head.dropout or adapter.lora_dropout "
                "above 0.",
                where=where,
            )
    if recipe.train.get("adversarial_epsilon") is not None and recipe.data.modality != "text":
        raise RecipeError(
            f"adversarial_epsilon moves the embeddings of tokens, and data.modality is {recipe.data.modality}. Leave it out.",
            where=where,
        )
    alone = task.labelled and task.single_label and recipe.data.modality != "series"
    if recipe.train.get("contrastive_steps") and not alone:
        raise RecipeError(
            f"contrastive_steps compares texts or images by their one label, and this recipe is {task.name} of {recipe.data.modality} "
            "rows. Leave it out.",
            where=where,
        )


def _check_searched(recipe: Recipe) -> None:
    """The keys of `tune`, and the recipe with each of their values."""
    if recipe.tune and get_task(recipe.task).unlabelled:
        raise RecipeError(
            f"a {recipe.task} training is not searched: what counts is how well specialists that start from it do. Leave tune out.",
            where=f"{recipe.name}: tune",
        )
    plain = recipe.replace({"tune": {}}) if recipe.tune else recipe
    for key, searched in recipe.tune.items():
        where = f"{recipe.name}: tune"
        if key.partition(".")[0] not in SEARCHED or key == "train.seed":
            raise RecipeError(
                f"{key} cannot be searched: all trials learn from the same rows and are compared with the same seeds. "
                f"Search keys of {', '.join(SEARCHED)}, but not train.seed.",
                where=where,
            )
        values = list_ends(searched)
        if len(set(map(repr, values))) < 2:
            raise RecipeError(f"{key} names fewer than two different values. List two or more.", where=where)
        for value in values:
            _check_value(plain, key, value, where)


def _check_value(recipe: Recipe, key: str, value: object, where: str) -> None:
    """The recipe with another value of a key."""
    try:
        check_recipe(recipe.replace({key: value}))
    except RecipeError as error:
        raise RecipeError(f"{key} = {value!r} cannot be searched: {error}", where=where) from None
