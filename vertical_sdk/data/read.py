"""Readers: turn a downloaded file or folder into examples.

Every reader is `reader(path, columns, task, *, ...) -> Table`. The general reader "table" reads CSV, TSV, JSONL, JSON, Excel,
Parquet and ARFF. The readers of a vertical are in its `data.py`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from pydantic import Field

from vertical_sdk.catalog import readers
from vertical_sdk.data.account import StepAccount, Tally
from vertical_sdk.data.formats import SUFFIXES, FileOptions, Rows, read_columns
from vertical_sdk.data.layouts import KEYS, LABELS, Layout, cell, find_layout
from vertical_sdk.data.numbers import parse_number, parse_numbers
from vertical_sdk.data.records import parse_cell, set_record
from vertical_sdk.errors import DataError, RecipeError, did_you_mean
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, SeriesLayout, Split, Target, TaskName

__all__ = ["Header", "Missing", "OneCharacter", "Table", "join_tables", "parse_number", "read_table", "table"]

OneCharacter: TypeAlias = Annotated[str | None, Field(min_length=1, max_length=1)]
Header: TypeAlias = Annotated[int, Field(ge=1)] | Literal["none"] | None
Missing: TypeAlias = Literal["drop", "refuse", "keep"]
SPLITS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "eval": "validation",
    "test": "test",
}
ISO_TIME = re.compile(r"\d{4}(-\d\d){0,2}$|\d{4}-\d\d-\d\d[T ]\d\d")


@dataclass(frozen=True)
class Table:
    """The result of a reader.

    examples      rows in the order of the source
    detected      the format and the columns, for people
    descriptions  label → a sentence; words: label → the answer of a causal model; parents: label → the label that it is a kind of
    labels        all labels in order; None if the source does not list them
    license       SPDX name; None if the source does not state one
    account       rows of the source and rows read; None means that all were read
    layout        the channels and steps of series, for forecasting and anomaly
    """

    examples: tuple[Example, ...]
    detected: str
    descriptions: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    parents: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] | None = None
    license: str | None = None
    account: StepAccount | None = None
    layout: SeriesLayout | None = None


@readers.register("table")
def table(  # noqa: PLR0913  (keyword options, which a recipe sets)
    path: Path,
    columns: Mapping[str, str],
    task: TaskName,
    missing: Missing = "drop",
    *,
    separator: str | None = None,
    delimiter: OneCharacter = None,
    encoding: str | None = None,
    header: Header = None,
    sheet: str | None = None,
    rows: str | None = None,
    record: Literal["all"] | dict[str, str] | None = None,
    values: Literal["all"] | list[str] | None = None,
) -> Table:
    """Read a file of rows, or a folder with one file or with one for each split.

    columns    our key (text, label, id, group, time, split, messages) → the column of the file; "a + b" joins the texts of two
    missing    what to do with a row without text or label: "drop" it, "refuse" the file, or "keep" the row
    separator  between the labels of a multilabel cell; None means ';' and '|'. A JSON list is read too.
    delimiter  between the fields of a CSV; None means that the header shows it
    encoding   of a text file, such as gb18030; None means that it is recognized, and refused if it is not certain
    header     the line of the header, from 1, in a CSV or a sheet; none if the first line is a row: the columns are then called
               column_1, column_2, ...
    sheet      of an Excel file; None means its only one with cells
    rows       the list of rows inside a JSON file: names, joined by dots. The objects above give each row their values
    record     the row is a record, and its text is written from these columns: column → its name in the text, or "all" columns
               that `columns` does not name, with their own names
    values     the row is numbers, such as a signal of a fixed number of steps: these columns in order, or "all" columns that
               `columns` does not name. An empty cell counts as not measured. For data.modality: series

    Rows without a label are dropped and counted. Raises DataError with file and line.
    """
    file_options = FileOptions(delimiter=delimiter, encoding=encoding, header=header, sheet=sheet, rows=rows)
    options: dict[str, Any] = {
        "separator": separator,
        "file_options": file_options,
        "record": record,
        "values": values,
        "missing": missing,
    }
    if not path.is_dir():
        return read_table(path, columns, task, **options)
    files = _list_data_files(path)
    if len(files) == 1:
        return read_table(files[0], columns, task, **options)
    by_split: dict[Split, list[Table]] = {}
    for file in files:
        split = _find_split(file)
        if split is None:
            names = ", ".join(f.relative_to(path).as_posix() for f in files[:20])
            raise DataError(
                f"the folder has several files, and {file.name!r} is not the name of a split. Set data.file to one of: {names}.",
                where=path,
            )
        part = read_table(file, columns, task, **options)
        if len([f for f in files if _find_split(f) == split]) > 1:
            part = replace(part, examples=tuple(replace(e, id=f"{file.stem}:{e.id}") for e in part.examples))
        by_split.setdefault(split, []).append(part)
    return join_tables({split: _join_parts(parts) for split, parts in by_split.items()})


def read_table(
    path: Path,
    columns: Mapping[str, str],
    task: TaskName,
    *,
    separator: str | None = None,
    file_options: FileOptions | None = None,
    record: Literal["all"] | Mapping[str, str] | None = None,
    values: Literal["all"] | Sequence[str] | None = None,
    missing: Missing = "drop",
) -> Table:
    """Read one file.

    missing  what to do with a row without text or label: "drop" it, "refuse" the file, or "keep" the row
    """
    rows = read_columns(path, file_options)
    if record and values:
        raise RecipeError("record and values cannot both be set: a row is a record or a row of numbers.", where="data.reader")
    taken = (
        _choose_columns(rows, columns, task, "record", record)
        if record
        else _choose_columns(rows, columns, task, "values", values)
    )
    known = {**columns, "text": taken[0]} if taken else columns
    layout = find_layout(rows, known, task, need_label=missing != "keep")
    names = dict(record) if isinstance(record, Mapping) else {}
    numbers = parse_numbers(rows, taken) if values else None
    if taken:
        what = f"a record of {len(taken)} fields" if record else f"rows of {len(taken)} numbers"
        layout = replace(layout, detected=f"{rows.format}, {what}, label from {layout.columns.get('label')!r}")
    tally = Tally("read")
    examples: list[Example] = []
    ids: dict[str, int] = {}
    for index, row in enumerate(rows.rows):
        example = _build_example(rows, layout, index, row, task, separator)
        if numbers is not None:
            example = replace(example, text="", values=numbers[index])
        elif taken:
            example = set_record(example, {names.get(column, column): parse_cell(row.get(column)) for column in taken})
        if example.id in ids:
            raise DataError(
                f"the id {example.id!r} is already used on {rows.unit} {rows.places[ids[example.id]]}. Give each row its own id.",
                where=rows.at(index),
            )
        ids[example.id] = index
        problem = _find_missing_part(example, task)
        if problem and missing == "refuse":
            raise DataError(f"{problem}. Every row needs both text and label here.", where=rows.at(index))
        if problem and missing == "drop":
            tally.drop(example.id, problem)
        else:
            examples.append(example)
    account = tally.close(len(rows.rows), len(examples))
    if not examples:
        raise DataError(
            f"none of the {len(rows.rows)} rows can be used: {dict(account.dropped)}. Detected: {layout.detected}.", where=path
        )
    labels = rows.names.get(layout.columns.get("label", ""))
    return Table(tuple(examples), layout.detected, labels=labels, account=account)


def join_tables(parts: Mapping[Split, Table]) -> Table:
    """Join the tables of the splits into one. The name of the split is added to the start of each id."""
    examples = tuple(replace(e, id=f"{split}:{e.id}", split=split) for split, part in parts.items() for e in part.examples)
    named = {split: replace(part, account=_prefix_row_ids(part, split)) for split, part in parts.items()}
    whole = _join_parts(list(named.values()))
    detected = "; ".join(f"{split}: {part.detected}" for split, part in parts.items())
    return replace(whole, examples=examples, detected=detected)


def _prefix_row_ids(part: Table, split: str) -> StepAccount | None:
    if part.account is None:
        return None
    return replace(part.account, rows={why: tuple(f"{split}:{row}" for row in ids) for why, ids in part.account.rows.items()})


def _join_parts(parts: list[Table]) -> Table:
    if len(parts) == 1:
        return parts[0]
    tally = Tally("read")
    for part in parts:
        for reason in part.account.dropped if part.account else ():
            for row in part.account.rows[reason] if part.account else ():
                tally.drop(row, reason)
    examples = tuple(e for part in parts for e in part.examples)
    rows_in = sum(part.account.rows_in if part.account else len(part.examples) for part in parts)
    first = parts[0]
    return replace(
        first,
        examples=examples,
        account=tally.close(rows_in, len(examples)),
        descriptions={k: v for part in parts for k, v in part.descriptions.items()},
        words={k: v for part in parts for k, v in part.words.items()},
        parents={k: v for part in parts for k, v in part.parents.items()},
    )


def _list_data_files(folder: Path) -> list[Path]:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    if not files:
        raise DataError(
            f"no file to read. Supported endings are {', '.join(SUFFIXES)}; for other files set data.reader.", where=folder
        )
    if len(files) > 1 and any(_find_split(file) for file in files):
        return [
            file for file in files if _find_split(file) or file.suffix.lower() != ".json"
        ]  # dataset_info.json beside the data
    return files


def _find_split(file: Path) -> Split | None:
    """Find the split in a file name: `validation.parquet`, `test-00000-of-00002.parquet`, `dialogue_train.csv`."""
    words = [word for word in re.split(r"[^a-z]+", file.stem.lower()) if word]
    splits = {SPLITS[word] for word in words if word in SPLITS}
    return splits.pop() if len(splits) == 1 else None


def _build_example(
    rows: Rows, layout: Layout, index: int, row: Mapping[str, Any], task: TaskName, separator: str | None
) -> Example:
    columns = layout.columns
    where = rows.at(index)
    own = columns.get("id")
    name = _as_plain_text(row.get(own), where, own) if own else None
    example = Example(
        id=name or str(rows.places[index]),
        record_id=name,
        group=_as_plain_text(row.get(columns["group"]), where, columns["group"]) if "group" in columns else None,
        time=_parse_time(row.get(columns["time"]), where) if "time" in columns else None,
        split=_parse_split(row.get(columns["split"]), where) if "split" in columns else None,
    )
    if layout.messages:
        try:
            return replace(example, messages=layout.messages(row))
        except ValueError as error:
            raise DataError(f"{error}.", where=where) from None
    text = _as_plain_text(cell(row, columns["text"]), where, columns["text"]) or ""
    if "label" not in columns:
        return replace(example, text=text)
    column = columns["label"]
    return replace(
        example, text=text, target=_parse_target(row.get(column), where, column, task, separator, rows.names.get(column))
    )


def _choose_columns(
    rows: Rows, columns: Mapping[str, str], task: TaskName, key: str, chosen: Literal["all"] | Iterable[str] | None
) -> list[str]:
    """Choose the columns that `record` or `values` reads; [] if neither is set.

    Raises RecipeError for a task of conversations, DataError for a column that is missing.
    """
    if not chosen:
        return []
    if get_task(task).written:
        raise RecipeError(f"the task {task} reads conversations. Leave {key} out.", where=f"data.reader.{key}")
    if chosen == "all":
        common = {"label": LABELS, "id": ("id",)}
        keys = {columns.get(key) or next((c for c in rows.columns if c.lower() in common.get(key, ())), None) for key in KEYS}
        return [column for column in rows.columns if column not in keys]
    for column in chosen:
        if column not in rows.columns:
            raise DataError(
                f"data.reader.{key}: no column {column!r}.{did_you_mean(column, rows.columns)} "
                f"The columns are {', '.join(map(repr, rows.columns))}.",
                where=rows.path,
            )
    return list(chosen)


def _find_missing_part(example: Example, task: TaskName) -> str | None:
    if get_task(task).written:
        if not example.messages or not any(turn.content.strip() for turn in example.messages if turn.role == "user"):
            return "no text"
        answered = example.messages[-1].role == "assistant" and example.messages[-1].content.strip()
        return None if answered else "no answer"
    if example.values is not None:
        if not np.isfinite(example.values).any():
            return "nothing measured"
    elif not example.text.strip():
        return "no text"
    return "no label" if example.target is None else None


def _as_plain_text(value: Any, where: str, column: str | None) -> str | None:
    """Read a cell as text; None for an empty cell and for NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, (dict, list, tuple, bytes)):
        raise DataError(f"column {column!r} contains a {type(value).__name__}. Write a text.", where=where)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value)
    return text if text.strip() else None


