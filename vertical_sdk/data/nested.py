"""JSON: find the list of rows in a document, and write nested objects as columns with dotted names.

`{"id": 1, "contract": {"parties": [{"name": "A"}, {"name": "B"}]}}` has the columns `id`, `contract.parties.0.name` and
`contract.parties.1.name`. Lists of texts or numbers stay lists, for multilabel, and so do conversations: lists of objects with a
role.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vertical_sdk.data.encodings import encoding_title
from vertical_sdk.data.rows import FileOptions, Rows, check_columns, read_lines, take_parts
from vertical_sdk.errors import DataError, did_you_mean

__all__ = ["flatten_parts", "flatten_rows", "iterate_json_lines", "parse_json", "read_json"]

JSON_LIMIT = 512 << 20
COLUMN_LIMIT = 2000
SHOWN = 10


class _KeyTwice(ValueError):
    """A key is written twice in one object."""


def iterate_json_lines(path: Path, encoding: str, options: FileOptions, size: int | None) -> Iterator[Rows]:
    """Read the objects of a JSONL file as they are, not flattened, in parts of so many; None: in one part.

    The columns of a part are those of its own rows. Raises DataError as `read_json` does.
    """
    named, details = _describe("JSONL", encoding, options)

    def read() -> Iterator[tuple[int, dict[str, Any]]]:
        for number, line in read_lines(path, encoding):
            if line.strip():
                value = _require_object(parse_json(line, f"{path}:{number}"), f"{path}:{number}")
                for row in _expand([value], options.rows, path) if options.rows else [value]:
                    yield number, row

    for part in take_parts(read(), size):
        rows = [row for _, row in part]
        _refuse_wrong_path(rows, options.rows, path, ())
        yield Rows(path, named, _list_columns(rows, options, path), rows, [number for number, _ in part], details=details)


def read_json(path: Path, encoding: str, options: FileOptions) -> Rows:
    """Read the objects of a JSON file as they are, not flattened.

    Raises DataError for a file that is not JSON, has a key twice in an object, or has several lists that could be the rows.
    """
    named, details = _describe("JSON", encoding, options)
    if path.stat().st_size > JSON_LIMIT:
        raise DataError(f"one JSON value of over {JSON_LIMIT >> 20} MB. Write JSONL, with one object on each line.", where=path)
    whole = parse_json(path.read_text(encoding=encoding), str(path))
    if options.rows:
        rows = list(_expand([whole] if isinstance(whole, dict) else whole, options.rows, path))
        _refuse_wrong_path(rows, options.rows, path, [name for name, _ in _find_lists(whole, 6)])
    else:
        name, items = _find_rows(whole, path)
        rows = [_require_object(row, f"{path}: row {number}") for number, row in enumerate(items, 1)]
        details |= {"list": name} if name else {}
    columns = _list_columns(rows, options, path)
    return Rows(path, named, columns, rows, list(range(1, len(rows) + 1)), unit="row", details=details)


def _describe(kind: str, encoding: str, options: FileOptions) -> tuple[str, dict[str, str]]:
    """The format for people, and what was found out about the file."""
    title = encoding_title(encoding)
    details = {"encoding": title} | ({"list": options.rows} if options.rows else {})
    return kind if title == "UTF-8" else f"{kind}, {title}", details


def parse_json(text: str, where: str) -> Any:
    """Parse a JSON text.

    Raises DataError, with line and column, for a text that is not JSON, and for an object with a key twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_build_object)
    except json.JSONDecodeError as error:
        line = f" line {error.lineno}" if error.lineno > 1 else ""
        raise DataError(f"not JSON: {error.msg}.", where=f"{where}:{line} column {error.colno}") from None
    except RecursionError:
        raise DataError("JSON nested too deep.", where=where) from None
    except _KeyTwice as error:
        raise DataError(f"an object has the key {error} twice. Remove one of the two.", where=where) from None
    except ValueError as error:
        raise DataError(f"JSON that cannot be read: {error}.", where=where) from None


