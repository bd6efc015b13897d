"""Write the recipe that a search found: it extends the first, and sets the found values alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vertical_sdk.errors import RecipeError, RunError
from vertical_sdk.overrides import apply_settings
from vertical_sdk.paths import write_whole
from vertical_sdk.recipe import Recipe
from vertical_sdk.tuning.result import Tuned

__all__ = ["check_target", "write_recipe"]

HEADER = "# Written by `vertical tune`"


def check_target(recipe: str | Path | Mapping[str, Any], out: str | Path | None, loaded: Recipe) -> Path | None:
    """Return the file to write; None for a recipe that is a dict, which no file can extend.

    Raises RecipeError if the file has another ending than YAML's, or for a dict with `out`; RunError if it exists and no search wrote it.
    """
    if isinstance(recipe, Mapping):
        if out is not None:
            raise RecipeError(
                "out names a recipe that extends the first, and the first is a dict. Write it to a file, or leave out away."
            )
        return None
    target = Path(out) if out is not None else Path(f"{loaded.name.rpartition('/')[2]}-tuned.yaml")
    if target.suffix not in {".yaml", ".yml"}:
        raise RecipeError("a recipe is a YAML file. Name one that ends with .yaml.", where=target)
    if target.exists() and not (target.is_file() and target.read_bytes().startswith(HEADER.encode())):
        raise RunError("this file exists, and `vertical tune` did not write it. Name another with -o.", where=target)
    return target


def write_recipe(target: Path, recipe: str | Path, tuned: Tuned) -> Path:
    """Write the recipe with what it is worth as a comment. A parent in a file is named by its path from there."""
    import yaml

    parent = str(recipe)
    if parent.endswith((".yaml", ".yml")):
        parent = _relative(Path(parent), target.absolute().parent)
    plain = apply_settings({}, tuned.settings)
    text = yaml.safe_dump({"extends": parent, **plain}, sort_keys=False, allow_unicode=True)
    write_whole(target, f"{HEADER}. {tuned.text}\n{text}")
    return target


def _relative(path: Path, folder: Path) -> str:
    try:
        return os.path.relpath(path.absolute(), folder)
    except ValueError:  # on another drive
        return str(path.absolute())
