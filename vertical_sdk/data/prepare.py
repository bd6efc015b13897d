"""Prepare the rows of a recipe for training: fetch, read, clean, de-identify, split, decontaminate, cap, augment.

Each step is a pure function from examples to examples, with an account of every row. This file puts the steps in order.
"""

from __future__ import annotations

import functools
import inspect
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from vertical_sdk import catalog
from vertical_sdk.card import Contract, Field, SourceRecord
from vertical_sdk.cells import clean_text, find_look_alikes, normalize_key
from vertical_sdk.data.account import Account, StepAccount, Tally
from vertical_sdk.data.augment import augment
from vertical_sdk.data.clean import normalize_texts
from vertical_sdk.data.dedup import decontaminate
from vertical_sdk.data.labels import build_label_space, count_labels, describe_look_alikes, refuse_unknown, set_aside_unlearned
from vertical_sdk.data.read import IN_ORDER, Missing, Table, iterate_table, join_tables
from vertical_sdk.data.records import count_rounded, list_record_fields
from vertical_sdk.data.split import deal_folds
from vertical_sdk.data.texts import apply_prompt, list_texts, shuffle_key
from vertical_sdk.data.windows import set_aside_far
from vertical_sdk.data.zones import convert_rows
from vertical_sdk.errors import DataError, RecipeError, SourceError
from vertical_sdk.recipe import Limits, Part, Recipe
from vertical_sdk.types import Example, LabelSpace, Progress, SeriesLayout, Split, silent

__all__ = ["Prepared", "iterate_rows", "note_reading", "prepare", "read_rows"]

Parts: TypeAlias = tuple[list[Example], list[Example], list[Example]]
"""Training, validation and test rows."""


@dataclass(frozen=True)
class Prepared:
    """Rows ready for training, with the account of every row and the sources.

    labels    with counts from the training rows; None for tasks without labels
    detected  the format and the columns that were read, for people
    before    the training and validation rows that de-identification changed, with their words before it
    fields    the fields of a record, for rows that are records; values: the columns of a row of numbers
    folds     of cross-fitting; () without it. The test rows of a fold are those that its adapter does not learn. With folds, `train`
              has the rows that the mean of the adapters has learned, without augmented copies; `validation` those that it was only
              calibrated on (such as rows beyond `per_group`); `test` those of the source, which nothing reads, if the split is `given`
    """

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    labels: LabelSpace | None
    account: Account
    sources: tuple[SourceRecord, ...]
    detected: str
    layout: SeriesLayout | None = None
    before: tuple[Example, ...] = ()
    fields: tuple[Field, ...] = ()
    values: tuple[str, ...] = ()
    folds: tuple[Prepared, ...] = ()

    @property
    def judged(self) -> tuple[Example, ...]:
        """Return the rows that a verdict is about: the test rows, or those of all folds, fold by fold."""
        return tuple(row for fold in self.folds for row in fold.test) if self.folds else self.test

    @property
    def originals(self) -> tuple[Example, ...]:
        """Return the training rows without augmented copies, which baselines learn from."""
        return tuple(example for example in self.train if example.copy_of is None)


