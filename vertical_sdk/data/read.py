"""Readers: a fetched file or folder into examples.

Every reader is `reader(path, columns, task, *, ...) -> Table`. The general one, "table", reads CSV, TSV, JSONL, JSON and
Parquet; a vertical's own reader stands in its `data.py`.
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
from vertical_sdk.data.formats import SUFFIXES, Rows, read_file
from vertical_sdk.data.layouts import KEYS, LABELS, Layout, cell, find_layout
from vertical_sdk.data.numbers import number_in, numbers_in
from vertical_sdk.data.records import as_cell, with_record
from vertical_sdk.errors import DataError, RecipeError, did_you_mean
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, SeriesLayout, Split, Target, Task

__all__ = ["Missing", "Table", "join_tables", "number_in", "read_table", "table"]

OneCharacter: TypeAlias = Annotated[str | None, Field(min_length=1, max_length=1)]
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
    """What a reader found.

    examples      rows in the order of the source
    detected      which format and columns were taken, for people
    descriptions  label → a sentence; words: label → what a causal model answers; parents: label → what it is a kind of
    labels        all labels in order, where the source knows them
    license       SPDX name, where the source says it
    account       rows that the source has against rows read; all of them where it is None
    layout         what the channels of series are, for forecasting and anomaly
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
def table(
    path: Path,
    columns: Mapping[str, str],
    task: Task,
    *,
    separator: str | None = None,
    delimiter: OneCharacter = None,
    record: Literal["all"] | dict[str, str] | None = None,
    values: Literal["all"] | list[str] | None = None,
) -> Table:
    """Read a file of rows, or a folder with one file or one for each split.

    columns    our key (text, label, id, group, time, split, messages) → the file's column; "a + b" joins two columns' texts
    separator  between the labels of a multilabel cell; ';' and '|' where None. A JSON list is understood too.
    delimiter  between the fields of a CSV; taken from its header where None
    record     the row is a record, and its text is written from these columns: column → what it is called there, or "all" that
               no key of `columns` names, as they are called
    values     the row is numbers, such as a signal of so many steps: these columns in order, or "all" that no key of `columns` names.
               An empty cell counts as not measured. For data.modality: series

    Rows without a label are dropped and counted. Raises DataError that names file and line.
    """
    if not path.is_dir():
        return read_table(path, columns, task, separator=separator, delimiter=delimiter, record=record, values=values)
    files = _data_files(path)
    if len(files) == 1:
        return read_table(files[0], columns, task, separator=separator, delimiter=delimiter, record=record, values=values)
    by_split: dict[Split, list[Table]] = {}
    for file in files:
        found = _split_of(file)
        if found is None:
            names = ", ".join(f.relative_to(path).as_posix() for f in files[:20])
            raise DataError(
                f"{path}: has several files and {file.name!r} is no split's name. Set data.file to one of: {names}."
            )
        part = read_table(file, columns, task, separator=separator, delimiter=delimiter, record=record, values=values)
        if len([f for f in files if _split_of(f) == found]) > 1:
            part = replace(part, examples=tuple(replace(e, id=f"{file.stem}:{e.id}") for e in part.examples))
        by_split.setdefault(found, []).append(part)
    return join_tables({split: _joined(parts) for split, parts in by_split.items()})


