"""Warm start: training continues from an adapter's weights, and the new card names that adapter as its parent.

The adapter has the task and the labels of the recipe, or it learned from texts without labels and gives its LoRA alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vertical_sdk.bases.base import Base
from vertical_sdk.card import Card, Parent
from vertical_sdk.data.prepare import Prepared
from vertical_sdk.data.training_rows import knows_rows
from vertical_sdk.errors import AdapterError, BaseMismatch, CorruptAdapter, IdleAdapter, RegistryError, RunError
from vertical_sdk.families.head import HEAD, load_head
from vertical_sdk.families.lora import ADAPTER_WEIGHTS, read_weights
from vertical_sdk.families.quantized import count_weights
from vertical_sdk.families.records import RECORDS
from vertical_sdk.families.series import SERIES
from vertical_sdk.families.specialist import Specialist, family_for
from vertical_sdk.peft_config import ADAPTER_CONFIG, parse_config
from vertical_sdk.recipe import QUANTIZE, Recipe, recipe_names
from vertical_sdk.registry.checked_files import CheckedFiles
from vertical_sdk.tasks import get_task
from vertical_sdk.tensors import load_tensors
from vertical_sdk.types import Family

__all__ = ["Start", "check_start", "find_start", "load_start_weights", "require_same_start", "require_unseen_rows"]

LORA_KEYS = ("r", "lora_alpha", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern")
"""Keys of peft.LoraConfig that change the effect of the same weights, or their shapes. The names of the weights show target_modules."""


@dataclass(frozen=True)
class Start:
    """An adapter to continue from: its files, its card, and how the new card names it."""

    files: CheckedFiles
    card: Card
    parent: Parent

    @property
    def where(self) -> str:
        """The place that error messages name."""
        return f"continue from {self.parent.reference}"


def find_start(recipe: Recipe) -> Start | None:
    """Find the adapter that a recipe starts from, and compare its files with its card; None for a fresh adapter.

    Raises AdapterError for a folder that is not an adapter, RegistryError for a reference that does not exist, CorruptAdapter for a
    changed file.
    """
    from vertical_sdk.adapters.folder import open_adapter

    if recipe.start is None:
        return None
    try:
        found = open_adapter(recipe.start)
    except RegistryError as error:
        name = recipe.start.partition("@")[0]
        if name not in recipe_names():
            raise
        raise RegistryError(
            f"{error.message} {recipe.name} starts from it. Train it (vertical train {name}) and publish it (vertical registry publish "
            "RUN), give its run's folder with --from, or train without it (--set start=null).",
            where=error.where,
        ) from None
    card, version = found.card, found.version
    found.files.check()
    weights = card.files.get(ADAPTER_WEIGHTS)
    if weights is None:
        raise CorruptAdapter(f"The card lists no {ADAPTER_WEIGHTS}. Download or train the adapter again.", where=found.folder)
    parent = Parent(
        reference=str(version) if version is not None else card.name,
        weights=weights,
        version=version.digest if version is not None else None,
    )
    return Start(found.files, card, parent)


def require_same_start(folder: Path, recorded: Parent | None, start: Start | None) -> None:
    """Check that a resumed run is given the adapter that it started from.

    Raises RunError.
    """
    if (start.parent.weights if start else None) != (recorded.weights if recorded else None):
        origin = f"{recorded.reference} (weights {recorded.weights[:12]})" if recorded else "no other adapter"
        raise RunError(f"This run started from {origin}. Resume it in the same way, or choose another folder.", where=folder)


def check_start(start: Start, specialist: Specialist, base: Base, recipe: Recipe, prepared: Prepared) -> None:
    """Check that an untrained specialist can continue from an adapter.

    Raises BaseMismatch, AdapterError, CorruptAdapter or IdleAdapter; the message names the difference.
    """
    import peft

    from vertical_sdk.adapters.load import require_same_base

    require_same_base(start.card.base, base.fingerprint, start.where)
    _require_same_task(start, base, recipe, prepared)
    _require_same_lora(start, specialist.backbone, recipe)
    weights = read_weights(start.files, base.parameters)
    expected = peft.get_peft_model_state_dict(specialist.backbone, save_embedding_layers=False)
    wrong = sorted(set(weights) ^ set(expected)) or [k for k, v in expected.items() if v.shape != weights[k].shape]
    if wrong:
        raise BaseMismatch(
            f"The adapter changes other layers than this recipe's adapter: {len(wrong)} tensors differ, for example {wrong[0]}. "
            "Set adapter.target_modules as in the adapter's recipe.",
            where=start.where,
        )
    if not any(bool(tensor.any()) for key, tensor in weights.items() if "lora_B" in key):
        raise IdleAdapter("All weights of the adapter are zero. Train without it.", where=start.where)


def require_unseen_rows(start: Start | None, recipe: Recipe, prepared: Prepared) -> None:
    """Check that an adapter which read a recipe's training rows, without labels, read none of its validation and test rows.

    recipe  as its rows were split

    Raises AdapterError.
    """
    if start is None or knows_rows(start.card, recipe.name, prepared) is not False:
        return
    parent, seed = start.card.name, recipe.train.get("seed", 0)
    raise AdapterError(
        f"The adapter learned from the training rows of {recipe.name}, but they were split otherwise than now, by another seed, with other "
        f"settings of data or from another source. So it may have read rows that this run is evaluated on. Train {parent} again from the "
        f"same data, with --set data.reader.seed={seed}.",
        where=start.where,
    )


def load_start_weights(start: Start, specialist: Specialist) -> None:
    """Replace a specialist's initial weights with those of the adapter.

    The mean and the spread of the channels of series come from the new rows; everything learned comes from the adapter, and so do the
    bins and words of records, by which it reads them.

    Raises AdapterError or CorruptAdapter.
    """
    import peft

    size = count_weights(specialist.backbone.parameters())
    peft.set_peft_model_state_dict(specialist.backbone, read_weights(start.files, size))
    if specialist.head is not None and HEAD in start.card.files:
        head = load_head(start.files)
        if head.linear.weight.shape != specialist.head.linear.weight.shape:
            raise AdapterError(
                f"The adapter's head has the shape {tuple(head.linear.weight.shape)}, this recipe's "
                f"{tuple(specialist.head.linear.weight.shape)}. Use the adapter's task and labels.",
                where=start.where,
            )
        specialist.head.load_state_dict(head.state_dict())
    if RECORDS in start.card.files:
        records: Any = specialist
        records.load_network(start.files)
    if SERIES in start.card.files:
        _load_series(start, specialist)


def _require_same_task(start: Start, base: Base, recipe: Recipe, prepared: Prepared) -> None:
    card, family, where = start.card, family_for(base, recipe), start.where
    unlabelled = get_task(card.task).unlabelled and card.task != recipe.task
    if unlabelled or card.training.get("unread"):  # an imported adapter without a readable head: only its backbone is used
        if card.family != family:
            raise AdapterError(
                f"The adapter's family is {card.family}, this recipe's is {family}. Use a base of its family.", where=where
            )
        if unlabelled:
            _require_same_settings(start, recipe, family)
        return
    if (card.task, card.family) != (recipe.task, family):
        raise AdapterError(
            f"The adapter was trained for {card.task} ({card.family}), this recipe is for {recipe.task} ({family}). "
            "Use its task and a base of its family.",
            where=where,
        )
    _require_same_labels(start, prepared)
    names, new = ([field.name for field in fields] for fields in (card.fields, prepared.fields))
    if family == "records" and set(names) != set(new):
        raise AdapterError(
            f"The adapter reads records of other fields: {', '.join(sorted(set(names) ^ set(new))[:5])} is not in both. Set data.reader "
            "as in the adapter's recipe.",
            where=where,
        )
    if card.layout != prepared.layout:
        raise AdapterError(
            "The adapter reads other series: its channels, its interval, its history or its horizon differ. "
            "Set data.reader as in the adapter's recipe.",
            where=where,
        )
    if card.layout is not None and prepared.layout is not None and card.layout.zone not in {None, prepared.layout.zone}:
        raise AdapterError(
            f"The adapter was trained on times in the zone {card.layout.zone}, and the rows have times in the zone "
            f"{prepared.layout.zone} (none: without a zone). Write the times in the same way, or set data.reader.zone.",
            where=where,
        )
    _require_same_settings(start, recipe, family)


def _require_same_settings(start: Start, recipe: Recipe, family: Family) -> None:
    """Compare the settings that decide what the adapter's weights are applied to."""
    parent_recipe = Recipe.model_validate(start.card.recipe)
    settings = (
        ("head.pooling", parent_recipe.head.pooling, recipe.head.pooling),
        ("records", parent_recipe.records.model_dump(exclude={"steps"}), recipe.records.model_dump(exclude={"steps"})),
        ("series", parent_recipe.series.model_dump(exclude={"alarms"}), recipe.series.model_dump(exclude={"alarms"})),
    )
    differences = [key for key, parent_value, value in settings if parent_value != value]
    if differences and family != "causal":
        raise AdapterError(f"The adapter's recipe has another {differences[0]}. Use the same value.", where=start.where)


