"""vertical data: check a file of rows, and show the rows that a recipe produces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vertical_sdk.cli.file_options import (
    Delimiter,
    Encoding,
    Header,
    Label,
    Reader,
    Record,
    RowsAt,
    Sheet,
    Text,
    Values,
    build_reader,
    naming_options,
)
from vertical_sdk.cli.notes import list_notes
from vertical_sdk.cli.options import Json, Settings, group, read_settings
from vertical_sdk.cli.output import emit, say, show, showing, table
from vertical_sdk.errors import UnknownName
from vertical_sdk.tables import TASKS

if TYPE_CHECKING:
    from vertical_sdk.types import Example

__all__ = ["verbs"]

verbs = group("Check and show data before training.")
FIRST = 5


@verbs.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV, TSV, JSONL, JSON, Excel, Parquet or ARFF.")],
    recipe: Annotated[str | None, typer.Option(help="A recipe; its columns, task, labels and reader are used.")] = None,
    text: Text = None,
    label: Label = None,
    task: Annotated[
        str, typer.Option(help="The task, such as classification, multilabel, ordinal, regression or generation.")
    ] = "classification",
    record: Record = None,
    values: Values = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    header: Header = None,
    sheet: Sheet = None,
    rows: RowsAt = None,
    reader: Reader = None,
    base: Annotated[
        str | None, typer.Option(help="A base model: what it can read of the texts; default: the recipe's, if it is here.")
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also look for labels that may be wrong; about a minute for 10,000 texts.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check a file: its format, columns, labels, duplicates, lengths and problems."""
    from vertical_sdk.cli.label_check import check_labels
    from vertical_sdk.cli.token_check import create_token_check
    from vertical_sdk.data.check import check_file
    from vertical_sdk.recipe import load_recipe

    columns = {key: name for key, name in (("text", text), ("label", label)) if name}
    if task not in TASKS:
        raise UnknownName("task", task, TASKS)
    loaded = load_recipe(recipe) if recipe else None
    with showing() as progress:
        tokens = create_token_check(base, loaded, progress)
    part = build_reader(
        reader, delimiter=delimiter, encoding=encoding, header=header, sheet=sheet, rows=rows, record=record, values=values
    )
    with naming_options() if loaded is None else nullcontext():
        result = check_file(
            file,
            columns=columns or None,
            task=task,
            recipe=loaded,
            reader=part,
            check_tokens=tokens,
            check_labels=check_labels if deep else None,
        )
    if as_json:
        emit(result)
        return
    if deep and "doubtful_labels" in result:
        del result["doubtful_labels"]["rows"]  # the first ones are in the problem
    show(
        table(
            ["", ""],
            [[key, _list_lines(value)] for key, value in result.items() if key != "problems" and value not in ({}, None)],
        )
    )
    for problem in result["problems"]:
        say(f"{problem['severity']}: {problem['problem']}")


