"""ARFF, the format of Weka and OpenML: attributes with their types, then one row on each line.

The reader of scipy refuses attributes of text, so this module has its own. Dates stay as written; relational attributes and
sparse rows are refused. The format is described in the Weka manual, "ARFF (stable version)".
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vertical_sdk.data.rows import FileOptions, check_columns
from vertical_sdk.errors import DataError

__all__ = ["Arff", "read_arff"]

NUMBERS = {"numeric", "real", "integer"}
TEXTS = {"string", "date"}
MOST_CLASSES = 10_000
USUAL = FileOptions()
TOKEN = re.compile(r"""\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|([^\s,{}'"%]\S*?))(?=[\s{]|$)""")
FIELD = re.compile(r"""[^\S\t]*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|([^,\t'"][^,\t]*)?)[^\S\t]*(,|\t|$)""")
ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


@dataclass(frozen=True)
class Arff:
    """The rows of a file, the line of each row, and the classes of its nominal attributes, in the order of the file."""

    columns: tuple[str, ...]
    rows: list[dict[str, Any]]
    places: list[int]
    names: dict[str, tuple[str, ...]]


def read_arff(path: Path, lines: Iterable[tuple[int, str]], options: FileOptions = USUAL) -> Arff:
    """Read all rows. Numbers become floats, `?` becomes None, all else is a string.

    lines  line numbers from 1, and the lines

    Raises DataError with file and line.
    """
    types: dict[str, str | dict[str, None]] = {}
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
            check_columns(len(types) + 1, options, path)
            if len(kind) > MOST_CLASSES and not options.any_size:
                raise DataError(
                    f"the attribute {name!r} has {len(kind):,} classes, and at most {MOST_CLASSES:,} are read. Declare it as string; "
                    "or set data.reader.any_size: true.",
                    where=where,
                )
            if name in types:
                raise DataError(f"the attribute {name!r} is declared twice. Remove one of them.", where=where)
            types[name] = kind
        elif word == "@data":
            if not types:
                raise DataError("@data comes before any @attribute. Declare the attributes first.", where=where)
            in_data = True
        elif word != "@relation":
            raise DataError(
                f"{line[:40]!r} does not belong in an ARFF header. A line starts with @relation, @attribute or @data.",
                where=where,
            )
    if not in_data:
        raise DataError("has no @data line: it is cut, or not an ARFF file. Download it again.", where=path)
    return Arff(tuple(types), rows, places, {name: tuple(kind) for name, kind in types.items() if isinstance(kind, dict)})


def _parse_attribute(text: str, where: str) -> tuple[str, str | dict[str, None]]:
    """Read the name and the type of `'a name' numeric` or `colour {red, 'dark blue'}`; the type of a nominal attribute is its classes."""
    match = TOKEN.match(text)
    if match is None:
        raise DataError("@attribute needs a name and a type. Put a name that contains a space in quotes.", where=where)
    name, kind = _unquote(match), text[match.end() :].strip()
    if kind.startswith("{"):
        if not kind.endswith("}"):
            raise DataError(f"the classes of {name!r} lack the closing '}}'.", where=where)
        classes = [value for value in _split_fields(kind[1:-1], where) if value is not None]
        if not classes or len(set(classes)) < len(classes):
            raise DataError(f"the attribute {name!r} {'has a class twice' if classes else 'has no classes'}.", where=where)
        return name, dict.fromkeys(classes)
    plain = kind.split(maxsplit=1)[0].lower() if kind else ""
    if plain not in NUMBERS | TEXTS:
        known = ", ".join(sorted(NUMBERS | TEXTS))
        raise DataError(
            f"the attribute {name!r} has the type {kind[:40]!r}. Supported types are {known} and {{classes}}.", where=where
        )
    return name, "number" if plain in NUMBERS else "text"


def _parse_row(line: str, types: dict[str, str | dict[str, None]], where: str) -> dict[str, Any]:
    if line.startswith("{"):
        raise DataError("a sparse row ('{index value, ...}') is not supported. Save the file as dense ARFF.", where=where)
    cells = _split_fields(line, where)
    if len(cells) != len(types):
        raise DataError(
            f"{len(cells)} values for {len(types)} attributes. Put a text that contains a comma in quotes.", where=where
        )
    return {name: _parse_value(cell, kind, name, where) for (name, kind), cell in zip(types.items(), cells, strict=True)}


def _parse_value(cell: str | None, kind: str | dict[str, None], name: str, where: str) -> Any:
    if cell is None or kind == "text":
        return cell
    if isinstance(kind, dict):
        if cell not in kind:
            shown = ", ".join(list(kind)[:10]) + (", …" if len(kind) > 10 else "")
            raise DataError(f"{cell[:60]!r} is not a class of {name!r}, which has {shown}.", where=where)
        return cell
    try:
        number = float(cell)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(
            f"{name!r} contains {cell[:60]!r}, which is not a number. Write a number, or ? if it is not known.", where=where
        )
    return number


def _split_fields(line: str, where: str) -> list[str | None]:
    """Split a line into its values; a bare question mark is None."""
    cells: list[str | None] = []
    at = 0
    while True:
        match = FIELD.match(line, at)
        if match is None:
            raise DataError(
                f"broken after {len(cells)} values, at {line[at : at + 40]!r}: a quote is not closed, or text follows it. "
                "Write a backslash before a quote inside a quoted value.",
                where=where,
            )
        bare = (match[3] or "").strip()
        quoted = match[1] is not None or match[2] is not None
        if not quoted and not bare:
            raise DataError(f"value {len(cells) + 1} is empty. Write ? for a missing value, '' for an empty text.", where=where)
        cells.append(_unquote(match) if quoted else None if bare == "?" else bare)
        if not match[4]:
            return cells
        at = match.end()


def _unquote(match: re.Match[str]) -> str:
    inside = match[1] if match[1] is not None else match[2]
    if inside is None:
        return match[3].strip()
    return re.sub(r"\\(.)", lambda m: ESCAPES.get(m[1], m[1]), inside)
