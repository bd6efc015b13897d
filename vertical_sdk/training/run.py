"""A run's folder: what is in it, who may write to it, and how far it is."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vertical_sdk.card import CARD, Card, read_card
from vertical_sdk.errors import RunError
from vertical_sdk.paths import report_full_disk, write_whole
from vertical_sdk.recipe import Recipe

__all__ = ["Run", "claim", "new_folder", "unfinished"]

RECIPE = "recipe.json"


@dataclass(frozen=True)
class Run:
    """A finished training.

    path          the run's folder: adapter/, checkpoints/, recipe.json; evaluation.json and report.html once it is evaluated
    resumed_from  the step it went on from, or None
    """

    path: Path
    resumed_from: int | None = None

    @property
    def adapter(self) -> Path:
        """The adapter's folder, which is complete in itself."""
        return self.path / "adapter"

    @property
    def card(self) -> Card:
        """The adapter's card as it now is."""
        return read_card(self.adapter)


def new_folder(recipe: Recipe, root: Path) -> Path:
    """Where a run of the recipe goes if the user names no folder."""
    return root / f"{recipe.name.replace('/', '-')}-{time.strftime('%Y%m%d-%H%M%S')}"


def unfinished(recipe: Recipe, root: Path) -> Path | None:
    """The newest run of exactly this recipe that has not ended."""
    for path in sorted(root.glob(f"{recipe.name.replace('/', '-')}-*"), reverse=True):
        if not (path / "adapter" / CARD).is_file() and _digest(path) == recipe.digest:
            return path
    return None


@contextlib.contextmanager
def claim(folder: Path, recipe: Recipe, *, resume: bool) -> Iterator[None]:
    """Hold the folder for one training.

    A folder in which nothing was made but the recipe's copy is given back as it was, so that a recipe or a file of rows can be
    mended and tried again. Raises RunError where another training holds it, where it has another run's files, or where it cannot be
    written.
    """
    from filelock import FileLock, Timeout

    with report_full_disk(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise RunError(f"{folder}: a file stands where the folder should be. Choose another folder with --out.") from None
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RunError(
                f"{folder}: another training is writing here. Wait for it, or choose another folder with --out."
            ) from None
        try:
            _require_ours(folder, recipe, resume=resume)
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


def _require_ours(folder: Path, recipe: Recipe, *, resume: bool) -> None:
    there = sorted(p.name for p in folder.iterdir() if p.name != ".lock" and not p.name.startswith(f".{RECIPE}."))
    digest = _digest(folder)
    if resume and there and digest != recipe.digest:
        what = "another recipe, or other settings" if digest else "something that is no run"
        raise RunError(
            f"{folder}: holds {what}; a run is resumed with exactly the recipe it began with. Choose another folder."
        )
    if there and not resume:
        raise RunError(
            f"{folder}: is not empty ({', '.join(there[:4])}). Go on with it by --resume, or choose another folder with --out."
        )


def _digest(folder: Path) -> str | None:
    try:
        return Recipe.model_validate_json((folder / RECIPE).read_bytes()).digest
    except (OSError, ValueError):
        return None