def prepare(recipe: Recipe, *, progress: Progress = silent) -> Prepared:
    """Run all steps of the `data` section of a recipe.

    The same recipe and the same bytes give the same rows. Raises DataError, with reasons and counts, if rows are wrong or more of
    them are lost than data.limits.lost allows; SourceError if the source cannot be read.
    """
    seed = recipe.train.get("seed", 0)
    if not isinstance(seed, int):
        raise RecipeError(f"seed = {seed!r} is wrong: it should be a valid integer.", where=f"{recipe.name}: train")
    data = recipe.data
    progress("fetching data", 0.0)
    table, sources = _read(recipe, progress)
    rows = _normalize_keys([apply_prompt(example, recipe.prompt) for example in table.examples], table.layout)
    record = _Record(
        Account((note_reading(table.account or StepAccount("read", len(rows), len(rows)), rows),)), data.limits, progress
    )
    _check_ids(rows)
    for number, part in enumerate(data.clean):
        clean = catalog.cleaners.get(part.use)
        rows, step = clean(rows, **catalog.cleaners.check(part.use, part.arguments, f"{recipe.name}: data.clean.{number}"))
        record(f"cleaned: {part.use}", 0.3, step)
    readable = {row.id: row for row in rows} if data.deidentify else {}
    if data.deidentify:
        rows, step = _deidentify(rows, data.deidentify, seed, recipe.name)
        record("de-identified", 0.5, step)
    labels = build_label_space(recipe, table, rows)
    if not recipe.folds or data.split.use == "given":
        arguments = catalog.splitters.check(data.split.use, data.split.arguments, f"{recipe.name}: data.split")
        rows, step = catalog.splitters.get(data.split.use)(rows, seed, **arguments)
        record("split", 0.6, step)

    def finish(parts: Parts, account: Account) -> Prepared:
        train, validation, test = parts
        fields = table.fields or list_record_fields([e for e in train if e.copy_of is None])
        if recipe.data.modality == "records" and not fields:
            raise DataError(
                "data.modality is records, and the rows are texts or numbers. Set data.reader: {use: table, record: all}, or leave "
                "modality out.",
                where=recipe.name,
            )
        return Prepared(
            tuple(train),
            tuple(validation),
            tuple(test),
            _count_training_rows(labels, train),
            account,
            sources,
            table.detected,
            _keep_largest(table.layout, train),
            _list_changed([*train, *validation], readable),
            fields,
            table.values,
        )

    if recipe.folds:
        parts, folds = _divide(recipe, rows, labels, seed, record)
        prepared = replace(finish(parts, record.account), folds=tuple(finish(*fold) for fold in folds))
    else:
        parts = _arrange(recipe, rows, labels, seed, record)
        prepared = finish(parts, record.account)
    progress("data ready", 1.0)
    return prepared


@dataclass
class _Record:
    """Keeps the account of the steps, and refuses to continue after too many rows were dropped."""

    account: Account
    limits: Limits
    progress: Progress

    def __post_init__(self) -> None:
        self.account.check(self.limits)

    def __call__(self, what: str, share: float, *steps: StepAccount) -> None:
        self.account = self.account.extend(steps)
        self.account.check(self.limits)
        self.progress(what, share)


def _arrange(recipe: Recipe, rows: Sequence[Example], labels: LabelSpace | None, seed: int, record: _Record) -> Parts:
    """Make training, validation and test rows of rows with a split: decontaminate, cap groups, check labels, augment."""
    data = recipe.data
    train, validation, test = ([e for e in rows if e.split == split] for split in IN_ORDER)
    if data.decontaminate is not None:
        if validation or not recipe.folds:
            validation, step = decontaminate(validation, test, data.decontaminate, "decontaminate: validation against test")
            record("validation decontaminated", 0.7, step)
        train, step = decontaminate(train, [*validation, *test], data.decontaminate, "decontaminate: train against evaluation")
        record("training decontaminated", 0.8, step)
    if data.per_group is not None:
        train, step = _cap_groups(train, data.per_group, seed)
        record("groups capped", 0.85, step)
    rows, step = _check_labels([*train, *validation, *test], labels)
    record("labels checked", 0.87, step)
    validation, test = [e for e in rows if e.split == "validation"], [e for e in rows if e.split == "test"]
    if data.augment and data.copies:
        train, step = _augment(train, recipe, seed)
        record("augmented", 0.95, step)
    _check_parts(recipe, train, test)
    return train, validation, test


