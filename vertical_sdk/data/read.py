"""Readers: turn a downloaded file or folder into examples.

Every reader is `reader(path, columns, task, *, ...) -> Table`. The general reader "table" reads CSV, TSV, JSONL, JSON, Excel,
Parquet and ARFF. The readers of a vertical are in its `data.py`.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from pydantic import Field as Option

from vertical_sdk.card import Contract, Field
from vertical_sdk.catalog import readers
from vertical_sdk.cells import clean_text, is_empty, is_missing, normalize_key, plain_value, read_missing_words
from vertical_sdk.data.account import StepAccount, Tally
from vertical_sdk.data.columns import KINDS, infer_kind, parse_times
from vertical_sdk.data.formats import SUFFIXES, FileOptions, Rows, iterate_columns, read_columns
from vertical_sdk.data.layouts import (
    Layout,
    UnusableRow,
    cell,
    cell_columns,
    find_layout,
    list_used,
    numbers_rows,
    refuse_unknown_columns,
)
from vertical_sdk.data.numbers import parse_number, parse_numbers
from vertical_sdk.data.records import build_record_example
from vertical_sdk.errors import DataError, RecipeError, did_you_mean
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, SeriesLayout, Split, Target, TaskName

__all__ = [
    "ANY",
    "Header",
    "Missing",
    "OneCharacter",
    "Table",
    "find_missing_part",
    "iterate_table",
    "join_tables",
    "parse_number",
    "read_table",
    "table",
]

OneCharacter: TypeAlias = Annotated[str | None, Option(min_length=1, max_length=1)]
Header: TypeAlias = Annotated[int, Option(ge=1)] | Literal["none"] | None
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
_COMMA = re.compile(r"(?!\s*\[)[^;|]*,[^;|]*")
"""A cell of labels that has no separator but a comma."""
IN_ORDER: tuple[Split, ...] = ("train", "validation", "test")
ANY = Contract()
"""The contract of rows to train on: their columns decide what rows to predict must be like."""


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
    fields        the fields of a record, for a reader that decides their kinds; values: the columns of a row of numbers, in order
    types         column → how it was read, for people
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
    fields: tuple[Field, ...] = ()
    values: tuple[str, ...] = ()
    types: Mapping[str, str] = field(default_factory=dict)


@readers.register("table")
def table(  # noqa: PLR0913  (keyword options, which a recipe sets)
    path: Path,
    columns: Mapping[str, str],
    task: TaskName,
    missing: Missing = "drop",
    contract: Contract = ANY,
    *,
    separator: str | None = None,
    delimiter: OneCharacter = None,
    encoding: str | None = None,
    header: Header = None,
    sheet: str | None = None,
    rows: str | None = None,
    any_size: bool = False,
    record: Literal["all"] | dict[str, str] | None = None,
    values: Literal["all"] | list[str] | None = None,
    missing_words: list[str] | None = None,
) -> Table:
    """Read a file of rows, or a folder with one file or with one for each split.

    columns    our key (text, label, id, group, time, split, messages) → the column of the file; "a + b" joins the texts of two
    missing    what to do with a row without text or label: "drop" it, "refuse" the file, or "keep" the row
    contract   the labels that are declared, and the fields of rows that were read before: this file is read as they were
    separator  between the labels of a multilabel cell; None means ';' and '|'. A JSON list is read too.
    delimiter  between the fields of a CSV; None means that the header shows it
    encoding   of a text file, such as gb18030; None means that it is recognized, and refused if it is not certain
    header     the line of the header, from 1, in a CSV or a sheet; none if the first line is a row: the columns are then called
               column_1, column_2, ...
    sheet      of an Excel file; None means its only one with cells
    rows       the list of rows inside a JSON file: names, joined by dots. The objects above give each row their values
    any_size   read a file that has more than 10,000 columns, or whose rows need 1,000 times its size and over 256 MB of memory
    record     the row is a record, and its text is written from these columns: column → its name in the text, or "all" columns
               that `columns` does not name, with their own names
    values     the row is numbers, such as a signal of a fixed number of steps: these columns in order, or "all" columns that
               `columns` does not name. An empty cell counts as not measured. For data.modality: series
    missing_words  words that mean a missing cell, in any case; None means NA, N/A, NaN, NaT, null and None

    Rows without a label are dropped and counted. Raises DataError with file and line.
    """
    file_options = FileOptions(delimiter=delimiter, encoding=encoding, header=header, sheet=sheet, rows=rows, any_size=any_size)
    options: dict[str, Any] = {
        "separator": separator,
        "file_options": file_options,
        "record": record,
        "values": values,
        "missing_words": missing_words,
        "missing": missing,
    }
    files = _list_data_files(path) if path.is_dir() else [path]
    if len(files) == 1:
        return read_table(files[0], columns, task, contract, **options)
    places = {file: _find_split(file) for file in files}
    for file, split in places.items():
        if split is None:
            names = ", ".join(f.relative_to(path).as_posix() for f in files[:20])
            raise DataError(
                f"the folder has several files, and {file.name!r} is not the name of a split. Set data.file to one of: {names}.",
                where=path,
            )
    parts: dict[Path, Table] = {}
    for file in sorted(files, key=lambda file: IN_ORDER.index(places[file] or "train")):  # training rows decide the kinds
        part = read_table(file, columns, task, contract, **options)
        contract = replace(contract, fields=part.fields, values=part.values)
        if list(places.values()).count(places[file]) > 1:
            part = replace(part, examples=tuple(replace(e, id=f"{file.stem}:{e.id}") for e in part.examples))
        parts[file] = part
    by_split: dict[Split, list[Table]] = {}
    for file, split in places.items():
        by_split.setdefault(split or "train", []).append(parts[file])
    return join_tables({split: _join_parts(tables) for split, tables in by_split.items()})


def read_table(
    path: Path,
    columns: Mapping[str, str] | Callable[[Sequence[str]], Mapping[str, str]],
    task: TaskName,
    contract: Contract = ANY,
    *,
    file_options: FileOptions | None = None,
    missing: Missing = "drop",
    **options: Any,
) -> Table:
    """Read one file.

    columns  those to take, or a function that chooses them among the columns of the file
    missing  what to do with a row without text or label: "drop" it, "refuse" the file, or "keep" the row. Rows to keep are rows to
             predict: their label is not read. Only rows to drop have a time and a split
    options  separator, record, values and missing_words of `table`
    """
    _refuse_both(**options)
    rows = read_columns(path, file_options)
    named = columns(rows.columns) if callable(columns) else columns
    return _build_table(rows, named, task, contract, missing=missing, **options)


def iterate_table(
    path: Path, columns: Mapping[str, str], task: TaskName, contract: Contract, arguments: Mapping[str, Any], *, size: int
) -> Iterator[Table]:
    """Read one file of rows to predict as `table` does, in parts of so many rows.

    arguments  keyword arguments of `table`

    Two rows of different parts may have the same id, as two rows to predict may.
    """
    names = {option.name for option in dataclasses.fields(FileOptions)}
    file_options = FileOptions(**{name: value for name, value in arguments.items() if name in names})
    options = {name: value for name, value in arguments.items() if name not in names}
    _refuse_both(**options)
    for rows in iterate_columns(path, file_options, size=size):
        yield _build_table(rows, columns, task, contract, missing="keep", **options)


def _refuse_both(record: object = None, values: object = None, **_: object) -> None:
    if record and values:
        raise RecipeError("record and values cannot both be set: a row is a record or a row of numbers.", where="data.reader")


def _build_table(  # noqa: PLR0913  (the options of `table`)
    rows: Rows,
    columns: Mapping[str, str],
    task: TaskName,
    contract: Contract,
    *,
    missing: Missing,
    separator: str | None = None,
    record: Literal["all"] | Mapping[str, str] | None = None,
    values: Literal["all"] | Sequence[str] | None = None,
    missing_words: Sequence[str] | None = None,
) -> Table:
    """Build the examples of some rows of a file; see `read_table`."""
    words = read_missing_words(missing_words)
    taken = _take_columns(rows, columns, task, record, values, contract, words)
    known = _choose_keys(rows, columns, missing)
    if taken.names:
        known = {**known, "text": next(name for name in taken.names if name in rows.columns)}
    need_label = missing != "keep" and not get_task(task).unlabelled
    layout = find_layout(rows, known, task, need_label=need_label, words=words)
    if taken.names:
        what = f"a record of {len(taken.names)} fields" if record else f"rows of {len(taken.names)} numbers"
        layout = replace(layout, detected=f"{rows.format}, {what}, label from {layout.columns.get('label')!r}")
    numbers = parse_numbers(replace(rows, rows=taken.complete(rows.rows)), list(taken.names), words) if values else None
    reading = _Reading(rows, layout, task, separator, words, frozenset({*contract.labels, *_list_class_names(rows, layout)}))
    tally = Tally("read")
    tally.notes = reading.count_changes(list(taken.names))
    unread = [c for c in rows.columns if taken.names and c not in taken.names and numbers_rows(rows, c)]
    tally.notes |= {f"rows numbered by {column!r}, which is not read": len(rows.rows) for column in unread}
    examples: list[Example] = []
    ids: dict[str, int] = {}
    for index, row in enumerate(rows.rows):
        example, problem = reading.build_row(index)
        if numbers is not None:
            example = replace(example, text="", values=numbers[index])
        elif taken.names:
            example = taken.build_record(example, row, rows.at(index), keep=missing == "keep")
        if example.id in ids and missing != "keep":
            raise DataError(
                f"the id {example.id!r} is already used on {rows.unit} {rows.places[ids[example.id]]}. Give each row its own id.",
                where=rows.at(index),
            )
        ids[example.id] = index
        problem = problem or find_missing_part(example, task, need_label=need_label)
        if not problem or missing == "keep":
            examples.append(example)
        elif missing == "refuse":
            raise DataError(f"{problem}. Every row needs both text and label here.", where=rows.at(index))
        else:
            tally.drop(example.id, problem)
    account = tally.close(len(rows.rows), len(examples))
    if not examples:
        raise DataError(
            f"none of the {len(rows.rows)} rows can be used: {dict(account.dropped)}.{_explain_words(account)} "
            f"Detected: {layout.detected}.",
            where=rows.path,
        )
    return Table(
        tuple(examples),
        layout.detected,
        labels=_list_class_names(rows, layout) or None,
        account=account,
        fields=taken.contract.fields if record else (),
        values=tuple(taken.names) if values else (),
        types=_describe_types(layout, taken, task),
    )


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
        for name, count in (part.account.notes if part.account else {}).items():
            tally.note(name, count)
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


@dataclass(frozen=True)
class _Taken:
    """The columns of a record or of a row of numbers: column → its name in the record; and what the record must be like."""

    names: Mapping[str, str] = field(default_factory=dict)
    contract: Contract = ANY

    def complete(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the rows with all columns: one that the file lacks is missing in each row."""
        return [{name: row.get(name) for name in self.names} for row in rows]

    def build_record(self, example: Example, row: Mapping[str, Any], where: str, *, keep: bool) -> Example:
        """Set the record of a row, and its text; a row without any value has none.

        keep  for rows to predict: a wrong value is a problem of its row, and no error of the file
        """
        given = {name: row.get(column) for column, name in self.names.items()}
        if all(is_missing(value, self.contract.missing_words) for value in given.values()):
            return replace(example, text="")
        try:
            read = build_record_example(given, self.contract, where)
        except DataError as error:
            if not keep:
                raise
            return replace(example, text="", problem=f"a wrong value ({error.message.removesuffix('.')})")
        return replace(example, text=read.text, record=read.record)


