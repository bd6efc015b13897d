"""Inputs of a user as rows: texts, records, series and pictures, each normalized as the training rows were."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.adapters.folder import Adapter
from vertical_sdk.card import Card
from vertical_sdk.cells import is_empty
from vertical_sdk.data.clean import normalize_texts
from vertical_sdk.data.layouts import is_index_name, refuse_unknown_columns
from vertical_sdk.data.records import build_record_example
from vertical_sdk.data.texts import format_prompt
from vertical_sdk.errors import DataError, MissingExtra
from vertical_sdk.inference.batches import TableRow, describe
from vertical_sdk.recipe import Recipe
from vertical_sdk.types import Example, Message

__all__ = [
    "Input",
    "as_conversations",
    "as_row",
    "as_rows",
    "as_turns",
    "clean_turns",
    "decode_picture",
    "find_reads",
    "read_picture",
    "require_text",
]

Input: TypeAlias = "str | Path | Mapping[str, Any] | Sequence[Any] | NDArray[Any] | Example"
FORMATS = ("PNG", "JPEG")
GREYS = frozenset({"1", "L", "LA", "La"})
DEEP = ("I", "F")
"""Prefixes of the modes with more than 8 bits a pixel."""
NUMERIC = "fiub"
"""Kinds of numpy arrays that hold real numbers."""
LONGEST_INT = 1023
"""Bits of the longest whole number that is a finite float."""
ROLES = ("system", "user", "assistant")


def find_reads(card: Card, recipe: Recipe) -> tuple[str, str]:
    """What a specialist reads, in the plural and in the singular."""
    if recipe.data.modality in {"image", "series"}:
        return ("pictures", "picture") if recipe.data.modality == "image" else ("series", "series")
    return ("records", "record") if card.fields else ("texts", "text")


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
        if row.values is None and is_empty(row.text):
            raise DataError(
                f"text {positions[place]} is {rows[place].text!r:.200}, of which the recipe's cleaners leave nothing."
            )
        rows[place] = row
    return rows


def as_conversations(prompts: Sequence[Any], recipe: Recipe, numbers: Sequence[int]) -> list[tuple[Message, ...]]:
    """Turn prompts into cleaned conversations: a text is put into the recipe's prompt.

    numbers  of the prompts, for messages

    Raises DataError for a prompt that is neither a text nor a conversation that ends with the user's turn.
    """
    return clean_turns([as_turns(prompt, number, recipe) for number, prompt in zip(numbers, prompts, strict=True)], recipe)


def clean_turns(conversations: Sequence[tuple[Message, ...]], recipe: Recipe) -> list[tuple[Message, ...]]:
    """Clean conversations as the training rows were cleaned."""
    cleaned, _ = normalize_texts([Example(id=str(n), messages=messages) for n, messages in enumerate(conversations)], recipe)
    return [row.messages for row in cleaned]


def as_row(item: Input, number: int, card: Card, recipe: Recipe, name: str) -> Example:
    """Turn one text, record, series or picture into a row.

    Raises DataError if the specialist reads something else.
    """
    if recipe.data.modality == "image":
        return _as_picture_row(item, number, name)
    if recipe.data.modality == "series":
        if isinstance(item, TableRow) and card.values:
            picked = _pick_columns(item, card.values, recipe, "values", f"row {number}")
            item = [picked.get(column) for column in card.values]
        values = _numbers(item, number, name)
        if card.values and values.shape == (len(card.values), 1):
            values = values[:, 0]
        if card.values and values.shape != (len(card.values),):
            raise DataError(
                f"input {number} is {describe(item)}; {name} reads rows of {len(card.values)} numbers: {', '.join(card.values)}. "
                "Give them in this order, and NaN for one that was not measured."
            )
        return Example(id=str(number), values=values)
    if card.fields:
        return _as_record_row(item, number, card, recipe, name)
    return Example(id=str(number), text=require_text(item, f"text {number}", "every text"))


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read a PNG or JPEG as bytes: (height, width) if it is grey, else (height, width, 3), turned as the file's orientation says.

    Transparent pixels keep the colour below.

    Raises DataError for a file that is missing, not a picture, broken, far too large, or has more than 8 bits a pixel.
    """
    try:
        exists = path.is_file()
    except (OSError, ValueError):  # too long for a name, or with a zero byte
        exists = False
    if not exists:
        shown = str(path) if str(path).isprintable() and len(str(path)) < 200 else f"{str(path)[:200]!a}"
        raise DataError("no such file. Give the path of a PNG or JPEG.", where=shown)
    return _open_picture(path, path)


def decode_picture(content: bytes, where: str, *, most_pixels: int) -> NDArray[np.uint8]:
    """Decode the content of a PNG or JPEG, as `read_picture` reads a file.

    where        its place among the inputs, for messages
    most_pixels  of a picture, which is refused before it is decoded if it has more

    Raises DataError.
    """
    return _open_picture(io.BytesIO(content), where, most_pixels=most_pixels)


