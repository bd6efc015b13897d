"""Inputs of a user as rows: texts, records, series and pictures, each normalized as the training rows were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.adapters.folder import Adapter
from vertical_sdk.card import Card
from vertical_sdk.data.clean import normalize_texts
from vertical_sdk.data.records import build_record_example
from vertical_sdk.data.texts import format_prompt
from vertical_sdk.errors import DataError, MissingExtra
from vertical_sdk.recipe import Recipe
from vertical_sdk.types import Example, Message

__all__ = ["Input", "as_conversations", "as_row", "as_rows", "clean_turns", "read_picture"]

Input: TypeAlias = "str | Path | Mapping[str, Any] | NDArray[Any] | Example"
FORMATS = ("PNG", "JPEG")
GREYS = frozenset({"1", "L", "LA", "La"})
DEEP = ("I", "F")
"""Prefixes of the modes with more than 8 bits a pixel."""


def as_rows(inputs: Sequence[Input], positions: Sequence[int], adapter: Adapter, name: str) -> list[Example]:
    """Turn inputs into rows for a specialist. Rows of a reader stay; all others go through the recipe's normalizing cleaners.

    positions  where each input is in what the user gave, for messages
    name       what the specialist is called

    Raises DataError for an input that the specialist cannot read.
    """
    rows = [
        item if isinstance(item, Example) else as_row(item, number, adapter.card, adapter.recipe, name)
        for item, number in zip(inputs, positions, strict=True)
    ]
    places = [place for place, item in enumerate(inputs) if not isinstance(item, Example)]
    cleaned, _ = normalize_texts([rows[place] for place in places], adapter.recipe)
    for place, row in zip(places, cleaned, strict=True):
        rows[place] = row
    return rows


def as_conversations(prompts: Sequence[str] | Sequence[Sequence[Message]], recipe: Recipe) -> list[tuple[Message, ...]]:
    """Turn prompts into cleaned conversations: a text is put into the recipe's prompt."""
    return clean_turns([format_prompt(recipe.prompt, p) if isinstance(p, str) else tuple(p) for p in prompts], recipe)


def clean_turns(conversations: Sequence[tuple[Message, ...]], recipe: Recipe) -> list[tuple[Message, ...]]:
    """Clean conversations as the training rows were cleaned."""
    cleaned, _ = normalize_texts([Example(id=str(n), messages=messages) for n, messages in enumerate(conversations)], recipe)
    return [row.messages for row in cleaned]


def as_row(item: Input, number: int, card: Card, recipe: Recipe, name: str) -> Example:
    """Turn one text, record, series or picture into a row.

    Raises DataError if the specialist reads something else.
    """
    if recipe.data.modality == "image":
        if isinstance(item, str | Path):
            return Example(id=str(item), values=read_picture(Path(item)))
        if not isinstance(item, np.ndarray):
            raise DataError(
                f"input {number} is {_shown(item)}; {name} reads pictures: give the path of a PNG or JPEG, or an array of bytes "
                "(height, width) or (height, width, 3)."
            )
        return Example(id=str(number), values=item)
    if recipe.data.modality == "series":
        values = _numbers(item, number, name)
        if card.values and values.shape != (len(card.values),):
            raise DataError(
                f"input {number} is {_shown(item)}; {name} reads rows of {len(card.values)} numbers: {', '.join(card.values)}. "
                "Give them in this order, and NaN for one that was not measured."
            )
        return Example(id=str(number), values=values)
    if card.fields:
        if not isinstance(item, Mapping):
            reads = ", ".join(field.name for field in card.fields)
            raise DataError(
                f"input {number} is {_shown(item)}; {name} reads records: give {{field: value}} with fields among {reads}."
            )
        return build_record_example(item, card.contract, f"record {number}")
    if not isinstance(item, str) or not item.strip():
        raise DataError(f"text {number} is {_shown(item)}; every text must be a string that is not empty.")
    return Example(id=str(number), text=item)


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read a PNG or JPEG as bytes: (height, width) if it is grey, else (height, width, 3), turned as the file's orientation says.

    Transparent pixels keep the colour below.

    Raises DataError for a file that is missing, not a picture, broken, far too large, or has more than 8 bits a pixel.
    """
    try:
        from PIL import Image, ImageOps
    except ModuleNotFoundError:
        raise MissingExtra("vision", "Reading pictures from files") from None
    if not path.is_file():
        raise DataError("no such file. Give the path of a PNG or JPEG.", where=path)
    try:
        with Image.open(path, formats=FORMATS) as file:
            if Image.MAX_IMAGE_PIXELS and file.width * file.height > Image.MAX_IMAGE_PIXELS:
                raise DataError(f"the picture has {file.width} x {file.height} pixels, which is too large.", where=path)
            if file.mode.startswith(DEEP):
                raise DataError(
                    f"the picture has more than 8 bits a pixel ({file.mode}). Scale its greys to 0 to 255 as in training.",
                    where=path,
                )
            grey = file.mode in GREYS
            picture: Any = ImageOps.exif_transpose(file).convert("L" if grey else "RGB")
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(f"the picture is too large: {error}", where=path) from None
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"cannot be read as a PNG or JPEG: {error}", where=path) from None
    return np.array(picture, dtype=np.uint8)


def _numbers(item: Input, number: int, name: str) -> NDArray[np.float32]:
    """(steps,) or (steps, channels), oldest first; NaN if not measured."""
    if not isinstance(item, np.ndarray):
        raise DataError(f"input {number} is {_shown(item)}; {name} reads series: give an array (steps,) or (steps, channels).")
    if item.ndim not in {1, 2} or not item.size or item.dtype.kind not in "fiub":
        raise DataError(
            f"input {number} is an array of {item.dtype} {item.shape}; a series is numbers (steps,) or (steps, channels)."
        )
    values = item.astype(np.float32)
    if np.isinf(values).any() or np.isnan(values).all():
        problem = "contains infinite values" if np.isinf(values).any() else "contains no measured value"
        raise DataError(f"input {number} {problem}. Give finite numbers, and NaN for values that were not measured.")
    return values


def _shown(item: object) -> str:
    """An input for messages: an array by its type and shape."""
    return f"an array of {item.dtype} {item.shape}" if isinstance(item, np.ndarray) else f"{item!r:.200}"
