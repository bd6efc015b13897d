"""Going on from an adapter that is there already: its weights are where training begins, and the new card names it as its parent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vertical_sdk.bases.base import Base
from vertical_sdk.card import Card, Parent, read_card
from vertical_sdk.data.prepare import Prepared
from vertical_sdk.errors import AdapterError, BaseMismatch, CorruptAdapter, IdleAdapter, RunError
from vertical_sdk.families.head import HEAD, load_head
from vertical_sdk.families.lora import ADAPTER_WEIGHTS, read_weights
from vertical_sdk.families.series import SERIES
from vertical_sdk.families.specialist import Specialist, family_for
from vertical_sdk.paths import file_digest, write_whole
from vertical_sdk.recipe import Recipe

__all__ = ["Start", "check_start", "find_start", "go_on_from", "require_same_start", "save_start"]

START = "start.json"
CONFIG = "adapter_config.json"
SAME = ("r", "lora_alpha", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern")
"""Keys of peft.LoraConfig that change what the same weights do, or their shapes; target_modules show in the names of the weights."""


@dataclass(frozen=True)
class Start:
    """An adapter to go on from."""

    folder: Path
    card: Card
    parent: Parent


def find_start(adapter: str | Path) -> Start:
    """The adapter that is meant, with its files as its card says.

    adapter  a run's folder, an adapter's folder, or a registry reference ("medical/icd-chapter@production")

    Raises AdapterError for a folder that is none, RegistryError for a reference that does not exist, CorruptAdapter for a changed file.
    """
    from vertical_sdk.adapters.folder import find_adapter

    version = None
    if isinstance(adapter, Path) or Path(adapter).exists() or adapter.startswith((".", "/", "~")):
        folder = find_adapter(adapter)
    else:
        from vertical_sdk.registry import Registry

        version = Registry().resolve(adapter)
        folder = version.path
    card = read_card(folder)
    for file in (CONFIG, ADAPTER_WEIGHTS, HEAD, SERIES):
        if file in card.files and (not (folder / file).is_file() or file_digest(folder / file) != card.files[file]):
            raise CorruptAdapter(
                f"{folder / file}: is missing, or was changed since the adapter was made. Take the adapter anew."
            )
    weights = card.files.get(ADAPTER_WEIGHTS)
    if weights is None:
        raise CorruptAdapter(f"{folder}: its card lists no {ADAPTER_WEIGHTS}. Take the adapter anew.")
    told = Parent(
        reference=str(version) if version is not None else card.name,
        weights=weights,
        version=version.digest if version is not None else None,
    )
    return Start(folder, card, told)


def save_start(folder: Path, start: Start) -> None:
    """Note in a run's folder what it goes on from."""
    write_whole(folder / START, start.parent.model_dump_json(indent=1) + "\n")


def require_same_start(folder: Path, start: Start | None) -> None:
    """See that a run that is resumed goes on from the adapter that it began with.

    Raises RunError.
    """
    try:
        began: Parent | None = Parent.model_validate_json((folder / START).read_bytes())
    except (OSError, ValueError):
        began = None
    trained = (folder / "checkpoints").is_dir() or (folder / "adapter").is_dir()
    if began is None and (start is None or not trained):
        return
    if start is None or began is None or start.parent.weights != began.weights:
        what = f"from {began.reference} (weights {began.weights[:12]})" if began else "from no other adapter"
        raise RunError(f"{folder}: this run began {what}; resume it in the same way, or choose another folder.")


def check_start(start: Start, specialist: Specialist, base: Base, recipe: Recipe, prepared: Prepared) -> None:
    """See that a fresh specialist can go on from an adapter.

    Raises BaseMismatch, AdapterError or CorruptAdapter that says what is not the same.
    """
    import peft

    from vertical_sdk.adapters.load import require_same_base

    where = _where(start)
    require_same_base(start.card.base, base.fingerprint, where)
    _require_same_task(start.card, base, recipe, prepared, where)
    _require_same_lora(start.folder, specialist.backbone, recipe, where)
    weights = read_weights(start.folder)
    expected = peft.get_peft_model_state_dict(specialist.backbone, save_embedding_layers=False)
    wrong = sorted(set(weights) ^ set(expected)) or [k for k, v in expected.items() if v.shape != weights[k].shape]
    if wrong:
        raise BaseMismatch(
            f"{where}: the adapter is on other layers than this recipe's: {len(wrong)} tensors differ, such as {wrong[0]}. "
            "Set adapter.target_modules as in its recipe."
        )
    if not any(bool(tensor.any()) for key, tensor in weights.items() if "lora_B" in key):
        raise IdleAdapter(f"{where}: all its weights are zero, so there is nothing to go on from.")