def flatten_rows(rows: Rows) -> Rows:
    """Write nested objects as columns with dotted names.

    Raises DataError for two columns of one name, and for more columns than a table has.
    """
    if not _is_nested(rows):
        return rows
    flat = _flatten_cells(rows)
    names = tuple(dict.fromkeys(name for row in flat for name in row))
    columns = _choose_columns(names, {name for row in flat for name, value in row.items() if value is not None}, rows.path)
    return replace(rows, columns=columns, rows=_keep_columns(flat, columns))


def flatten_parts(parts: Callable[[], Iterable[Rows]], options: FileOptions) -> Iterator[Rows]:
    """Write nested objects of a file in parts as `flatten_rows` does; each part gets the columns of the whole file.

    parts  reads the file; it is called twice, first for the columns
    """
    names, filled, nested = dict[str, None](), set[str](), False
    path = Path()
    for part in parts():
        path, nested = part.path, nested or _is_nested(part)
        for row in _flatten_cells(part):
            names |= dict.fromkeys(row)
            filled.update(name for name, value in row.items() if value is not None)
    check_columns(len(names), options, path)
    columns = _choose_columns(tuple(names), filled, path) if nested else tuple(names)
    for part in parts():
        yield replace(part, columns=columns, rows=_keep_columns(_flatten_cells(part), columns))


def _is_nested(rows: Rows) -> bool:
    return any(isinstance(value, Mapping) or _is_list_of_objects(value) for row in rows.rows for value in row.values())


def _flatten_cells(rows: Rows) -> list[dict[str, Any]]:
    """The cells of each row by dotted names. Raises DataError for two of one name."""
    flat = []
    for index, row in enumerate(rows.rows):
        cells: dict[str, Any] = {}
        for name, value in _flatten(row, ""):
            if name in cells:
                raise DataError(f"two values for the column {name!r}. Rename one of the keys.", where=rows.at(index))
            cells[name] = value
        flat.append(cells)
    return flat


def _choose_columns(names: Sequence[str], filled: Collection[str], path: Path) -> tuple[str, ...]:
    """The columns of flattened rows: all names but those of objects, which have no values of their own."""
    if len(names) > COLUMN_LIMIT:
        raise DataError(
            f"the objects have {len(names):,} different values. Set data.reader.rows to the list whose items are the rows.",
            where=path,
        )
    parents = {name.rsplit(".", n)[0] for name in names for n in range(1, name.count(".") + 1)}
    return tuple(name for name in names if name in filled or name not in parents)


def _keep_columns(rows: Iterable[Mapping[str, Any]], columns: Collection[str]) -> list[dict[str, Any]]:
    kept = frozenset(columns)
    return [{name: value for name, value in row.items() if name in kept} for row in rows]


def _build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    built = dict(pairs)
    if len(built) < len(pairs):
        names = [name for name, _ in pairs]
        raise _KeyTwice(repr(next(name for name in names if names.count(name) > 1)))
    return built


def _flatten(value: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping) and item:
            yield from _flatten(item, f"{name}.")
        elif _is_list_of_objects(item):
            yield from _flatten({str(number): part for number, part in enumerate(item)}, f"{name}.")
        else:
            yield name, None if isinstance(item, Mapping) else item


def _is_list_of_objects(value: Any) -> bool:
    """Whether a value is a list of objects other than the turns of a conversation."""
    if not isinstance(value, list) or not value or not all(isinstance(item, Mapping) for item in value):
        return False
    return not all("role" in item or "from" in item for item in value)