@dataclass(frozen=True, eq=False)
class _Reading:
    """How the cells of a file are read, column by column.

    words   words that mean a missing cell
    labels  labels that are declared: none of them means a missing cell
    """

    rows: Rows
    layout: Layout
    task: TaskName
    separator: str | None
    words: Collection[str]
    labels: Collection[str]

    @cached_property
    def times(self) -> list[str | None]:
        """The time of each row, as a string that sorts; None for a row without a time."""
        column, rows = self.layout.columns.get("time"), self.rows
        if column is None:
            return [None] * len(rows.rows)
        places = [rows.at(index) for index in range(len(rows.rows))]
        return parse_times([row.get(column) for row in rows.rows], places, self.words)

    def build_keys(self, index: int) -> Example:
        """Build a row with its id, group, time and split."""
        columns, row, place = self.layout.columns, self.rows.rows[index], self.rows.places[index]
        keys = {key: self._read_key(row.get(columns[key]), index, columns[key]) for key in ("id", "group") if key in columns}
        nameless = f"{self.rows.unit} {place}" if "id" in columns else str(place)
        return Example(
            id=keys.get("id") or nameless,
            record_id=keys.get("id"),
            group=keys.get("group"),
            time=self.times[index],
            split=self._read_split(row.get(columns["split"]), index) if "split" in columns else None,
        )

    def build_row(self, index: int) -> tuple[Example, str | None]:
        """Build a row with its text and target, or its conversation; and say why its conversation cannot be read, or None."""
        columns, row, where = self.layout.columns, self.rows.rows[index], self.rows.at(index)
        example = self.build_keys(index)
        if self.layout.messages:
            try:
                return replace(example, messages=self.layout.messages(row)), None
            except UnusableRow as reason:
                return example, str(reason)
            except ValueError as error:
                raise DataError(f"{error}.", where=where) from None
        text = self._read_text(cell(row, columns["text"], self.words), where, columns["text"])
        target = self._read_target(row.get(columns["label"]), where, columns["label"]) if "label" in columns else None
        return replace(example, text=text, target=target), None

    def count_changes(self, fields: Sequence[str]) -> dict[str, int]:
        """Count cells that are read as something else than they say: words that mean missing, and keys in another form."""
        columns, task = self.layout.columns, get_task(self.task)
        notes: dict[str, int] = {}
        if lacks := [name for name in fields if name not in self.rows.columns]:
            notes[f"rows without the columns {', '.join(lacks)}, which count as unknown"] = len(self.rows.rows)
        named = [columns[key] for key in ("group", "id", "time", "split") if key in columns]
        label = columns.get("label") if not self.layout.messages else None
        read = fields or (cell_columns(columns["text"], self.rows.columns) if "text" in columns else ())
        for name in dict.fromkeys([*([label] if label else []), *named, *read]):
            for word, count in self._count_words(name, self.labels if name == label else ()).items():
                notes[f"cells {word!r} of {name!r} that mean missing"] = count
        forms: dict[str, Callable[[str], str | None]] = {
            columns[key]: normalize_key for key in ("group", "id") if key in columns
        }
        if label and task.labelled:
            forms[label] = clean_text
        for name, form in forms.items():
            texts = [
                text for row in self.rows.rows if isinstance(text := row.get(name), str) and not is_missing(text, self.words)
            ]
            notes[
                f"cells of {name!r} with other spaces, invisible characters or another Unicode form than they are read with"
            ] = sum(form(text) != text for text in texts)
        if "id" in columns:
            missing = sum(is_missing(row.get(columns["id"]), self.words) for row in self.rows.rows)
            notes[f"rows without an id in {columns['id']!r}"] = missing
        if label and task.labelled and not task.single_label and not self.separator:
            commas = [text for row in self.rows.rows if isinstance(text := row.get(label), str) and _COMMA.fullmatch(text)]
            if commas:
                notes[f"labels with a comma, such as {commas[0]!r}, each read as one (see data.reader.separator)"] = len(commas)
        return {note: count for note, count in notes.items() if count}

    def _count_words(self, column: str, known: Collection[str]) -> Counter[str]:
        cells = (row.get(column) for row in self.rows.rows)
        return Counter(
            clean_text(cell)
            for cell in cells
            if isinstance(cell, str) and is_missing(cell, self.words) and not is_empty(cell) and clean_text(cell) not in known
        )

    def _read_key(self, value: Any, index: int, column: str) -> str | None:
        _refuse_parts(value, self.rows.at(index), column)
        return normalize_key(value, self.words)

    def _read_split(self, value: Any, index: int) -> Split | None:
        name = normalize_key(value, self.words)
        if name is None:
            return None
        if name.lower() not in SPLITS:
            raise DataError(f"{value!r} is not a split. Known are {', '.join(SPLITS)}.", where=self.rows.at(index))
        return SPLITS[name.lower()]

    def _read_text(self, value: Any, where: str, column: str) -> str:
        _refuse_parts(value, where, column)
        return "" if is_missing(value, self.words) else str(plain_value(value))

    def _read_target(self, value: Any, where: str, column: str) -> Target:
        names = self.rows.names.get(column)
        if names and isinstance(value, int) and 0 <= value < len(names):
            return clean_text(names[value])
        task = get_task(self.task)
        if task.labelled and not task.single_label:
            return self._read_labels(value, where, column)
        label = self._read_label(value, where, column)
        return parse_number(label, where, column) if label is not None and task.numeric else label

    def _read_label(self, value: Any, where: str, column: str) -> str | None:
        """Read a label; None if it is missing. A word that is declared to be a label is never missing."""
        _refuse_parts(value, where, column)
        if is_empty(value):
            return None
        label = clean_text(str(plain_value(value)))
        return None if label not in self.labels and is_missing(label, self.words) else label

    def _read_labels(self, value: Any, where: str, column: str) -> tuple[str, ...]:
        """Read the labels of a cell, each once. A missing cell is a row without any label, not an unknown target."""
        if isinstance(value, str) and value.lstrip().startswith("["):
            try:
                value = json.loads(value)
            except ValueError:
                raise DataError(
                    f"column {column!r} starts like a JSON list but is not one: {value[:60]!r}.", where=where
                ) from None
        if not isinstance(value, (list, tuple)):
            text = self._read_label(value, where, column) or ""
            value = text.split(self.separator) if self.separator else re.split(r"[;|]", text)
        labels = (self._read_label(part, where, column) for part in value)
        return tuple(dict.fromkeys(label for label in labels if label is not None))