def _open_picture(file: Path | BinaryIO, where: str | Path, *, most_pixels: int | None = None) -> NDArray[np.uint8]:
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise MissingExtra("vision", "Reading pictures from files") from None
    try:
        with Image.open(file, formats=FORMATS) as picture:
            if most_pixels is not None and picture.width * picture.height > most_pixels:
                raise DataError(
                    f"the picture has {picture.width} x {picture.height} pixels; at most {most_pixels} are read.", where=where
                )
            return _picture_bytes(picture, where)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(f"the picture is too large: {error}", where=where) from None
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"cannot be read as a PNG or JPEG: {error}", where=where) from None


def _picture_bytes(picture: Any, where: str | Path) -> NDArray[np.uint8]:
    """The bytes of a PIL image: (height, width) if it is grey, else (height, width, 3)."""
    from PIL import Image, ImageOps

    if Image.MAX_IMAGE_PIXELS and picture.width * picture.height > Image.MAX_IMAGE_PIXELS:
        raise DataError(f"the picture has {picture.width} x {picture.height} pixels, which is too large.", where=where)
    if not picture.width * picture.height:
        raise DataError("the picture has no pixels.", where=where)
    if picture.mode.startswith(DEEP):
        raise DataError(
            f"the picture has more than 8 bits a pixel ({picture.mode}). Scale its greys to 0 to 255 as in training.",
            where=where,
        )
    turned: Any = ImageOps.exif_transpose(picture).convert("L" if picture.mode in GREYS else "RGB")
    return np.array(turned, dtype=np.uint8)


def _as_picture_row(item: Input, number: int, name: str) -> Example:
    if isinstance(item, str | Path):
        return Example(id=str(item), values=read_picture(Path(item)))
    images = sys.modules.get("PIL.Image")
    if images is not None and isinstance(item, images.Image):
        return Example(id=str(number), values=_picture_bytes(item, f"input {number}"))
    if (
        not isinstance(item, np.ndarray)
        or item.dtype != np.uint8
        or item.ndim not in {2, 3}
        or not item.size
        or item.shape[2:] not in {(), (3,)}
    ):
        raise DataError(
            f"input {number} is {describe(item)}; {name} reads pictures: give the path of a PNG or JPEG, or an array of bytes (uint8) "
            "(height, width) or (height, width, 3)."
        )
    return Example(id=str(number), values=np.asarray(item))


def _as_record_row(item: Input, number: int, card: Card, recipe: Recipe, name: str) -> Example:
    """A record's row.

    Columns that the recipe names for another use, such as label and group, are left out.
    """
    fields = {field.name for field in card.fields}
    if not isinstance(item, Mapping):
        reads = ", ".join(field.name for field in card.fields)
        raise DataError(
            f"input {number} is {describe(item)}; {name} reads records: give {{field: value}} with fields among {reads}."
        )
    where = f"record {number}"
    if isinstance(item, TableRow):
        item = _pick_columns(item, [field.name for field in card.fields], recipe, "record", where)
    others = set(recipe.data.columns.values()) - fields
    given = {}
    for field, value in item.items():
        if not isinstance(field, str):
            raise DataError(f"the field {field!r:.60} is a {type(field).__name__}. Names of fields are texts.", where=where)
        if field not in others:
            given[field] = _plain_cell(value, field, where)
    return build_record_example(given, card.contract, where)


def _pick_columns(row: TableRow, wanted: Sequence[str], recipe: Recipe, key: str, where: str) -> dict[str, Any]:
    """Pick what a specialist reads from a row of a table, as from a line of the recipe's file.

    wanted  names of fields or numbers; a column may have this name or the one that the recipe's file has for it
    key     "record" or "values": the reader's option that chose the columns

    Raises DataError for a row without any of them, and, if the recipe reads all columns, for one with a column that is not known.
    """
    chosen = recipe.data.reader.arguments.get(key) if recipe.data.reader else None
    columns = {name: column for column, name in chosen.items()} if isinstance(chosen, Mapping) else {}
    known = {**row.index, **row}
    column_of = {name: name if name in known else columns.get(name, name) for name in wanted}
    picked = {name: known[column] for name, column in column_of.items() if column in known}
    if not picked:
        raise DataError(f"none of the columns that this specialist reads: {', '.join(wanted)}.", where=where)
    if chosen == "all":
        present = (column for column in row if not is_index_name(column))
        refuse_unknown_columns(present, recipe.data.columns, list(column_of.values()), where)
    return picked