def _divide(
    recipe: Recipe, rows: Sequence[Example], labels: LabelSpace | None, seed: int, record: _Record
) -> tuple[Parts, list[tuple[Parts, Account]]]:
    """Divide the rows into the folds of a cross-fitting.

    returns  the parts of the whole, and the parts of each fold with their account, as `Prepared` describes them
    """
    data = recipe.data
    test = [e for e in rows if e.split == "test"] if data.split.use == "given" else []
    rows = [replace(e, split="train") for e in rows if not (test and e.split == "test")]
    if test and data.decontaminate is not None:
        rows, step = decontaminate(rows, test, data.decontaminate, "decontaminate: folds against test")
        record("folds decontaminated", 0.65, step)
    places = deal_folds(rows, seed, recipe.folds)
    folds: list[tuple[Parts, Account]] = []
    for fold in range(recipe.folds):
        own = _Record(record.account, data.limits, silent)
        tally, parts = Tally(f"fold {fold + 1}"), []
        for row in rows:
            split: Split = "test" if places[row.id] == fold else "train"
            if row.only == {"test": "train", "train": "evaluate"}[split]:
                tally.set_aside(row.id, f"row that may only {'be learned' if row.only == 'train' else 'be evaluated'}")
            else:
                parts.append(replace(row, split=split))
        own("fold", 0, tally.close(len(rows), len(parts)))
        folds.append((_arrange(recipe, parts, labels, seed, own), own.account))
    train = [row for row in rows if row.only != "evaluate"]
    if data.per_group is not None:
        train = _cap_groups(train, data.per_group, seed)[0]
    learned = {row.id for row in train}
    validation = [replace(row, split="validation") for row in rows if row.id not in learned]
    tally = Tally("folds")
    tally.notes = {f"fold {number}": len(parts[2]) for number, (parts, _) in enumerate(folds, 1)}
    record("divided into folds", 0.95, tally.close(len(rows), len(rows)))
    return (train, validation, test), folds


def _count_training_rows(labels: LabelSpace | None, train: Sequence[Example]) -> LabelSpace | None:
    """Add the training rows of each label."""
    if labels is None:
        return None
    counts = count_labels(train)
    return replace(labels, counts={label: counts.get(label, 0) for label in labels.labels})


def read_rows(
    path: Path, recipe: Recipe, contract: Contract, *, require_label: bool = False
) -> tuple[list[Example], StepAccount]:
    """Read the rows of a file to predict or to evaluate: all rows, in order, with the texts normalized as in training.

    contract       what the rows must be like: `Card.contract`. Fields and numbers are read by their names, in the order and as
                   the kinds of the training rows; series as the channels and at the pace that the specialist reads
    require_label  for rows to evaluate. Without it, no label is read

    The reader of the recipe reads the file if it can read rows without a label (it then has a parameter `missing`). Else the
    file is a table, with the columns of the recipe if the recipe reads a table too, and with text and label if not. Raises
    DataError for a label, channels, a pace or a kind of times (with or without a zone) that were not in training, and, with
    `require_label`, for a row without a label.
    """
    missing: Missing = "refuse" if require_label else "keep"
    part = recipe.data.reader or Part(use="table")
    options = catalog.readers.check(part.use, part.arguments, f"{recipe.name}: data.reader")
    reader, parameters = catalog.readers.get(part.use), _reader_parameters(part)
    layout = contract.layout
    if part.use != "table" and "missing" in parameters:
        if layout is not None and "channels" in parameters:
            options |= {"channels": list(layout.channels), "seconds": layout.seconds}
        table = reader(path, recipe.data.columns, recipe.task, missing=missing, **options)
    else:
        own = part.use == "table"
        read = catalog.readers.get("table")
        columns: Mapping[Any, str] = recipe.data.columns if own else {}
        table = read(path, columns, recipe.task, missing=missing, contract=contract, **(options if own else {}))
    rows, account = _finish_rows(path, table, recipe, contract)
    if contract.labels and require_label:
        refuse_unknown(rows, contract.labels, "those that were trained", str(path))
    return rows, account


def iterate_rows(path: Path, recipe: Recipe, contract: Contract, *, size: int) -> Iterator[tuple[list[Example], StepAccount]]:
    """Read the rows of a file to predict as `read_rows` does, in parts of so many rows, each with its account.

    A CSV, JSONL or Parquet file that the reader "table" reads never is in memory as a whole. Other readers give one part.
    """
    part = recipe.data.reader or Part(use="table")
    own = part.use == "table"
    if contract.layout is not None or path.is_dir() or (not own and "missing" in _reader_parameters(part)):
        yield read_rows(path, recipe, contract)
        return
    arguments = catalog.readers.check(part.use, part.arguments, f"{recipe.name}: data.reader") if own else {}
    columns: Mapping[Any, str] = recipe.data.columns if own else {}
    for table in iterate_table(path, columns, recipe.task, contract, arguments, size=size):
        yield _finish_rows(path, table, recipe, contract)