def _choose_keys(rows: Rows, columns: Mapping[str, str], missing: Missing) -> dict[str, str]:
    """Choose the columns that are read: all for rows to train on; else no time and split, and ids and groups if the file has them."""
    if missing == "drop":
        return dict(columns)
    needed = {"text", "messages", *(["label"] if missing == "refuse" else [])}
    return {k: name for k, name in columns.items() if k in needed or (k in {"id", "group"} and name in rows.columns)}


def _take_columns(
    rows: Rows,
    columns: Mapping[str, str],
    task: TaskName,
    record: Literal["all"] | Mapping[str, str] | None,
    values: Literal["all"] | Sequence[str] | None,
    contract: Contract,
    words: frozenset[str],
) -> _Taken:
    """Take the columns that `record` or `values` reads: those of the contract, or those of the file, whose kinds are then decided.

    Raises RecipeError for a task of conversations; DataError for a column that is missing, and for one that the contract does not know.
    """
    chosen, key = (record, "record") if record else (values, "values")
    if not chosen:
        return _Taken()
    if get_task(task).written:
        raise RecipeError(f"the task {task} reads conversations. Leave {key} out.", where=f"data.reader.{key}")
    named = dict(chosen) if isinstance(chosen, Mapping) else {}
    wanted = [field.name for field in contract.fields] if record else list(contract.values)
    if wanted:
        column_of = {name: column for column, name in named.items()}
        names = {column_of.get(name, name): name for name in wanted}
        _refuse_other_columns(rows, columns, names, everything=chosen == "all")
        return _Taken(names, replace(contract, missing_words=words))
    listed = _list_other_columns(rows, columns) if chosen == "all" else list(chosen)
    for column in listed:
        if column not in rows.columns:
            raise DataError(
                f"data.reader.{key}: no column {column!r}.{did_you_mean(column, rows.columns)} "
                f"The columns are {', '.join(map(repr, rows.columns))}.",
                where=rows.path,
            )
    if not listed:
        raise DataError(f"data.reader.{key}: no column is left. data.columns names all of them.", where=rows.path)
    names = {column: named.get(column, column) for column in listed}
    if not record:
        return _Taken(names)
    kinds = {column: infer_kind((row.get(column) for row in rows.rows), words) for column in listed}
    fields = tuple(Field(name=names[column], in_text=True, kind=kinds[column]) for column in listed)
    return _Taken(names, Contract(fields=fields, missing_words=words))