def _require_same_labels(start: Start, prepared: Prepared) -> None:
    parent_labels = start.card.labels.labels if start.card.labels else ()
    labels = prepared.labels.labels if prepared.labels else ()
    if parent_labels == labels:
        return
    missing = [label for label in parent_labels if label not in labels]
    new = [label for label in labels if label not in parent_labels]
    changes = [f"{word} {', '.join(map(repr, some[:5]))}" for word, some in (("without", missing), ("with", new)) if some]
    raise AdapterError(
        f"The adapter has other labels: {len(parent_labels)}. The rows now give {len(labels)}, "
        f"{' and '.join(changes) or 'in another order'}. List the adapter's labels in the recipe, in its order.",
        where=start.where,
    )


def _require_same_lora(start: Start, backbone: Any, recipe: Recipe) -> None:
    """Compare the adapter's adapter_config.json with this recipe's adapter."""
    parent_config = parse_config(start.files.read(ADAPTER_CONFIG), start.files.folder / ADAPTER_CONFIG)
    config = backbone.peft_config["default"]
    parent_quantize = Recipe.model_validate(start.card.recipe).quantize
    values = [(key, parent_config.get(key), getattr(config, key, None)) for key in LORA_KEYS]
    for key, parent_value, value in (*values, (QUANTIZE, parent_quantize, recipe.quantize)):
        if (parent_value or None) != (value or None):
            raise AdapterError(
                f"The adapter has adapter.{key} = {parent_value}, and {recipe.name} has {value}. Use the adapter's value.",
                where=start.where,
            )


def _load_series(start: Start, specialist: Specialist) -> None:
    own: Any = getattr(specialist, "own", None)
    state = load_tensors(start.files.read(SERIES), start.files.folder / SERIES)
    try:
        learned = {name: state[name] for name, _ in own.named_parameters()}
        with torch.no_grad():
            own.load_state_dict(learned, strict=False)
    except (KeyError, RuntimeError, AttributeError) as error:
        raise CorruptAdapter(
            f"{SERIES} cannot be read into this recipe's specialist: {error}. Download or train the adapter again.",
            where=start.where,
        ) from None