def read_table(
    path: Path,
    columns: Mapping[str, str],
    task: Task,
    *,
    separator: str | None = None,
    delimiter: str | None = None,
    record: Literal["all"] | Mapping[str, str] | None = None,
    values: Literal["all"] | Sequence[str] | None = None,
    missing: Missing = "drop",
) -> Table:
    """One file; `missing` says what becomes of a row without text or label: dropped, refused, or kept as it is."""
    rows = read_file(path, delimiter=delimiter)
    if record and values:
        raise RecipeError("data.reader: record and values: a row is a record or a row of numbers, not both.")
    taken = _taken(rows, columns, task, "record", record) if record else _taken(rows, columns, task, "values", values)
    told = {**columns, "text": taken[0]} if taken else columns
    layout = find_layout(rows, told, task, need_label=missing != "keep")
    names = dict(record) if isinstance(record, Mapping) else {}
    numbers = numbers_in(rows, taken) if values else None
    if taken:
        what = f"a record of {len(taken)} fields" if record else f"rows of {len(taken)} numbers"
        layout = replace(layout, said=f"{rows.format}, {what}, label from {layout.columns.get('label')!r}")
    tally = Tally("read")
    examples: list[Example] = []
    ids: dict[str, int] = {}
    for index, row in enumerate(rows.rows):
        example = _example(rows, layout, index, row, task, separator)
        if numbers is not None:
            example = replace(example, text="", values=numbers[index])
        elif taken:
            example = with_record(example, {names.get(column, column): as_cell(row.get(column)) for column in taken})
        if example.id in ids:
            raise DataError(
                f"{rows.at(index)}: the id {example.id!r} stands already on {rows.unit} {rows.places[ids[example.id]]}."
            )
        ids[example.id] = index
        lacks = _lacks(example, task)
        if lacks and missing == "refuse":
            raise DataError(f"{rows.at(index)}: {lacks}. Here every row needs both text and label.")
        if lacks and missing == "drop":
            tally.drop(example.id, lacks)
        else:
            examples.append(example)
    account = tally.close(len(rows.rows), len(examples))
    if not examples:
        raise DataError(
            f"{path}: none of its {len(rows.rows)} rows can be used: {dict(account.dropped)}. Read was {layout.said}."
        )
    labels = rows.names.get(layout.columns.get("label", ""))
    return Table(tuple(examples), layout.said, labels=labels, account=account)


def join_tables(parts: Mapping[Split, Table]) -> Table:
    """One table from one for each split; ids get the split's name in front."""
    examples = tuple(replace(e, id=f"{split}:{e.id}", split=split) for split, part in parts.items() for e in part.examples)
    named = {split: replace(part, account=_renamed(part, split)) for split, part in parts.items()}
    whole = _joined(list(named.values()))
    said = "; ".join(f"{split}: {part.detected}" for split, part in parts.items())
    return replace(whole, examples=examples, detected=said)


def _renamed(part: Table, split: str) -> StepAccount | None:
    if part.account is None:
        return None
    return replace(part.account, rows={why: tuple(f"{split}:{row}" for row in ids) for why, ids in part.account.rows.items()})


def _joined(parts: list[Table]) -> Table:
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


def _data_files(folder: Path) -> list[Path]:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    if not files:
        raise DataError(f"{folder}: has no file to read; readable are {', '.join(SUFFIXES)}. Or set data.reader.")
    if len(files) > 1 and any(_split_of(file) for file in files):
        return [
            file for file in files if _split_of(file) or file.suffix.lower() != ".json"
        ]  # dataset_info.json beside the data
    return files


def _split_of(file: Path) -> Split | None:
    """`validation.parquet`, `test-00000-of-00002.parquet` and `dialogue_train.csv` say what they are."""
    words = [word for word in re.split(r"[^a-z]+", file.stem.lower()) if word]
    found = {SPLITS[word] for word in words if word in SPLITS}
    return found.pop() if len(found) == 1 else None


def _example(rows: Rows, layout: Layout, index: int, row: Mapping[str, Any], task: Task, separator: str | None) -> Example:
    columns = layout.columns
    where = rows.at(index)
    own = columns.get("id")
    name = _plain(row.get(own), where, own) if own else None
    example = Example(
        id=name or str(rows.places[index]),
        record_id=name,
        group=_plain(row.get(columns["group"]), where, columns["group"]) if "group" in columns else None,
        time=_time(row.get(columns["time"]), where) if "time" in columns else None,
        split=_split(row.get(columns["split"]), where) if "split" in columns else None,
    )
    if layout.messages:
        try:
            return replace(example, messages=layout.messages(row))
        except ValueError as error:
            raise DataError(f"{where}: {error}.") from None
    text = _plain(cell(row, columns["text"]), where, columns["text"]) or ""
    if "label" not in columns:
        return replace(example, text=text)
    column = columns["label"]
    return replace(example, text=text, target=_target(row.get(column), where, column, task, separator, rows.names.get(column)))


