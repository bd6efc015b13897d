"""What a user asks about, as rows: texts, records, series of numbers and pictures, each written as those of training were."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.card import Card
from vertical_sdk.data.clean import normalize_texts
from vertical_sdk.data.records import build_record_example
from vertical_sdk.errors import DataError, MissingExtra
from vertical_sdk.recipe import Recipe
from vertical_sdk.types import Example

__all__ = ["Asked", "as_row", "as_rows", "read_picture"]

Asked: TypeAlias = "str | Path | Mapping[str, Any] | NDArray[Any] | Example"
FORMATS = ("PNG", "JPEG")
GREYS = frozenset({"1", "L", "LA", "La"})
DEEP = ("I", "F")
"""How the modes begin that have more than 8 bits a pixel."""


def as_rows(given: Sequence[Asked], positions: Sequence[int], card: Card, name: str) -> list[Example]:
    """Rows to ask a specialist about; those of a reader are so already, all others go through the recipe's cleaners that mend.

    positions  where each stands in what the user gave, for messages
    name       what the specialist is called

    Raises DataError for what the specialist does not read.
    """
    recipe = Recipe.model_validate(card.recipe)
    rows = [
        one if isinstance(one, Example) else as_row(one, number, card, recipe, name)
        for one, number in zip(given, positions, strict=True)
    ]
    asked = [place for place, one in enumerate(given) if not isinstance(one, Example)]
    found, _ = normalize_texts([rows[place] for place in asked], recipe)
    for place, row in zip(asked, found, strict=True):
        rows[place] = row
    return rows


def as_row(given: Asked, number: int, card: Card, recipe: Recipe, name: str) -> Example:
    """One text, record, series or picture as a row.

    Raises DataError where the specialist reads something else.
    """
    if recipe.data.modality == "image":
        if isinstance(given, str | Path):
            return Example(id=str(given), values=read_picture(Path(given)))
        if not isinstance(given, np.ndarray):
            raise DataError(
                f"input {number} is {_shown(given)}; {name} reads pictures: give the path of a PNG or JPEG, or an array of bytes "
                "(height, width) or (height, width, 3)."
            )
        return Example(id=str(number), values=given)
    if recipe.data.modality == "series":
        return Example(id=str(number), values=_numbers(given, number, name))
    if card.fields:
        if not isinstance(given, Mapping):
            reads = ", ".join(field.name for field in card.fields)
            raise DataError(
                f"input {number} is {_shown(given)}; {name} reads records: give {{field: value}} with fields among {reads}."
            )
        return build_record_example(given, card.fields, f"record {number}")
    if not isinstance(given, str) or not given.strip():
        raise DataError(f"text {number} is {_shown(given)}; every text must be a string that is not empty.")
    return Example(id=str(number), text=given)


def read_picture(path: Path) -> NDArray[np.uint8]:
    """A PNG or JPEG as bytes: (height, width) where it is grey, else (height, width, 3), turned as its file says. What is transparent
    keeps the colour that lies under it.

    Raises DataError for a file that is none, is broken, is far too large, or has more than 8 bits a pixel.
    """
    try:
        from PIL import Image, ImageOps
    except ModuleNotFoundError:
        raise MissingExtra("vision", "Reading pictures from files") from None
    if not path.is_file():
        raise DataError(f"{path}: no such file; a picture is asked about by the path of its PNG or JPEG.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as opened:
                if opened.mode.startswith(DEEP):
                    raise DataError(
                        f"{path}: has more than 8 bits a pixel ({opened.mode}). Bring its greys to 0 to 255 as those of training were."
                    )
                grey = opened.mode in GREYS
                picture: Any = ImageOps.exif_transpose(opened).convert("L" if grey else "RGB")
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: is too large a picture: {error}") from None
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path}: cannot be read as a PNG or JPEG: {error}") from None
    return np.array(picture, dtype=np.uint8)


def _numbers(given: Asked, number: int, name: str) -> NDArray[np.float32]:
    """(steps,) or (steps, channels), oldest first, with NaN where nothing was measured."""
    if not isinstance(given, np.ndarray):
        raise DataError(f"input {number} is {_shown(given)}; {name} reads series: give an array (steps,) or (steps, channels).")
    if given.ndim not in {1, 2} or not given.size or given.dtype.kind not in "fiub":
        raise DataError(
            f"input {number} is an array of {given.dtype} {given.shape}; a series is numbers (steps,) or (steps, channels)."
        )
    values = given.astype(np.float32)
    if np.isinf(values).any() or np.isnan(values).all():
        what = "holds what is not finite" if np.isinf(values).any() else "has nothing measured in it"
        raise DataError(f"input {number} {what}; give finite numbers, and NaN where nothing was measured.")
    return values


def _shown(given: object) -> str:
    """For messages: an array by its kind, all else as it is."""
    return f"an array of {given.dtype} {given.shape}" if isinstance(given, np.ndarray) else f"{given!r:.200}"
