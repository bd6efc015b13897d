"""Adapter folders: find, read and copy them."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vertical_sdk.card import CARD, Card, read_card
from vertical_sdk.errors import AdapterError, VerticalError
from vertical_sdk.paths import expand_home, report_full_disk
from vertical_sdk.recipe import Recipe
from vertical_sdk.registry.references import parse_reference

if TYPE_CHECKING:
    from vertical_sdk.baselines.stacking import Ensemble
    from vertical_sdk.registry import Registry

__all__ = ["Adapter", "copy_adapter", "find_adapter", "read_adapter"]


@dataclass(frozen=True, eq=False)
class Adapter:
    """An adapter folder with its card and its recipe, each read once."""

    folder: Path
    card: Card
    recipe: Recipe

    @functools.cached_property
    def ensemble(self) -> Ensemble | None:
        """The members that answer together with the adapter; None if there are none.

        Raises CorruptAdapter for a file that cannot be read.
        """
        from vertical_sdk.baselines.stacking import ENSEMBLE, load_ensemble

        return load_ensemble(self.folder) if ENSEMBLE in self.card.files else None


def read_adapter(folder: Path) -> Adapter:
    """Read the card of an adapter folder and the recipe in it, but no weights.

    Raises CorruptAdapter if the card is missing or damaged.
    """
    card = read_card(folder)
    return Adapter(folder, card, Recipe.model_validate(card.recipe))


def find_adapter(adapter: str | Path, registry: Registry | None = None, *, allow_revoked: Collection[str] = ()) -> Path:
    """Find the folder of an adapter.

    adapter        a run folder, an adapter folder, or a registry reference ("medical/icd-chapter@production"). A Path, and a text
                   that starts with ".", "/" or "~", is a folder. Any other text is a reference if the registry has that name; a
                   folder of the same name that is neither a run nor an adapter does not hide it
    allow_revoked  versions ("medical/icd-chapter@3") that may be used although they were revoked

    Raises AdapterError for a folder that is not an adapter, and for a name that means both an adapter's folder and a version;
    RegistryError for a reference that does not exist.
    """
    path = expand_home(adapter)
    if isinstance(adapter, Path) or adapter.startswith((".", "/", "~")) or path.is_absolute():
        return _adapter_inside(path)
    from vertical_sdk.registry import Registry

    store = registry or Registry()
    if not path.exists() or (not _looks_like_adapter(path) and _has_version(store, adapter)):
        return store.resolve(adapter, allow_revoked=allow_revoked).path
    if _looks_like_adapter(path) and _has_version(store, adapter):
        raise AdapterError(
            f"{adapter!r} is a folder here and a name in the registry. Write ./{adapter} for the folder, or "
            f"{adapter.partition('@')[0]}@VERSION from a folder that does not contain {path.parts[0]}."
        )
    return _adapter_inside(path)


def _adapter_inside(path: Path) -> Path:
    """The adapter's folder in a run folder or an adapter folder. Raises AdapterError for any other folder."""
    if not path.is_dir():
        raise AdapterError(
            "this folder does not exist. Give a run folder, an adapter folder, or a registry reference.", where=path
        )
    if (path / CARD).is_file() or (path / "adapter_config.json").is_file():
        return path
    if (path / "adapter").is_dir():
        return path / "adapter"
    if (path / "recipe.json").is_file():
        raise AdapterError(
            "this run is not finished, so it has no adapter yet. Continue it: vertical train ... --resume.", where=path
        )
    raise AdapterError(f"this folder is neither a run nor an adapter: it has no adapter/ and no {CARD}.", where=path)


def _looks_like_adapter(path: Path) -> bool:
    return any((path / name).exists() for name in (CARD, "adapter_config.json", "adapter", "recipe.json"))


def _has_version(registry: Registry, reference: str) -> bool:
    """Whether a registry that can be reached has the version that a text names."""
    try:
        return len(registry.store.find(parse_reference(reference))) == 1
    except VerticalError:
        return False


def copy_adapter(folder: Path, target: Path) -> None:
    """Copy an adapter folder to a place that is new or empty; it appears there complete or not at all.

    Raises AdapterError if the target contains something, RunError if it cannot be written.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise AdapterError("this folder is not empty. Choose a new folder.", where=target)
    with report_full_disk(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        staged = target.with_name(f".{target.name}.part")
        shutil.rmtree(staged, ignore_errors=True)
        try:
            shutil.copytree(folder, staged)
            if target.exists():
                target.rmdir()
            staged.rename(target)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