def _taken(
    rows: Rows, columns: Mapping[str, str], task: Task, key: str, chosen: Literal["all"] | Iterable[str] | None
) -> list[str]:
    """The columns that `record` or `values` takes; none where there is no such key.

    Raises RecipeError for a conversation, DataError for a column that is missing.
    """
    if not chosen:
        return []
    if get_task(task).written:
        raise RecipeError(f"data.reader.{key}: is for labels and numbers, not for generation.")
    if chosen == "all":
        usual = {"label": LABELS, "id": ("id",)}
        keys = {columns.get(key) or next((c for c in rows.columns if c.lower() in usual.get(key, ())), None) for key in KEYS}
        return [column for column in rows.columns if column not in keys]
    for column in chosen:
        if column not in rows.columns:
            raise DataError(
                f"{rows.path}: data.reader.{key}: no column {column!r}.{did_you_mean(column, rows.columns)} "
                f"The columns are {', '.join(map(repr, rows.columns))}."
            )
    return list(chosen)


def _lacks(example: Example, task: Task) -> str | None:
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


def _plain(value: Any, where: str, column: str | None) -> str | None:
    """A cell as text; None for nothing and for a number that is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, (dict, list, tuple, bytes)):
        raise DataError(f"{where}: column {column!r} holds a {type(value).__name__}; a text is needed.")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value)
    return text if text.strip() else None


def _target(value: Any, where: str, column: str, task: Task, separator: str | None, names: tuple[str, ...] | None) -> Target:
    if names and isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    if get_task(task).labelled and not get_task(task).single_label:
        return _labels(value, where, column, separator)
    text = _plain(value, where, column)
    text = None if text is None or text.strip().lower() == "nan" else text.strip()
    if text is None or not get_task(task).numeric:
        return text
    return number_in(text, where, column)


def _labels(value: Any, where: str, column: str, separator: str | None) -> tuple[str, ...]:
    """The labels of a cell, each once; an empty cell has none, and that is an answer."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            raise DataError(f"{where}: column {column!r} begins like a JSON list but is none: {value[:60]!r}.") from None
    if isinstance(value, (list, tuple)):
        parts = [_plain(part, where, column) or "" for part in value]
    else:
        text = _plain(value, where, column) or ""
        parts = text.split(separator) if separator else re.split(r"[;|]", text)
    return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))


def _time(value: Any, where: str) -> str | None:
    """A time as a string that sorts: ISO 8601 in UTC, or a number padded with zeros."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, datetime):
        return _utc(value)
    if isinstance(value, date):
        return value.isoformat()
    text = str(value).strip()
    if ISO_TIME.match(text):
        try:
            return _utc(datetime.fromisoformat(text.replace("Z", "+00:00"))) if len(text) > 10 else text
        except ValueError:
            raise DataError(f"{where}: the time {text!r} is no ISO 8601.") from None
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e15:
        raise DataError(
            f"{where}: the time {text!r} is neither ISO 8601 (2026-03-04T10:00) nor a number from 0, so it does not sort."
        )
    return f"{number:022.6f}"


def _utc(moment: datetime) -> str:
    if moment.tzinfo is not None:
        moment = moment.astimezone(timezone.utc).replace(tzinfo=None)
    return moment.isoformat()


def _split(value: Any, where: str) -> Split | None:
    if value is None or not str(value).strip():
        return None
    name = str(value).strip().lower()
    if name not in SPLITS:
        raise DataError(f"{where}: {value!r} is no split; known are {', '.join(SPLITS)}.")
    return SPLITS[name]
