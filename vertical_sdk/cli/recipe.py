"""vertical recipe: list, show, check and create recipes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vertical_sdk.cli.choose_base import BaseChoice, choose_base
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
from vertical_sdk.cli.options import Json, Settings, group, read_settings
from vertical_sdk.cli.output import emit, say, show, showing, table
from vertical_sdk.errors import RecipeError, RunError, VerticalError

if TYPE_CHECKING:
    from vertical_sdk.recipe import Part

__all__ = ["verbs"]

verbs = group("Recipes: the YAML files that specialists are trained from.")
RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A name, or a YAML file.")]

TEMPLATE = """\
# A recipe. Every key and its default: vertical recipe schema
# Check it:   vertical recipe check {path}
# Show rows:  vertical data show {path}
# Train it:   vertical train {path}
name: {name}
{domain}task: {task:<27} # or multilabel, ordinal, regression, generation
summary: {summary}
base: {base:<20}        # see: vertical base list

data:
  source: {source}
{reading}
  # license: CC-BY-4.0            # licence of the data, for the card
  # deidentify: {{use: presidio, on_hit: surrogate}}   # English names; other languages, patterns only: language: zh, names: false
  split: {{use: stratified, test: 0.2, validation: 0.1}}
{lengths}
adapter: {{r: 16, lora_alpha: 32, target_modules: all-linear}}     # keys of peft.LoraConfig
train: {{num_train_epochs: 3, learning_rate: 1e-3, seed: 0}}       # keys of transformers.TrainingArguments

evaluate:
  metrics: [{metrics}]
  baselines: [{baselines}]
  gate: {{metric: {metric}, margin: 0.0, confidence: 0.95}}   # publishing requires that it beats the best of them
"""
METRICS = {"classification": ("accuracy", "macro_f1"), "multilabel": ("micro_f1", "macro_f1"), "regression": ("rmse", "mae")}
"""Task → the metrics of a new recipe; the gate reads the last."""


@verbs.command("list")
def list_(as_json: Json = False) -> None:
    """List the installed recipes."""
    from vertical_sdk.recipe import load_recipe, recipe_names

    recipes = [load_recipe(name) for name in recipe_names()]
    if as_json:
        emit([{"name": r.name, "task": r.task, "base": r.base, "summary": r.summary} for r in recipes])
        return
    rows = [[r.name, r.task, r.base, r.summary] for r in recipes]
    show(table(["name", "task", "base", "what it does"], rows) if rows else "No recipe is installed.")


@verbs.command("show")
def show_(recipe: RecipeName, settings: Settings = None, as_json: Json = False) -> None:
    """Show a recipe with the defaults of all its keys."""
    import yaml

    from vertical_sdk.recipe import load_recipe

    loaded = load_recipe(recipe, read_settings(settings))
    if as_json:
        emit({**loaded.to_dict(), "digest": loaded.digest})
        return
    show(yaml.safe_dump(loaded.to_dict(), sort_keys=False, allow_unicode=True, width=120).rstrip(), lines=True)
    say(f"digest {loaded.digest}")


@verbs.command()
def check(
    recipes: Annotated[list[str], typer.Argument(metavar="RECIPE...", help="Names, or YAML files.")],
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Check keys, names and arguments of recipes; exit code 2 if something is wrong."""
    chosen = read_settings(settings)
    results = [_check(name, chosen) for name in recipes]
    if as_json:
        emit(results)
    else:
        for result in results:
            show(f"{result['recipe']}: ok" if result["ok"] else result["problem"], lines=True)
    if not all(result["ok"] for result in results):
        raise typer.Exit(RecipeError.exit_code)