@verbs.command("show")
def show_(
    what: Annotated[str, typer.Argument(metavar="RECIPE|FILE", help="A recipe, or a file of rows.")],
    settings: Settings = None,
    rows: Annotated[int, typer.Option(min=0, help="This many rows of each part.")] = FIRST,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    header: Header = None,
    sheet: Sheet = None,
    as_json: Json = False,
) -> None:
    """Show the rows that a recipe trains and evaluates on, and what each step did; or the first rows of a file."""
    if Path(what).is_file() and not what.endswith((".yaml", ".yml")):
        reader = build_reader(delimiter=delimiter, encoding=encoding, header=header, sheet=sheet)
        with naming_options():
            _show_file(Path(what), rows, reader.arguments if reader else {}, as_json=as_json)
        return
    from vertical_sdk.data.columns import KINDS
    from vertical_sdk.data.prepare import prepare
    from vertical_sdk.recipe import load_recipe

    recipe = load_recipe(what, read_settings(settings))
    with showing() as progress:
        prepared = prepare(recipe, progress=progress)
    parts = {"train": prepared.train, "validation": prepared.validation, "test": prepared.test}
    if as_json:
        emit(
            {
                "recipe": recipe.name,
                "detected": prepared.detected,
                "sources": [source.model_dump() for source in prepared.sources],
                "labels": dict(prepared.labels.counts) if prepared.labels else None,
                "account": prepared.account.to_dict(),
                "rows": {name: {"count": len(part), "first": [_row(e) for e in part[:rows]]} for name, part in parts.items()},
            }
        )
        return
    show(f"{recipe.name}: {prepared.detected}")
    for source in prepared.sources:
        show(f"  {source.source} ({source.license or 'licence not stated'}, sha256 {source.sha256[:16]}…)")
    steps: Sequence[Mapping[str, Any]] = [step.to_dict() for step in prepared.account.steps]
    lines = [[step["step"], step["rows_in"], step["rows_out"], _describe_step(step)] for step in steps]
    show(table(["step", "rows in", "rows out", "changes"], lines))
    for note in list_notes(prepared.account.to_dict()):
        show(f"note: {note}")
    if prepared.fields:
        show(f"fields: {', '.join(f'{field.name} ({KINDS[field.kind]})' for field in prepared.fields)}")
    if prepared.labels is not None:
        show(f"{len(prepared.labels)} labels, with training rows: {_join(prepared.labels.counts)}")
    for name, part in parts.items():
        show(table(["id", "text", "target"], [list(_row(e).values()) for e in part[:rows]], title=f"{name}: {len(part)} rows"))


def _show_file(path: Path, count: int, options: Mapping[str, Any], *, as_json: bool) -> None:
    from vertical_sdk.data.formats import FileOptions, read_columns

    content = read_columns(path, FileOptions(**options))
    first = list(content.rows[:count])
    if as_json:
        emit({"file": path, "count": len(content.rows), "first": first})
        return
    columns = list(dict.fromkeys(key for row in first for key in row))
    lines = [["" if row.get(key) is None else _shorten(str(row[key])) for key in columns] for row in first]
    show(table(columns, lines, title=f"{path}: {content.format}, {len(content.rows)} rows"))


def _describe_step(step: Mapping[str, Any]) -> list[str]:
    """What a step did, by reason: `dropped 768: duplicate`."""
    kinds = (("changed", "changed"), ("dropped", "dropped"), ("set_aside", "set aside"), ("added", "added"))
    lines = [f"{word} {count}: {reason}" for key, word in kinds for reason, count in step[key].items()]
    return [*lines, *filter(None, [step.get("about")])]


def _row(example: Example) -> dict[str, Any]:
    text = example.text or " ⏎ ".join(f"{turn.role}: {turn.content}" for turn in example.messages)
    if not text and example.values is not None:
        text = _describe_array(example.values)
    target = example.target
    if hasattr(target, "shape"):
        return {"id": example.id, "text": text, "target": _describe_array(target)}
    return {"id": example.id, "text": _shorten(text), "target": list(target) if isinstance(target, tuple) else target}


def _describe_array(values: Any) -> str:
    """Describe an array: its shape and range."""
    import numpy as np

    present = values[np.isfinite(values)]
    within = f", {present.min():g} to {present.max():g}" if present.size else ", all missing"
    return " × ".join(map(str, values.shape)) + f" numbers{within}"


def _shorten(text: str, most: int = 300) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _list_lines(value: Any) -> Any:
    """A value for a cell: a list has a line for each item."""
    return [str(_join(item, "~")) for item in value] if isinstance(value, list | tuple) else _join(value, " ")


def _join(value: Any, between: str = " ") -> Any:
    """A value as one line: `a 3, b 5` for a mapping, without its empty lists."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_join(item, ' ')}" for key, item in value.items() if item not in ([], ()))
    if isinstance(value, list | tuple):
        return between.join(str(_join(item, "~")) for item in value)
    return value