def _parse_target(
    value: Any, where: str, column: str, task: TaskName, separator: str | None, names: tuple[str, ...] | None
) -> Target:
    if names and isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    if get_task(task).labelled and not get_task(task).single_label:
        return _parse_labels(value, where, column, separator)
    text = _as_plain_text(value, where, column)
    text = None if text is None or text.strip().lower() == "nan" else text.strip()
    if text is None or not get_task(task).numeric:
        return text
    return parse_number(text, where, column)


def _parse_labels(value: Any, where: str, column: str, separator: str | None) -> tuple[str, ...]:
    """Read the labels of a cell, each once. An empty cell is a row without any label, not an unknown target."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            raise DataError(f"column {column!r} starts like a JSON list but is not one: {value[:60]!r}.", where=where) from None
    if isinstance(value, (list, tuple)):
        parts = [_as_plain_text(part, where, column) or "" for part in value]
    else:
        text = _as_plain_text(value, where, column) or ""
        parts = text.split(separator) if separator else re.split(r"[;|]", text)
    return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))


def _parse_time(value: Any, where: str) -> str | None:
    """Read a time as a string that sorts: ISO 8601 in UTC, or a number padded with zeros."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, datetime):
        return _format_utc(value)
    if isinstance(value, date):
        return value.isoformat()
    text = str(value).strip()
    if ISO_TIME.match(text):
        try:
            return _format_utc(datetime.fromisoformat(text.replace("Z", "+00:00"))) if len(text) > 10 else text
        except ValueError:
            raise DataError(f"the time {text!r} is not ISO 8601. Write it as 2026-03-04T10:00.", where=where) from None
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e15:
        raise DataError(
            f"the time {text!r} is neither ISO 8601 (2026-03-04T10:00) nor a number from 0, so it does not sort.", where=where
        )
    return f"{number:022.6f}"


def _format_utc(moment: datetime) -> str:
    if moment.tzinfo is not None:
        moment = moment.astimezone(timezone.utc).replace(tzinfo=None)
    return moment.isoformat()


def _parse_split(value: Any, where: str) -> Split | None:
    if value is None or not str(value).strip():
        return None
    name = str(value).strip().lower()
    if name not in SPLITS:
        raise DataError(f"{value!r} is not a split. Known are {', '.join(SPLITS)}.", where=where)
    return SPLITS[name]
