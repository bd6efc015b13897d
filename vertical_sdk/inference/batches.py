"""Many inputs in the order of their rows: what a user may give to `predict`, `predict_iter`, `predict_proba` and `generate`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeGuard

import numpy as np

from vertical_sdk.errors import DataError

__all__ = ["TableRow", "check_count", "describe", "iterate_inputs", "list_inputs", "list_names"]

ROWS = 1024
"""Rows of a DataFrame that become TableRows at a time."""
TEXTS = frozenset("OTU")
"""Kinds of numpy arrays whose items are Python objects or texts."""


class TableRow(dict[str, Any]):
    """A row of a table: column → value. As in a file, it may have columns that the specialist does not read.

    index  the values of a DataFrame's index by their names, which are read only for a column that the table lacks
    """

    index: Mapping[str, Any] = MappingProxyType({})


def list_inputs(given: object, call: str, *, reads: str = "texts", one: str = "text", tables: bool = False) -> list[Any]:
    """List the inputs of a call in the order in which they were given.

    given   a list, tuple or other sequence; a pandas Series or Index, by position and not by its labels; a numpy array of texts;
            an Arrow array; a column of `datasets`; an iterator; or a table (a DataFrame, an Arrow table or a data set), whose rows
            become TableRows
    call    the method that was called, for messages
    reads   what its specialists read: "texts", "records", "series", "pictures" or "prompts"
    one     how one input is called in a message
    tables  whether its specialists read the columns of a table

    Raises DataError for anything else: one input that is not in a list, a set, which has no order, or a table for a specialist that
    reads no columns.
    """
    return list(iterate_inputs(given, call, reads=reads, one=one, tables=tables))


def iterate_inputs(given: object, call: str, *, reads: str = "texts", one: str = "text", tables: bool = False) -> Iterator[Any]:
    """Iterate over the inputs of a call; the arguments and errors are those of `list_inputs`.

    An iterator and the rows of a table are read as they are needed. Errors are raised at once.
    """
    table = _as_table(given)
    if table is not None:
        names, rows = table
        return _iterate_rows(names, rows, call, "" if tables else reads)
    if isinstance(given, np.ndarray):
        if given.ndim == 1 and given.dtype.kind in TEXTS:
            return iter(given.tolist())
        raise DataError(
            f"{call} takes a list of {reads}, not {describe(given)}. Write {call}(list(array)) if each of its rows is one input, "
            f"{call}([array]) if all of it is one."
        )
    if isinstance(given, Set):
        raise DataError(f"{call} takes a list of {reads}, not a {type(given).__name__}, which has no order. Write a list.")
    if isinstance(given, str | bytes | bytearray | memoryview | Path | Mapping) or not _is_iterable(given):
        raise DataError(f"{call} takes a list of {reads}, not {describe(given)}; for one {one} write {call}([{one}]).")
    listed = getattr(given, "to_pylist", None) or getattr(given, "tolist", None)  # Arrow; pandas
    return iter(listed() if listed is not None and _library(given) in {"pandas", "pyarrow"} else given)


def list_names(adapters: object) -> str | list[str]:
    """Return the one name for all inputs, or list a name for each, given in whatever `list_inputs` accepts.

    Raises DataError for anything that is not a name.
    """
    if isinstance(adapters, str):
        return adapters
    if adapters is None or isinstance(adapters, Mapping | Set) or not isinstance(adapters, Iterable):
        raise DataError(f"adapters = {describe(adapters)} is wrong: give one name for all inputs, or a list with one for each.")
    names = list_inputs(adapters, "adapters", reads="names", one="name")
    for number, name in enumerate(names):
        if not isinstance(name, str):
            raise DataError(f"adapters: item {number} is {describe(name)}, which is not a name.")
    return names


def check_count(name: str, count: object, should: str) -> None:
    """Raise DataError for a setting that is neither None nor a whole number from 1."""
    if count is not None and (isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1):
        raise DataError(f"{name} = {count!r:.60} is wrong: {should}.")


def describe(item: object) -> str:
    """Name something wrong in a message: short values as they are, arrays by type and shape, anything else by its type."""
    if isinstance(item, np.ndarray):
        return f"an array of {item.dtype} {item.shape}"
    if item is None or isinstance(item, str | bytes | int | float | complex | Path):
        return f"{item!r:.200}" if not isinstance(item, int) or abs(item) < 10**40 else "a very large whole number"
    text = f"{item!r:.200}".split("\n", maxsplit=1)[0]
    return text if isinstance(item, Mapping | Set | list | tuple) else f"a {type(item).__name__}"


def _is_iterable(given: object) -> TypeGuard[Iterable[Any]]:
    """Whether it can be walked through; some objects only look so, such as the `str` of a Series."""
    try:
        iter(given)  # type: ignore[call-overload]
    except TypeError:
        return False
    return True


def _library(given: object) -> str:
    return type(given).__module__.partition(".")[0]


def _as_table(given: object) -> tuple[list[object], Callable[[], Iterable[Any]]] | None:
    """The names of a table's columns and a function that reads its rows; None if it is not a table."""
    pandas, pyarrow, datasets = (sys.modules.get(name) for name in ("pandas", "pyarrow", "datasets"))
    if pandas is not None and isinstance(given, pandas.DataFrame):
        return list(given.columns), lambda: _iterate_frame(given)
    if pyarrow is not None and isinstance(given, pyarrow.Table | pyarrow.RecordBatch):
        return list(given.schema.names), given.to_pylist
    if datasets is not None and isinstance(given, datasets.Dataset | datasets.IterableDataset):
        return list(given.column_names or ()), lambda: given
    if _library(given) == "polars" and hasattr(given, "to_dicts"):
        return list(given.columns), given.to_dicts  # type: ignore[attr-defined]
    return None


def _iterate_rows(names: list[object], rows: Callable[[], Iterable[Any]], call: str, other: str) -> Iterator[TableRow]:
    """The rows of a table. `other` is what the specialists read if they read no columns."""
    if other:
        shown = ", ".join(map(str, names[:10])) + (", …" if len(names) > 10 else "")
        column = f"table[{names[0]!r}]" if names else "table[column]"
        array = other == "series"
        what = f"one array for each row: {call}(list(table.to_numpy()))" if array else f"one column: {call}({column})"
        raise DataError(f"{call} takes a list of {other}, not a table with the columns {shown}. Give {what}.")
    odd = next((name for name in names if not isinstance(name, str) or names.count(name) > 1), None)
    if odd is not None:
        problem = "twice" if isinstance(odd, str) else "whose name is not a text"
        raise DataError(f"{call} was given a table with the column {odd!r} {problem}. Rename it.")
    return (row if isinstance(row, TableRow) else TableRow(row) for row in rows())


def _iterate_frame(frame: Any) -> Iterator[TableRow]:
    """The rows of a DataFrame with their index, as far as it has names: a column is often moved there."""
    for start in range(0, len(frame), ROWS):
        part = frame.iloc[start : start + ROWS]
        levels = {
            name: part.index.get_level_values(level).tolist()
            for level, name in enumerate(part.index.names)
            if isinstance(name, str)
        }
        for place, cells in enumerate(part.to_dict("records")):
            row = TableRow(cells)
            row.index = {name: values[place] for name, values in levels.items()}
            yield row
