"""Adapter folders: find, read and copy them."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from vertical_sdk.card import CARD, Card, parse_card, read_card
from vertical_sdk.errors import AdapterError, CorruptAdapter, RegistryError, VerticalError
from vertical_sdk.members import ENSEMBLE, check_members
from vertical_sdk.paths import expand_home, report_full_disk
from vertical_sdk.recipe import Recipe
from vertical_sdk.registry.checked_files import CheckedFiles
from vertical_sdk.registry.references import RUNS, parse_reference

if TYPE_CHECKING:
    from vertical_sdk.baselines.stacking import Ensemble
    from vertical_sdk.registry import Registry
    from vertical_sdk.registry.version import Version

__all__ = ["Adapter", "copy_adapter", "find_adapter", "names_folder", "open_adapter", "read_adapter"]


README = "README.md"


@dataclass(frozen=True, eq=False)
class Adapter:
    """An adapter folder with its card and its recipe, each read once."""

    files: CheckedFiles
    card: Card
    recipe: Recipe
    version: Version | None = None
    """The published version that it is; None for a folder."""

    @property
    def folder(self) -> Path:
        """The folder. What is loaded is read through `files`, which compares it with its digests."""
        return self.files.folder

    @functools.cached_property
    def ensemble(self) -> Ensemble | None:
        """The members that answer together with the adapter; None if there are none.

        Raises CorruptAdapter for a file that cannot be read, and for members that the card's recipe does not name.
        """
        if not check_members(self.folder, self.card.recipe, has_file=ENSEMBLE in self.card.files):
            return None
        from vertical_sdk.baselines.stacking import load_ensemble

        return load_ensemble(self.files, self.recipe, self.card.labels, self.card.layout)


def read_adapter(source: Path | Version) -> Adapter:
    """Read the card of an adapter and the recipe in it, but no weights.

    source  an adapter folder, of which the card lists the digests of the other files; or a version, whose manifest lists all

    Raises CorruptAdapter if the card is missing, damaged or not that of the version.
    """
    if isinstance(source, Path):
        folder, version = source, None
        card = read_card(folder)
        files = CheckedFiles(folder, card.files)
    else:
        folder, version = source.path, source
        files = CheckedFiles(folder, {path: file.sha256 for path, file in source.manifest.items()}, at_once=True)
        card = parse_card(files.read(CARD), folder)
    try:
        recipe = Recipe.model_validate(card.recipe)
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(("recipe", *map(str, first["loc"])))
        raise CorruptAdapter(f"{CARD}: {at}: {first['msg']}. Download or train the adapter again.", where=folder) from None
    if recipe.task != card.task:
        problem = f"task: the card is for {card.task!r}, and its recipe for {recipe.task!r}"
        raise CorruptAdapter(f"{CARD}: {problem}. Download or train the adapter again.", where=folder)
    return Adapter(files, card, recipe, version)


def open_adapter(adapter: str | Path, registry: Registry | None = None, *, allow_revoked: Collection[str] = ()) -> Adapter:
    """Find an adapter, as `find_adapter` does, and read its card.

    What is loaded from it later are the files that were compared here: those of the version, or those that the folder's card lists.
    Raises RegistryError for a folder if the policy requires signatures, which a folder does not have; what `find_adapter` and
    `read_adapter` raise.
    """
    from vertical_sdk.registry.policy import Policy

    found = _locate(adapter, registry, allow_revoked)
    policy = registry.policy if registry is not None else Policy.from_environment()
    if isinstance(found, Path) and policy.requires_signature:
        raise RegistryError(
            "a folder has no signature, and $VERTICAL_TRUSTED_KEYS or $VERTICAL_TRUSTED_IDENTITIES requires one of each adapter that is "
            "loaded. Publish and sign it, and load it by its reference. If you trust the folder, unset these variables.",
            where=found,
        )
    return read_adapter(found)


def find_adapter(adapter: str | Path, registry: Registry | None = None, *, allow_revoked: Collection[str] = ()) -> Path:
    """Find the folder of an adapter.

    adapter        a registry reference ("medical/icd-chapter@production"), a run folder, or an adapter folder. A folder is a Path, or a
                   text that starts with "./", "../", "/", "~" or "runs/"; any other text is a reference
    allow_revoked  versions ("medical/icd-chapter@3") that may be used although they were revoked

    Raises AdapterError for a folder that is not an adapter, RegistryError for a reference that does not exist.
    """
    found = _locate(adapter, registry, allow_revoked)
    return found if isinstance(found, Path) else found.path


def names_folder(adapter: str | Path) -> bool:
    """Whether a text is the path of a folder, and not a reference. A folder that exists never changes the answer."""
    path = Path(adapter)
    return not isinstance(adapter, str) or adapter.startswith((".", "/", "~", RUNS)) or path.is_absolute()


def _locate(adapter: str | Path, registry: Registry | None, allow_revoked: Collection[str]) -> Path | Version:
    """The adapter's folder that a path names, or the version that a reference names."""
    if names_folder(adapter):
        return _adapter_inside(expand_home(adapter))
    from vertical_sdk.registry import Registry

    store, reference = registry or Registry(), str(adapter)
    try:
        return store.resolve(reference, allow_revoked=allow_revoked)
    except RegistryError as error:
        if not os.path.isdir(reference) or _has_version(store, reference):  # noqa: PTH112  (a long text is no folder, and no error)
            raise
        raise RegistryError(
            f"{error.message} A folder of this name is here; to load it, write ./{adapter}.", where=error.where
        ) from None


def _adapter_inside(path: Path) -> Path:
    """The adapter's folder in a run folder or an adapter folder. Raises AdapterError for any other folder."""
    if not os.path.isdir(path):  # noqa: PTH112  (a long text is no folder, and no error)
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


def _has_version(registry: Registry, reference: str) -> bool:
    """Whether a registry has the version that a text names."""
    try:
        return len(registry.store.find(parse_reference(reference))) == 1
    except VerticalError:
        return False


def copy_adapter(adapter: Adapter, target: Path) -> None:
    """Copy an adapter's files to a folder that is new or empty; it appears there complete or not at all.

    Raises AdapterError if the target contains something, CorruptAdapter if a file has changed, RunError if it cannot be written.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise AdapterError("this folder is not empty. Choose a new folder.", where=target)
    with report_full_disk(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        staged = target.with_name(f".{target.name}.part")
        shutil.rmtree(staged, ignore_errors=True)
        try:
            staged.mkdir()
            for name in adapter.files.digests or ():
                (staged / name).parent.mkdir(parents=True, exist_ok=True)
                (staged / name).write_bytes(adapter.files.read(name))
            for name in {CARD, README} - set(adapter.files.digests or ()):  # of a folder, whose card does not list them
                if (adapter.folder / name).is_file():
                    shutil.copyfile(adapter.folder / name, staged / name)
            if target.exists():
                target.rmdir()
            staged.rename(target)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
