"""A run's folder: what it contains, which process may write to it, and whether the run has finished."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vertical_sdk.card import CARD, Card, read_card
from vertical_sdk.errors import RunError
from vertical_sdk.paths import report_full_disk, write_whole
from vertical_sdk.recipe import Recipe

if TYPE_CHECKING:
    from vertical_sdk.baselines.frozen_base import InMemory

__all__ = ["Run", "claim_folder", "default_folder", "find_unfinished"]

RECIPE = "recipe.json"


@dataclass(frozen=True)
class Run:
    """A finished training.

    path          the run's folder: adapter/, checkpoints/, recipe.json; evaluation.json and report.html after an evaluation
    resumed_from  the step that it was resumed from, or None
    memory        what this process still has of the training, for `evaluate`; None if it trained nothing
    """

    path: Path
    resumed_from: int | None = None
    memory: InMemory | None = field(default=None, repr=False, compare=False)

    @property
    def adapter(self) -> Path:
        """The adapter's folder, which is complete in itself."""
        return self.path / "adapter"

    @property
    def card(self) -> Card:
        """The adapter's card, read from its folder."""
        return read_card(self.adapter)


def default_folder(recipe: Recipe, root: Path) -> Path:
    """The folder of a new run if the user names none."""
    return root / f"{recipe.name.replace('/', '-')}-{time.strftime('%Y%m%d-%H%M%S')}"


def find_unfinished(recipe: Recipe, root: Path) -> Path | None:
    """Find the newest unfinished run of exactly this recipe; None if no run of this name is unfinished.

    Raises RunError if all unfinished runs of this name have other settings: none of them may continue with these.
    """
    others = []
    for path in sorted(root.glob(f"{recipe.name.replace('/', '-')}-*"), reverse=True):
        if (path / "adapter" / CARD).is_file() or (recorded := _read_recipe(path)) is None or recorded.name != recipe.name:
            continue
        if recorded.digest == recipe.digest:
            return path
        others.append((path, recorded))
    if others:
        path, recorded = others[0]
        raise RunError(
            f"this run has other settings: {_list_changes(recorded, recipe)}. Resume it with its own, or train again without "
            "--resume.",
            where=path,
        )
    return None


@contextlib.contextmanager
def claim_folder(folder: Path, recipe: Recipe, *, resume: bool) -> Iterator[None]:
    """Lock the folder for one training.

    If the training fails before it wrote anything but the recipe's copy, the folder is removed, so that a corrected recipe or file
    of rows can be tried again. Raises RunError if another training has locked the folder, if it contains another run's files, or if
    it cannot be written.
    """
    from filelock import FileLock, Timeout

    with report_full_disk(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise RunError("The path is a file, not a folder. Choose another folder with --out.", where=folder) from None
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RunError(
                "Another training is writing to this folder. Wait for it, or choose another folder with --out.", where=folder
            ) from None
        try:
            _require_own_folder(folder, recipe, resume=resume)
            write_whole(folder / RECIPE, json.dumps(recipe.to_dict(), indent=1, ensure_ascii=False) + "\n")
            yield
        except BaseException:
            if resume or {p.name for p in folder.iterdir()} != {RECIPE, ".lock"}:
                raise
            with contextlib.suppress(OSError):
                (folder / RECIPE).unlink()
                (folder / ".lock").unlink()
                folder.rmdir()
            raise
        finally:
            lock.release()


def _require_own_folder(folder: Path, recipe: Recipe, *, resume: bool) -> None:
    """Raise RunError if the folder has files that this training must not touch."""
    files = sorted(p.name for p in folder.iterdir() if p.name != ".lock" and not p.name.startswith(f".{RECIPE}."))
    recorded = _read_recipe(folder)
    if resume and files and (recorded is None or recorded.digest != recipe.digest):
        content = (
            f"the folder contains a run of another recipe or with other settings: {_list_changes(recorded, recipe)}"
            if recorded
            else "the folder is not a run"
        )
        raise RunError(
            f"{content}. Resume a run with exactly its own recipe and settings, or choose another folder.", where=folder
        )
    if files and not resume:
        raise RunError(
            f"the folder is not empty ({', '.join(files[:4])}). Continue its run with --resume, or choose another folder "
            "with --out.",
            where=folder,
        )


def _read_recipe(folder: Path) -> Recipe | None:
    """The recipe that a run's folder contains; None if it contains none."""
    try:
        return Recipe.model_validate_json((folder / RECIPE).read_bytes())
    except (OSError, ValueError):
        return None


def _list_changes(then: Recipe, now: Recipe) -> str:
    """The keys in which two recipes differ, at most five of them."""
    changes = list(_find_changes(then.to_dict(), now.to_dict()))
    return "; ".join(changes[:5]) + (f"; and {len(changes) - 5} more keys" if len(changes) > 5 else "")


def _find_changes(then: Mapping[str, object], now: Mapping[str, object], at: str = "") -> Iterator[str]:
    for key in dict.fromkeys((*then, *now)):
        old, new, name = then.get(key), now.get(key), f"{at}{key}"
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _find_changes(old, new, f"{name}.")
        elif old != new:
            yield f"{name} is {_shorten(new)}, and was {_shorten(old)}"


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