def go_on_from(start: Start, specialist: Specialist) -> None:
    """Put an adapter's weights in the place of those that a specialist would begin with.

    What is usual of the channels of series is taken from the new rows; all that is learned comes from the adapter.

    Raises AdapterError or CorruptAdapter.
    """
    import peft

    where = _where(start)
    peft.set_peft_model_state_dict(specialist.backbone, read_weights(start.folder))
    if specialist.head is not None and HEAD in start.card.files:
        head = load_head(start.folder)
        if head.linear.weight.shape != specialist.head.linear.weight.shape:
            raise AdapterError(
                f"{where}: its head has the shape {tuple(head.linear.weight.shape)}, this recipe's "
                f"{tuple(specialist.head.linear.weight.shape)}."
            )
        specialist.head.load_state_dict(head.state_dict())
    if SERIES in start.card.files:
        _load_series(start.folder, specialist, where)


def _where(start: Start) -> str:
    return f"going on from {start.parent.reference}"


def _require_same_task(card: Card, base: Base, recipe: Recipe, prepared: Prepared, where: str) -> None:
    family = family_for(base, recipe)
    if card.training.get("unread"):  # its backbone is all that it has
        if card.family != family:
            raise AdapterError(f"{where}: is an adapter of a {card.family}, this recipe's is of a {family}.")
        return
    if (card.task, card.family) != (recipe.task, family):
        raise AdapterError(f"{where}: was made for {card.task} ({card.family}), this recipe is for {recipe.task} ({family}).")
    theirs, ours = (card.labels.labels if card.labels else ()), (prepared.labels.labels if prepared.labels else ())
    if theirs != ours:
        gone, new = [x for x in theirs if x not in ours], [x for x in ours if x not in theirs]
        told = [f"{word} {', '.join(map(repr, some[:5]))}" for word, some in (("without", gone), ("with", new)) if some]
        raise AdapterError(
            f"{where}: has other labels: {len(theirs)}, and the rows now give {len(ours)}, {' and '.join(told) or 'in another order'}. "
            "State them in the recipe's labels, in its order."
        )
    if card.layout != prepared.layout:
        raise AdapterError(f"{where}: reads other series: other channels, another pace, history or horizon.")
    told_by = Recipe.model_validate(card.recipe)
    differ = [
        name
        for name, one, other in (
            ("head.pooling", told_by.head.pooling, recipe.head.pooling),
            ("series", told_by.series.model_dump(exclude={"alarms"}), recipe.series.model_dump(exclude={"alarms"})),
        )
        if one != other
    ]
    if differ and family != "causal":
        raise AdapterError(f"{where}: its recipe has another {differ[0]}. Set it as there.")


def _require_same_lora(folder: Path, backbone: Any, recipe: Recipe, where: str) -> None:
    """Compare what adapter_config.json says with what this recipe's adapter is."""
    try:
        theirs = json.loads((folder / CONFIG).read_bytes())
    except (OSError, ValueError) as error:
        raise CorruptAdapter(f"{folder / CONFIG}: cannot be read: {error}") from None
    ours = backbone.peft_config["default"]
    for key in SAME:
        one, other = theirs.get(key), getattr(ours, key, None)
        if (one or None) != (other or None):
            raise AdapterError(
                f"{where}: has adapter.{key} = {one}, and {recipe.name} has {other}. Set adapter.{key} as there."
            )


def _load_series(folder: Path, specialist: Specialist, where: str) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    own: Any = getattr(specialist, "own", None)
    try:
        state = load_file(folder / SERIES)
        learned = {name: state[name] for name, _ in own.named_parameters()}
        with torch.no_grad():
            own.load_state_dict(learned, strict=False)
    except (SafetensorError, OSError, KeyError, RuntimeError, AttributeError) as error:
        raise CorruptAdapter(f"{where}: {folder / SERIES} cannot be read into this recipe's specialist: {error}") from None