@verbs.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Such as my-task.")],
    data: Annotated[Path, typer.Option(metavar="FILE", help="Your rows: CSV, TSV, JSONL, JSON, Excel, Parquet or ARFF.")],
    text: Text = None,
    label: Label = None,
    record: Record = None,
    values: Values = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    header: Header = None,
    sheet: Sheet = None,
    rows: RowsAt = None,
    reader: Reader = None,
    task: Annotated[str, typer.Option(help="The task: classification, multilabel or regression.")] = "classification",
    base: Annotated[
        str | None, typer.Option(help="A base model; default: minilm-l6, or one that reads all languages if the texts need it.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="The recipe's file; default: NAME.yaml.")] = None,
    as_json: Json = False,
) -> None:
    """Create a recipe for your own rows. An existing file is never overwritten."""
    from vertical_sdk.paths import report_full_disk
    from vertical_sdk.recipe import load_recipe
    from vertical_sdk.tasks import get_task

    path = out or Path(f"{name.replace('/', '-')}.yaml")
    if path.exists():
        raise RunError("the file exists already and is never overwritten. Choose another --out.", where=path)
    if task not in METRICS:
        raise typer.BadParameter(f"--task {task}: a new recipe is for {', '.join(METRICS)}. Other tasks: docs/recipes.md.")
    if text and (record or values):
        raise typer.BadParameter("a row is a text (--text), a record (--record) or numbers (--values): give one of them.")
    part = build_reader(
        reader, delimiter=delimiter, encoding=encoding, header=header, sheet=sheet, rows=rows, record=record, values=values
    )
    with naming_options():
        part, columns, texts = _read_example_rows(data, part, {"text": text, "label": label}, task)
    with showing() as progress:
        choice = choose_base(texts if any(texts) else [], base, progress)
    written = TEMPLATE.format(
        path=path,
        name=_quote(name),
        task=task,
        metrics=", ".join(METRICS[task]),
        metric=METRICS[task][-1],
        domain=f"domain: {part.use.partition('.')[0]}\n" if part and "." in part.use else "",
        summary=_quote(f"The {columns.get('label', 'label')} of a {'text' if 'text' in columns else 'row'}."),
        source=_quote(str(data.resolve())),
        reading=_write_reading(part, columns),
        base=_quote_word(choice.base),
        lengths=_write_lengths(choice) if any(texts) else "",
        baselines="majority, probe" if not any(texts) else "base, tfidf" if get_task(task).untrained else "majority, tfidf",
    )
    with report_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(written)
    try:
        from vertical_sdk.checking import check_recipe

        check_recipe(load_recipe(path))
    except VerticalError:
        path.unlink()
        raise
    if as_json:
        reading = part.model_dump() if part else None
        emit({"recipe": path, "columns": columns, "reader": reading, "base": choice.base, "notes": choice.notes})
    else:
        read = f"texts from {columns['text']!r}" if "text" in columns else "records" if any(texts) else "rows of numbers"
        read = f"rows of the reader {part.use}" if part and part.use != "table" else read
        show(f"{path}: {read}" + (f", labels from {columns['label']!r}" if "label" in columns else ""))
        for note in choice.notes:
            say(f"note: {note}.")
        say(f"Next: vertical data show {path}; vertical train {path}")


@verbs.command()
def schema(as_json: Json = False) -> None:
    """Print the JSON schema of recipes, for editors."""
    from vertical_sdk.recipe import recipe_schema

    del as_json  # a schema is JSON either way
    emit(recipe_schema())


def _check(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    from vertical_sdk.recipe import load_recipe

    try:
        recipe = load_recipe(name, settings)
        from vertical_sdk.checking import check_recipe

        check_recipe(recipe)
    except VerticalError as error:
        return {"recipe": name, "ok": False, "problem": str(error)}
    return {"recipe": name, "ok": True, "digest": recipe.digest}


def _read_example_rows(
    path: Path, part: Part | None, named: Mapping[str, str | None], task: Any
) -> tuple[Part | None, dict[str, str], list[str]]:
    """Read a file for a new recipe: its reader if it is not the plain one, its columns as given or found, and its texts.

    Raises DataError.
    """
    from vertical_sdk.data.check import read_for_check
    from vertical_sdk.data.formats import find_reader
    from vertical_sdk.recipe import Part

    given = {key: name for key, name in named.items() if name}
    recognized = find_reader(path) if part is None else None
    part = Part(use=recognized) if recognized else part
    read = read_for_check(path, given, task, part or Part(use="table"), guess=True)
    return part, dict(read.columns), [example.text for example in read.table.examples]


def _write_reading(part: Part | None, columns: Mapping[str, str]) -> str:
    """Write the lines of `data` that say how the file is read."""
    lines = []
    if part is not None:
        lines.append(f"  reader: {_write_flow({'use': part.use, **part.arguments})}")
    if part is not None and "values" in part.arguments:
        lines.append("  modality: series")
    if columns:
        lines.append(
            f"  columns: {_write_flow(columns)}   # the file's columns; group: keeps rows of one patient or contract in one split"
        )
    return "\n".join(lines) or "  # columns: {text: ..., label: ...}"


def _write_flow(value: Any) -> str:
    """Write a mapping on one line; JSON strings are valid YAML."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_quote_word(key)}: {_write_flow(item)}" for key, item in value.items()) + "}"
    return _quote_word(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _quote_word(word: str) -> str:
    """Write a plain word as it is, other texts as a YAML string."""
    plain = re.fullmatch(r"[A-Za-z_][\w.-]*", word, re.ASCII) and word.lower() not in {"null", "true", "false"}
    return word if plain else _quote(word)


def _write_lengths(choice: BaseChoice) -> str:
    """Write the lines of `data` about long texts."""
    lines = [f"  max_length: {choice.max_length:<18}  # tokens; longer texts are cut, and counted"]
    if choice.truncated is not None:
        lines.append(f"  limits: {{truncated: {choice.truncated}}}         # the share of texts that may be cut")
    return "\n".join([*lines, ""])


def _quote(text: str) -> str:
    """Write a text as a YAML string; JSON strings are valid YAML."""
    return json.dumps(text, ensure_ascii=False)
