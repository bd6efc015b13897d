"""Check a file before training: its format, its rows, and its problems."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias

from vertical_sdk.card import Contract
from vertical_sdk.catalog import readers
from vertical_sdk.cells import clean_text, is_missing, read_missing_words
from vertical_sdk.data.clean import find_contradictions
from vertical_sdk.data.columns import KINDS, infer_kind
from vertical_sdk.data.dedup import near_repeats, nearest_in
from vertical_sdk.data.deidentify import describe_search, find_pii
from vertical_sdk.data.formats import FileOptions, Rows, find_reader, read_columns
from vertical_sdk.data.guess import suggest_columns
from vertical_sdk.data.labels import count_labels, describe_look_alikes
from vertical_sdk.data.layouts import cell_columns
from vertical_sdk.data.prepare import note_reading
from vertical_sdk.data.read import ANY, Table
from vertical_sdk.data.scripts import main_script
from vertical_sdk.data.texts import fold_text, full_text, prompt_text
from vertical_sdk.errors import MissingExtra, RecipeError
from vertical_sdk.recipe import Part, Recipe
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, TaskName

__all__ = ["RowCheck", "check_file", "read_for_check"]

RowCheck: TypeAlias = Callable[[Sequence[Example]], tuple[Any, list[tuple[str, str]]]]
"""Rows with texts → what was found in them, for the report, and problems as (severity, sentence)."""

NEAR = 0.9
FEW = 10
"""Rows of a label below which its score is unreliable."""
SHOWN = 5


def check_file(
    path: Path,
    *,
    columns: Mapping[str, str] | None = None,
    task: TaskName = "classification",
    recipe: Recipe | None = None,
    reader: Part | None = None,
    check_tokens: RowCheck | None = None,
    check_labels: RowCheck | None = None,
) -> dict[str, Any]:
    """Describe a file as plain data for JSON. `problems` lists the problems, worst first.

    columns, task   as in a recipe; those of `recipe` if it is given. A column called "split" is the split. Without a recipe,
                    columns that are not given are suggested by their names and contents
    reader          as in a recipe; None means that of `recipe`, one that recognizes the file, or the general one
    check_tokens    describes what a base reads of the rows with texts, and its problems; None: no base is looked at
    check_labels    finds labels that may be wrong; None: none is looked for

    Rows of numbers are not compared with each other. A row that cannot be read raises DataError with file and line, as in
    training; tasks that read series raise RecipeError.
    """
    chosen: Mapping[Any, str] = columns if columns is not None else recipe.data.columns if recipe else {}
    columns = dict(chosen)
    task = recipe.task if recipe else task
    if get_task(task).ahead:
        raise RecipeError(
            f"the task {task} reads series, whose rows cannot be checked. Run vertical data show RECIPE.", where=path
        )
    part = reader or (recipe.data.reader if recipe else None) or Part(use=find_reader(path) or "table")
    contract = Contract(labels=tuple(map(clean_text, (recipe.labels if recipe else None) or ())))
    read = read_for_check(path, columns, task, part, contract, guess=recipe is None)
    raw, table = read.raw, read.table
    rows = list(table.examples)
    with_text = [e for e in rows if e.values is None or full_text(e)]
    texts = [full_text(e) for e in with_text]
    near = near_repeats(texts, NEAR)
    exact = _find_exact_repeats(texts)
    clashes = find_contradictions(rows)
    report: dict[str, Any] = {
        "file": str(path),
        "format": raw.format if raw else table.detected,
        **(raw.details if raw else {"reader": part.use}),
        "columns": list(raw.columns) if raw else [],
        "types": _describe_types(read, part),
        "detected": table.detected,
        "task": task,
        "rows": len(raw.rows) if raw else table.account.rows_in if table.account else len(rows),
        "usable": len(rows),
        "not_usable": dict(table.account.dropped) if table.account else {},
        "script": main_script(texts),
        "notes": dict(note_reading(table.account, rows).notes) if table.account else {},
        "labels": count_labels(rows),
        "targets": _summarize([e.target for e in rows if isinstance(e.target, float)]),
        "characters": _summarize([float(len(text)) for text in texts]),
        "words": _summarize([float(len(text.split())) for text in texts]),
        "duplicates": {"count": len(exact), "rows": [with_text[i].id for i in exact[:SHOWN]]},
        "near_duplicates": {
            "count": len(near) - len(exact),
            "rows": [[with_text[i].id, with_text[j].id] for i, j in near.items() if i not in set(exact)][:SHOWN],
        },
        "contradictions": {"count": len(clashes), "rows": [e.id for e in clashes[:SHOWN]]},
        "personal_data": _count_personal_data(texts),
        "personal_data_search": describe_search(names=False),
        "leakage": _find_leakage(with_text),
    }
    report["tokens"], more_problems = check_tokens(with_text) if check_tokens and with_text else ({}, [])
    if check_labels is not None and get_task(task).single_label:
        report["doubtful_labels"], label_problems = check_labels(with_text)
        more_problems = [*more_problems, *label_problems]
    report["problems"] = _list_problems(report, recipe, more_problems)
    return report


@dataclass(frozen=True)
class FirstRead:
    """A file as it was read without a recipe.

    raw      the rows as they are in the file; None for a reader of a vertical
    columns  our key → the column, as given or found
    """

    raw: Rows | None
    columns: Mapping[str, str]
    table: Table


def read_for_check(
    path: Path, columns: Mapping[str, str], task: TaskName, part: Part, contract: Contract = ANY, *, guess: bool
) -> FirstRead:
    """Read a file for people who do not know it yet.

    contract  the labels that are declared
    guess     suggest the columns that are not named, by their names and contents
    """
    options = readers.check(part.use, part.arguments, "data.reader")
    read = readers.get(part.use)
    if part.use != "table":
        return FirstRead(None, columns, read(path, columns, task, **options))
    names = {f.name for f in fields(FileOptions)}
    raw = read_columns(path, FileOptions(**{key: value for key, value in options.items() if key in names}))
    chosen = dict(columns)
    if guess:
        texts = not (options.get("record") or options.get("values"))
        chosen = suggest_columns(raw, chosen, task, texts=texts, header_is_sure=options.get("header") is not None)
    split = {"split": "split"} if "split" not in chosen and "split" in raw.columns else {}
    return FirstRead(raw, chosen, read(path, {**chosen, **split}, task, contract=contract, **options))


def _describe_types(read: FirstRead, part: Part) -> dict[str, str]:
    """Describe how training reads each column of the file: by its use, or as a field of a record if it has none yet."""
    if read.raw is None:
        return dict(read.table.types)
    used = {column: kind for name, kind in read.table.types.items() for column in cell_columns(name, read.raw.columns)}
    missing = read_missing_words(part.arguments.get("missing_words"))
    return {
        name: used.get(name) or _describe_kind([row.get(name) for row in read.raw.rows], missing) for name in read.raw.columns
    }


def _describe_kind(cells: Sequence[object], missing: Collection[str]) -> str:
    if any(isinstance(cell, list | dict) for cell in cells):
        return "lists"
    return "empty" if all(is_missing(cell, missing) for cell in cells) else KINDS[infer_kind(cells, missing)]


def _find_exact_repeats(texts: Sequence[str]) -> list[int]:
    """Find the positions of texts that repeat an earlier one."""
    seen: set[str] = set()
    repeats = []
    for position, text in enumerate(map(fold_text, texts)):
        if text in seen:
            repeats.append(position)
        seen.add(text)
    return repeats


def _summarize(values: Sequence[float]) -> dict[str, float]:
    """Return the minimum, percentiles by nearest rank, and the maximum; {} for no values."""
    ordered = sorted(values)
    if not ordered:
        return {}
    ranks = {"min": 0.0, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {name: ordered[max(0, -int(-share * len(ordered) // 1) - 1)] for name, share in ranks.items()}


def _count_personal_data(texts: Sequence[str]) -> dict[str, int] | str:
    try:
        return find_pii(texts)
    except MissingExtra as error:
        return f"not checked: {error}"


def _find_leakage(rows: Sequence[Example]) -> dict[str, Any] | str:
    """Find rows and groups that are in two splits of the file."""
    parts = {split: [e for e in rows if e.split == split] for split in ("train", "validation", "test")}
    if sum(bool(part) for part in parts.values()) < 2:
        return "not checked: the file has no split"
    leakage: dict[str, Any] = {}
    for earlier, later in (("train", "validation"), ("train", "test"), ("validation", "test")):
        first, second = parts[earlier], parts[later]
        hits = nearest_in([prompt_text(e) for e in first], [prompt_text(e) for e in second], NEAR)
        groups = {e.group for e in first if e.group} & {e.group for e in second if e.group}
        if hits or groups:
            pairs = [[first[i].id, second[j].id] for i, j in list(hits.items())[:SHOWN]]
            leakage[f"{earlier}/{later}"] = {"rows": len(hits), "groups": len(groups), "examples": pairs}
    return leakage


def _list_problems(report: Mapping[str, Any], recipe: Recipe | None, others: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """List problems with a severity: "error" stops training, "warning" makes it worse, "note" is information."""
    problems = [
        *_label_problems(report),
        *_unlisted_labels(report["labels"], recipe),
        *_leakage_problems(report["leakage"]),
        *_reading_problems(report),
        *_repeat_problems(report),
        *_unusable_rows(report),
        *_personal_data_problems(report["personal_data"], report["script"]),
        *others,
    ]
    order = {"error": 0, "warning": 1, "note": 2}
    return [{"severity": severity, "problem": text} for severity, text in sorted(problems, key=lambda p: order[p[0]])]


def _label_problems(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    labels, rows = report["labels"], report["usable"]
    if not get_task(report["task"]).single_label:
        return
    if len(labels) < 2:
        yield "error", f"only {len(labels)} label: there is nothing to tell apart"
    for names in describe_look_alikes(labels):
        yield "warning", f"labels that may be one, as they differ only in case or in how a number is written: {names}"
    few = [f"{label!r} ({count})" for label, count in labels.items() if count < FEW]
    if few:
        yield "warning", f"{len(few)} labels have fewer than {FEW} rows: {', '.join(few[:SHOWN])}"
    if labels and max(labels.values()) > 0.9 * rows:
        yield "warning", f"{max(labels, key=lambda label: labels[label])!r} is the label of more than 90% of the rows"
    if len(labels) > 0.5 * rows and rows > FEW:
        yield "warning", f"{len(labels)} labels on {rows} rows: is the label column the right one?"


def _unlisted_labels(labels: Mapping[str, int], recipe: Recipe | None) -> Iterator[tuple[str, str]]:
    known = tuple(recipe.labels or ()) if recipe else ()
    unknown = [label for label in labels if label not in known] if known else []
    if unknown:
        yield "error", f"labels that the recipe does not list: {', '.join(map(repr, unknown[:SHOWN]))}"


def _leakage_problems(leakage: dict[str, Any] | str) -> Iterator[tuple[str, str]]:
    if not isinstance(leakage, str):
        for pair, overlap in leakage.items():
            yield "error", f"{pair}: {overlap['rows']} rows and {overlap['groups']} groups are in both splits"


def _reading_problems(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Tell what was read as something else than it says."""
    for note, value in report["notes"].items():
        names = [f"{name} {count}" for name, count in value.items()] if isinstance(value, Mapping) else value
        listed = ", ".join(map(str, names[:SHOWN])) if isinstance(names, list) else names
        is_label = any(f"of {name!r} that mean missing" in note for name, kind in report["types"].items() if kind == "label")
        hint = ". List the word in the recipe's labels if it is a label" if is_label else ""
        yield "note" if "three digits" in note else "warning", f"{note}: {listed}{hint}"


def _repeat_problems(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if report["contradictions"]["count"]:
        yield "warning", f"{report['contradictions']['count']} rows repeat the text of another row with another label"
    for key, text in (("duplicates", "rows repeat another"), ("near_duplicates", "rows nearly repeat another")):
        count = report[key]["count"]
        if count:
            yield "warning" if count > 0.05 * report["usable"] else "note", f"{count} {text}"


def _unusable_rows(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for reason, count in report["not_usable"].items():
        yield "warning" if count > 0.05 * report["rows"] else "note", f"{count} rows cannot be used: {reason}"


def _personal_data_problems(counts: dict[str, int] | str, script: str | None) -> Iterator[tuple[str, str]]:
    searched = describe_search(names=False)
    if isinstance(counts, str):
        yield "note", f"personal data {counts}"
    elif counts:
        listed = ", ".join(f"{entity} {count}" for entity, count in counts.items())
        yield "warning", f"personal data: {listed}. Set data.deidentify. {searched}"
    elif script not in {"Latin", None}:
        yield "note", f"no personal data found, but the texts are mostly in {script}. {searched}"