def _list_other_columns(rows: Rows, columns: Mapping[str, str]) -> list[str]:
    """List the columns without another use: one that `columns` names, and one with a common name for a label or an id."""
    used = list_used(rows.columns, columns)
    return [column for column in rows.columns if column not in used and not numbers_rows(rows, column)]


def _refuse_other_columns(rows: Rows, columns: Mapping[str, str], names: Mapping[str, str], *, everything: bool) -> None:
    """Refuse a file without any of the known columns; and, if a recipe reads all columns, one with a column that is not known."""
    if not set(names) & set(rows.columns):
        raise DataError(
            f"none of the columns that this specialist reads: {', '.join(names)}. The columns are {', '.join(rows.columns)}.",
            where=rows.path,
        )
    if everything:
        present = (column for column in rows.columns if column in names or not numbers_rows(rows, column))
        refuse_unknown_columns(present, columns, list(names), rows.path)


def _list_class_names(rows: Rows, layout: Layout) -> tuple[str, ...]:
    """List the labels that the file itself declares."""
    return tuple(map(clean_text, rows.names.get(layout.columns.get("label", ""), ())))


def _describe_types(layout: Layout, taken: _Taken, task: TaskName) -> dict[str, str]:
    """Describe how each column is read, for people."""
    kinds = {"id": "id", "group": "group", "time": "time", "split": "split", "text": "text"}
    target = get_task(task)
    kinds["label"] = "answer" if layout.messages else "number" if target.numeric else "label"
    types = {name: kinds[key] for key, name in layout.columns.items() if key in kinds and not (taken.names and key == "text")}
    types |= {column: KINDS[field.kind] for column, field in zip(taken.names, taken.contract.fields, strict=False)}
    return dict.fromkeys(taken.names, "numbers") | types


def _explain_words(account: StepAccount) -> str:
    """Name the words that were taken for missing cells, if there are any."""
    names = [name for name in account.notes if name.endswith("that mean missing")]
    return f" Among them are {', '.join(names)}." if names else ""


def find_missing_part(example: Example, task: TaskName, *, need_label: bool = True) -> str | None:
    """Find what a row lacks, as a reason for the account; None for a complete row."""
    if example.problem:
        return example.problem
    if get_task(task).written:
        prompts = [turn.content for turn in example.messages if turn.role == "user"] or [example.text]
        if all(map(is_empty, prompts)):
            return "no text"
        last = example.messages[-1] if example.messages else None
        answered = last is not None and last.role == "assistant" and not is_empty(last.content)
        return None if answered or not need_label else "no answer"
    if example.values is not None:
        if not np.isfinite(example.values).any():
            return "nothing measured"
    elif is_empty(example.text):
        return "no text"
    return "no label" if example.target is None and need_label else None


def _refuse_parts(value: Any, where: str, column: str) -> None:
    if isinstance(value, (dict, list, tuple, bytes)):
        raise DataError(f"column {column!r} contains a {type(value).__name__}. Write a text.", where=where)