def _reader_parameters(part: Part) -> Collection[str]:
    return inspect.signature(catalog.readers.get(part.use)).parameters


def _finish_rows(path: Path, table: Table, recipe: Recipe, contract: Contract) -> tuple[list[Example], StepAccount]:
    """Give the rows of a table the prompt and the forms that training rows had."""
    layout = contract.layout
    examples, notes = table.examples, dict(table.account.notes) if table.account else {}
    if layout is not None:
        in_file = _check_layout(path, table.layout, layout)
        cleaned, far = set_aside_far(convert_rows(examples, layout, in_file.zone, str(path)), layout)
        examples, notes = tuple(cleaned), {**notes, "histories with a value too large to use": far}
    keyed = _normalize_keys([apply_prompt(example, recipe.prompt) for example in examples], layout)
    rows, account = normalize_texts(keyed, recipe)
    return rows, replace(account, notes={**{note: count for note, count in notes.items() if count}, **account.notes})


def _normalize_keys(rows: Sequence[Example], layout: SeriesLayout | None) -> list[Example]:
    """Write the groups and own ids of rows in the one form of keys, whatever reader they come from.

    The groups of series are not cells of a file: their reader makes them from the times.
    """
    if layout is not None:
        return list(rows)
    return [
        replace(row, group=normalize_key(row.group, ()), record_id=normalize_key(row.record_id, ()))
        if row.group is not None or row.record_id is not None
        else row
        for row in rows
    ]


def note_reading(account: StepAccount, rows: Sequence[Example]) -> StepAccount:
    """Add to the notes of a reader what its rows lose in their text, and which groups look alike."""
    rounded = count_rounded(rows)
    alike = find_look_alikes(e.group for e in rows if e.group is not None)
    notes = {
        "values that the text tells to three digits": {name: changed for name, (changed, _) in rounded.items()},
        "different values that look the same in the text": {name: fewer for name, (_, fewer) in rounded.items() if fewer},
        "groups that differ only in case or in how a number is written": [" and ".join(map(repr, names)) for names in alike],
    }
    return replace(account, notes={**account.notes, **{note: value for note, value in notes.items() if value}})


def _keep_largest(layout: SeriesLayout | None, rows: Sequence[Example]) -> SeriesLayout | None:
    """Add the largest absolute value of each channel in the training rows, 0 for a channel that was never measured."""
    if layout is None:
        return None
    steps = [np.asarray(part)[-1] for row in rows for part in (row.values, row.target) if isinstance(part, np.ndarray)]
    return replace(layout, largest=tuple(float(value) for value in np.nan_to_num(np.abs(np.stack(steps))).max(axis=0)))


def _check_layout(path: Path, in_file: SeriesLayout | None, layout: SeriesLayout) -> SeriesLayout:
    """Return the layout of a file. Raises DataError for a file with other series than those of the training."""
    if in_file is None:
        raise DataError(f"no series of channels. This specialist reads {', '.join(layout.channels[:5])}.", where=path)
    if in_file.channels != layout.channels:
        lacks = [channel for channel in layout.channels if channel not in in_file.channels]
        extra = [channel for channel in in_file.channels if channel not in layout.channels]
        difference = (
            f"lacks {', '.join(lacks[:5])}" if lacks else f"has {', '.join(extra[:5])} too" if extra else "has another order"
        )
        raise DataError(
            f"{difference}. This specialist reads {len(layout.channels)} channels: {', '.join(layout.channels[:5])}.",
            where=path,
        )
    if in_file.seconds != layout.seconds:
        raise DataError(
            f"has a step every {in_file.seconds:g} s. This specialist reads one every {layout.seconds:g} s: resample the file.",
            where=path,
        )
    return in_file