def _find_rows(whole: Any, path: Path) -> tuple[str, list[Any]]:
    """Find the rows of a document: the document itself, or the only list in it, with its name."""
    if isinstance(whole, list):
        return "", whole
    if not isinstance(whole, dict):
        raise DataError(f"contains a {type(whole).__name__}. Write a list of objects.", where=path)
    top = [(name, value) for name, value in whole.items() if _is_list_of_objects(value)]
    if not top:
        top = [(name, value) for name, value in whole.items() if isinstance(value, list) and not _is_conversation(value)]
        top = top if len(top) == 1 else []
    if len(top) == 1:
        return top[0]
    if len(top) > 1:
        names = ", ".join(map(repr, [name for name, _ in top][:SHOWN]))
        raise DataError(f"the lists {names} could all be the rows. Set data.reader.rows to one of them.", where=path)
    _refuse_columns(whole, path)
    below = [name for name, _ in _find_lists(whole, 4)]
    if below and sum(not isinstance(value, Mapping) for value in whole.values()) < 2:
        names = " or ".join(map(repr, below[:SHOWN]))
        raise DataError(
            f"the rows seem to be in {names}. Set data.reader.rows to the list whose items are the rows.", where=path
        )
    return "", [whole]


def _is_conversation(value: list[Any]) -> bool:
    return bool(value) and all(isinstance(item, Mapping) for item in value) and not _is_list_of_objects(value)


def _refuse_columns(whole: Mapping[str, Any], path: Path) -> None:
    """Refuse a document that is written column by column, as pandas does by default."""
    values = list(whole.values())
    lists = (
        all(isinstance(value, list) for value in values) and len({len(value) for value in values}) == 1 and len(values[0]) > 1
    )
    numbered = all(isinstance(value, Mapping) and value and all(key.isdigit() for key in value) for value in values)
    if len(values) > 1 and (lists or numbered):
        raise DataError(
            "the file is written column by column. Write a list of objects, one for each row: in pandas, "
            "to_json(path, orient='records').",
            where=path,
        )


def _find_lists(value: Any, depth: int, name: str = "") -> Iterator[tuple[str, list[Any]]]:
    """Find lists of objects in a document, through objects and lists, with their dotted paths."""
    if isinstance(value, Mapping) and depth:
        for key, item in value.items():
            yield from _find_lists(item, depth - 1, f"{name}.{key}" if name else key)
    elif _is_list_of_objects(value):
        if name:
            yield name, value
        if depth:
            yield from _find_lists(value[0], depth - 1, name)


def _expand(value: Any, rows: str, path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects at a dotted path. The objects above each, if they are items of a list, give it their own values."""
    for row, above in _walk(value, rows.split("."), "", {}):
        if not isinstance(row, Mapping):
            raise DataError(f"{rows!r} contains a {type(row).__name__}. Name a list of objects.", where=path)
        twice = sorted(set(row) & set(above))
        if twice:
            raise DataError(f"two values for the column {twice[0]!r}. Rename one of the keys.", where=path)
        yield {**above, **row}


def _walk(value: Any, steps: Sequence[str], name: str, above: Mapping[str, Any]) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Follow the steps. `above` maps the dotted names of values around the row; those of a list of rows begin with "parent"."""
    if isinstance(value, list):
        for item in value:
            own = {}
            if isinstance(item, Mapping) and steps:
                rest = {key: part for key, part in item.items() if key != steps[0] and not _is_list_of_objects(part)}
                own = dict(_flatten(rest, f"{name or 'parent'}."))
            yield from _walk(item, steps, name, {**above, **own})
    elif not steps:
        yield value, dict(above)
    elif isinstance(value, Mapping) and value.get(steps[0]) is not None:
        yield from _walk(value[steps[0]], steps[1:], f"{name}.{steps[0]}" if name else steps[0], above)


def _refuse_wrong_path(rows: Sequence[Any], wanted: str | None, path: Path, lists: Sequence[str]) -> None:
    if wanted and not rows:
        known = list(dict.fromkeys(lists))
        hint = f" Lists of objects are in {', '.join(map(repr, known[:SHOWN]))}." if known else ""
        raise DataError(f"no rows at {wanted!r}.{did_you_mean(wanted, known)}{hint}", where=path)


def _require_object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"contains a {type(value).__name__}. Write an object with the columns as keys.", where=where)
    return value


def _list_columns(rows: Sequence[Mapping[str, Any]], options: FileOptions, path: Path) -> tuple[str, ...]:
    columns = tuple(dict.fromkeys(key for row in rows for key in row))
    check_columns(len(columns), options, path)
    return columns
