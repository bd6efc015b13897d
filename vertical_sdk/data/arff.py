"""ARFF, the format of Weka and OpenML: attributes with their types, then one row a line.

Read here and not by scipy, whose reader refuses attributes of text. Dates stay as they are written; relational attributes and sparse
rows are refused. The format is that of the Weka manual, "ARFF (stable version)".
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vertical_sdk.errors import DataError

__all__ = ["Arff", "read_arff"]

NUMBERS = {"numeric", "real", "integer"}
TEXTS = {"string", "date"}
TOKEN = re.compile(r"""\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|([^\s,{}'"%]\S*?))(?=[\s{]|$)""")
FIELD = re.compile(r"""[^\S\t]*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|([^,\t'"][^,\t]*)?)[^\S\t]*(,|\t|$)""")
ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


@dataclass(frozen=True)
class Arff:
    """The rows of a file, the line of each, and the classes of its nominal attributes, in the order that it gives them."""

    columns: tuple[str, ...]
    rows: list[dict[str, Any]]
    places: list[int]
    names: dict[str, tuple[str, ...]]


def read_arff(path: Path, lines: Iterable[tuple[int, str]]) -> Arff:
    """All rows; a number is a float, `?` is None, the rest are strings.

    lines  line numbers from 1, and the lines

    Raises DataError, with file and line.
    """
    types: dict[str, str | tuple[str, ...]] = {}
    rows: list[dict[str, Any]] = []
    places: list[int] = []
    in_data = False
    for number, raw in lines:
        line, where = raw.strip(), f"{path}:{number}"
        if not line or line.startswith("%"):
            continue
        if in_data:
            rows.append(_parse_row(raw.strip(" \r\n"), types, where))
            places.append(number)
            continue
        word = line.split(maxsplit=1)[0].lower()
        if word == "@attribute":
            name, kind = _parse_attribute(line[len(word) :], where)
            if name in types:
                raise DataError(f"{where}: the attribute {name!r} stands there twice.")
            types[name] = kind
        elif word == "@data":
            if not types:
                raise DataError(f"{where}: @data comes before any @attribute.")
            in_data = True
        elif word != "@relation":
            raise DataError(f"{where}: {line[:40]!r} is no line of an ARFF header: @relation, @attribute or @data is needed.")
    if not in_data:
        raise DataError(f"{path}: has no @data; it is cut, or no ARFF file.")
    return Arff(tuple(types), rows, places, {name: kind for name, kind in types.items() if isinstance(kind, tuple)})


def _parse_attribute(text: str, where: str) -> tuple[str, str | tuple[str, ...]]:
    """Name and type of `'a name' numeric` or `colour {red, 'dark blue'}`; for a nominal attribute its classes."""
    match = TOKEN.match(text)
    if match is None:
        raise DataError(f"{where}: @attribute needs a name and a type; a name with a space in it must stand in quotes.")
    name, kind = _unquote(match), text[match.end() :].strip()
    if kind.startswith("{"):
        if not kind.endswith("}"):
            raise DataError(f"{where}: the classes of {name!r} lack the closing '}}'.")
        classes = [value for value in _split_fields(kind[1:-1], where) if value is not None]
        if not classes or len(set(classes)) < len(classes):
            raise DataError(f"{where}: the attribute {name!r} {'has a class twice' if classes else 'has no classes'}.")
        return name, tuple(classes)
    plain = kind.split(maxsplit=1)[0].lower() if kind else ""
    if plain not in NUMBERS | TEXTS:
        known = ", ".join(sorted(NUMBERS | TEXTS))
        raise DataError(f"{where}: the attribute {name!r} has the type {kind[:40]!r}; readable are {known} and {{classes}}.")
    return name, "number" if plain in NUMBERS else "text"


def _parse_row(line: str, types: dict[str, str | tuple[str, ...]], where: str) -> dict[str, Any]:
    if line.startswith("{"):
        raise DataError(
            f"{where}: a sparse row ('{{index value, ...}}'); only whole rows are read. Save the file as dense ARFF."
        )
    cells = _split_fields(line, where)
    if len(cells) != len(types):
        raise DataError(
            f"{where}: {len(cells)} values where there are {len(types)} attributes. A text with a comma in it must stand in quotes."
        )
    return {name: _parse_value(cell, kind, name, where) for (name, kind), cell in zip(types.items(), cells, strict=True)}


def _parse_value(cell: str | None, kind: str | tuple[str, ...], name: str, where: str) -> Any:
    if cell is None or kind == "text":
        return cell
    if isinstance(kind, tuple):
        if cell not in kind:
            shown = ", ".join(kind[:10]) + (", …" if len(kind) > 10 else "")
            raise DataError(f"{where}: {cell[:60]!r} is no class of {name!r}, which has {shown}.")
        return cell
    try:
        number = float(cell)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{where}: {name!r} holds {cell[:60]!r}; a number is needed, or ? where it is not known.")
    return number


def _split_fields(line: str, where: str) -> list[str | None]:
    """The values of a line; None for a bare question mark."""
    cells: list[str | None] = []
    at = 0
    while True:
        match = FIELD.match(line, at)
        if match is None:
            raise DataError(
                f"{where}: broken after {len(cells)} values, at {line[at : at + 40]!r}: a quote is not closed, or something stands "
                "behind it. A quote inside a quoted value is written with a backslash before it."
            )
        bare = (match[3] or "").strip()
        quoted = match[1] is not None or match[2] is not None
        if not quoted and not bare:
            raise DataError(f"{where}: value {len(cells) + 1} is empty; a missing value is written ?, an empty text ''.")
        cells.append(_unquote(match) if quoted else None if bare == "?" else bare)
        if not match[4]:
            return cells
        at = match.end()


def _unquote(match: re.Match[str]) -> str:
    inside = match[1] if match[1] is not None else match[2]
    if inside is None:
        return match[3].strip()
    return re.sub(r"\\(.)", lambda m: ESCAPES.get(m[1], m[1]), inside)