def _read(recipe: Recipe, progress: Progress) -> tuple[Table, tuple[SourceRecord, ...]]:
    from vertical_sdk.sources import fetch

    data = recipe.data
    use = data.reader.use if data.reader else "table"
    reader = catalog.readers.get(use, f"{recipe.name}: data.reader")
    options = catalog.readers.check(use, data.reader.arguments if data.reader else {}, f"{recipe.name}: data.reader")
    named: list[tuple[Split | None, str]] = [(None, data.source)] if isinstance(data.source, str) else [*data.source.items()]
    tables: dict[Split | None, Table] = {}
    records: dict[Split | None, SourceRecord] = {}
    contract = Contract(labels=tuple(map(clean_text, recipe.labels or ())))
    follows = "contract" in inspect.signature(reader).parameters
    for split, source in sorted(named, key=lambda pair: IN_ORDER.index(pair[0] or "train")):  # training rows decide the kinds
        try:
            fetched = fetch(source, file=data.file, sha256=data.sha256 if len(named) == 1 else None, progress=progress)
        except SourceError as error:
            key = f"data.source.{split}" if split else "data.source"
            raise type(error)(f"{error.message} It is {key} of the recipe {recipe.name}.", where=error.where) from error
        progress("reading rows", 0.1)
        given = {"contract": contract} if follows else {}
        tables[split] = reader(fetched.path, data.columns, recipe.task, **given, **options)
        contract = replace(contract, fields=tables[split].fields, values=tables[split].values)
        license_ = data.license or tables[split].license or fetched.license
        records[split] = SourceRecord(source=fetched.source, sha256=fetched.sha256, license=license_)
    splits = [split for split, _ in named]
    whole = tables.get(None) or join_tables({split: tables[split] for split in splits if split})
    return whole, tuple(records[split] for split in splits)


def _check_labels(rows: Sequence[Example], labels: LabelSpace | None) -> tuple[list[Example], StepAccount]:
    """Set aside evaluation rows with a label that is not learned, and note the labels that may be one."""
    tally = Tally("check labels")
    if alike := describe_look_alikes(labels.labels) if labels else []:
        tally.notes["labels that may be one: they differ only in case or in how a number is written"] = alike
    kept = set_aside_unlearned(rows, tally)
    return kept, tally.close(len(rows), len(kept))


def _deidentify(rows: Sequence[Example], part: Part, seed: int, recipe: str) -> tuple[list[Example], StepAccount]:
    arguments = catalog.deidentifiers.check(part.use, part.arguments, f"{recipe}: data.deidentify")
    deidentified: tuple[list[Example], StepAccount] = catalog.deidentifiers.get(part.use)(rows, seed, **arguments)
    return deidentified


def _augment(train: Sequence[Example], recipe: Recipe, seed: int) -> tuple[list[Example], StepAccount]:
    named = [
        functools.partial(
            catalog.augmentations.get(part.use),
            **catalog.augmentations.check(part.use, part.arguments, f"{recipe.name}: data.augment.{number}"),
        )
        for number, part in enumerate(recipe.data.augment)
    ]
    return augment(train, named, recipe.data.copies, seed)


def _list_changed(rows: Sequence[Example], before: Mapping[str, Example]) -> tuple[Example, ...]:
    """List earlier forms of rows, by id, whose texts were different."""
    return tuple(before[row.id] for row in rows if row.id in before and list_texts(before[row.id]) != list_texts(row))


def _check_ids(rows: Sequence[Example]) -> None:
    seen: set[str] = set()
    for example in rows:
        if example.id in seen:
            raise DataError(f"the reader gave the id {example.id!r} to two rows. Every row needs its own id.")
        seen.add(example.id)


def _cap_groups(train: Sequence[Example], most: int, seed: int) -> tuple[list[Example], StepAccount]:
    """Keep at most `most` rows of each group, chosen by seed. All rows without a group stay."""
    tally = Tally("cap groups")
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in train:
        if example.group is not None:
            groups[example.group].append(example)
    over = {e.id for members in groups.values() for e in sorted(members, key=lambda e: shuffle_key(seed, e))[most:]}
    for example in train:
        if example.id in over:
            tally.set_aside(example.id, f"over {most} of its group")
    rows = [e for e in train if e.id not in over]
    return rows, tally.close(len(train), len(rows))


def _check_parts(recipe: Recipe, train: Sequence[Example], test: Sequence[Example]) -> None:
    for name, rows in (("train", train), ("test", test)):
        if not rows:
            raise DataError(f"no row is left in the {name} part. Change data.decontaminate or data.split.", where=recipe.name)