def _plain_cell(value: object, field: str, where: str) -> object:
    """Return the value of a field as Python's own: None if it is missing.

    Raises DataError for anything but a text, a number, a date or a missing value.
    """
    pandas = sys.modules.get("pandas")
    if value is None or (pandas is not None and (value is pandas.NA or value is pandas.NaT)):
        return None
    if isinstance(value, np.generic) and value.dtype.kind in "fiubU":
        value = value.item()
    if isinstance(value, int) and value.bit_length() > LONGEST_INT:
        raise DataError(f"{field} is a number of {value.bit_length()} bits, which is too large.", where=where)
    if not isinstance(value, str | int | float | Decimal | date | time):
        raise DataError(f"{field} = {describe(value)} is wrong: give a text, a number, or None if it is unknown.", where=where)
    if isinstance(value, str):
        _check_unicode(value, f"{where}: {field}")
    return value


def require_text(item: object, what: str, every: str) -> str:
    """Return a text that can be read. Raises DataError for one without a character to see, and for half of a surrogate pair."""
    if not isinstance(item, str) or is_empty(item):
        raise DataError(f"{what} is {describe(item)}; {every} must be a string that is not empty.")
    _check_unicode(item, what)
    return str(item)


def _check_unicode(text: str, what: str) -> None:
    odd = next((character for character in text if "\ud800" <= character <= "\udfff"), None)
    if odd is not None:
        raise DataError(f"{what} contains {odd!a}, half of a surrogate pair, which is not a character. Decode it as UTF-8.")


def as_turns(prompt: object, number: int, recipe: Recipe) -> tuple[Message, ...]:
    """Turn a prompt into a conversation that ends with the user's turn; a text is put into the recipe's prompt. Raises DataError."""
    what = f"prompt {number}"
    if isinstance(prompt, str):
        return format_prompt(recipe.prompt, require_text(prompt, what, "every prompt"))
    if isinstance(prompt, Mapping | Message | Path) or not isinstance(prompt, Iterable):
        raise DataError(
            f"{what} is {describe(prompt)}; give a text, or a conversation as a list of turns: generate([[Message('user', 'Hello')]])."
        )
    turns = tuple(_as_turn(turn, f"{what}: turn {place}") for place, turn in enumerate(prompt))
    if not turns or turns[-1].role != "user":
        raise DataError(f"{what} has no turn of the user at its end, so there is nothing to answer.")
    require_text(turns[-1].content, f"{what}: the user's turn", "it")
    return turns


def _as_turn(turn: object, where: str) -> Message:
    if isinstance(turn, Message):
        role, content = turn.role, turn.content
    elif isinstance(turn, Mapping) and set(turn) == {"role", "content"}:
        role, content = turn["role"], turn["content"]
    else:
        raise DataError(f"{where} is {describe(turn)}; a turn is Message(role, content).")
    if role not in ROLES or not isinstance(content, str):
        raise DataError(
            f"{where} has the role {role!r:.60} and a content that is {describe(content)}; roles are {', '.join(ROLES)}."
        )
    _check_unicode(content, where)
    return Message(role, content)


def _numbers(item: Input, number: int, name: str) -> NDArray[np.float32]:
    """(steps,) or (steps, channels), oldest first; NaN if not measured."""
    values = _as_float_array(item)
    if values is None or values.ndim not in {1, 2} or not values.size:
        raise DataError(
            f"input {number} is {describe(item)}; {name} reads series: give numbers (steps,) or (steps, channels), oldest first."
        )
    with np.errstate(over="ignore"):
        small = values.astype(np.float32)
    if np.isinf(small).any() or np.isnan(small).all():
        problem = "contains no measured value"
        if np.isinf(small).any():
            problem = "contains infinite values" if np.isinf(values).any() else "contains values that are too large for float32"
        raise DataError(f"input {number} {problem}. Give finite numbers, and NaN for values that were not measured.")
    return small


def _as_float_array(item: object) -> NDArray[np.float64] | None:
    """The numbers of an array, a Series or a list, with NaN for missing ones; None for anything else."""
    if isinstance(item, np.ma.MaskedArray):
        return np.asarray(np.ma.filled(item.astype(np.float64), np.nan)) if item.dtype.kind in NUMERIC else None
    if not isinstance(item, np.ndarray) and hasattr(item, "to_numpy") and hasattr(item, "tolist"):  # a Series or an Arrow array
        item = item.tolist()
    if isinstance(item, list | tuple):
        try:
            cells: NDArray[Any] = np.array(item, dtype=object)
        except ValueError:  # steps of different lengths
            return None
        item = cells
    if not isinstance(item, np.ndarray):
        return None
    if item.dtype.kind == "O":
        plain = [_as_float(cell) for cell in item.ravel()]
        return None if None in plain else np.array(plain, dtype=np.float64).reshape(item.shape)
    return item.astype(np.float64) if item.dtype.kind in NUMERIC else None


def _as_float(cell: object) -> float | None:
    """A number, NaN for a missing one, None for anything else."""
    pandas = sys.modules.get("pandas")
    if cell is None or (pandas is not None and cell is pandas.NA):
        return math.nan
    if isinstance(cell, bool | np.bool_ | int | float | np.integer | np.floating):
        try:
            return float(cell)
        except OverflowError:
            return math.inf
    return None
