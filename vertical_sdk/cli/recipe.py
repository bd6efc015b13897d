"""vertical recipe: list, read, check and begin recipes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from vertical_sdk.cli.options import Json, Settings, group, read_settings
from vertical_sdk.cli.output import emit, say, show, table
from vertical_sdk.errors import RecipeError, RunError, VerticalError

__all__ = ["verbs"]

verbs = group("What specialists are made from: a YAML file each.")
RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A name, or a YAML file.")]

BEGIN = """\
# What a specialist is made from. Every key and its default: vertical recipe schema
# Check it:  vertical recipe check {path}
# See rows:  vertical data show {path}
# Train it:  vertical train {path}
name: {name}
task: classification              # or multilabel, ordinal, regression, generation
summary: {summary}
base: minilm-l6                   # small and fast on a CPU; see: vertical base list

data:
  source: {source}
  columns: {{text: {text}, label: {label}}}   # the file's columns; group: keeps rows of one patient or contract together
  # license: CC-BY-4.0            # of the data, for the card
  # deidentify: {{use: presidio, on_hit: surrogate}}
  split: {{use: stratified, test: 0.2, validation: 0.1}}
  max_length: {length:<18}  # tokens; what is longer is cut, and counted

adapter: {{r: 16, lora_alpha: 32, target_modules: all-linear}}     # keys of peft.LoraConfig
train: {{num_train_epochs: 3, learning_rate: 1e-3, seed: 0}}       # keys of transformers.TrainingArguments

evaluate:
  metrics: [accuracy, macro_f1]
  baselines: [base, tfidf]
  gate: {{metric: macro_f1, beats: [base, tfidf], margin: 0.0, confidence: 0.95}}   # what publishing asks for
"""


@verbs.command("list")
def list_(as_json: Json = False) -> None:
    """The recipes that are installed."""
    from vertical_sdk.recipe import load_recipe, recipe_names

    recipes = [load_recipe(name) for name in recipe_names()]
    if as_json:
        emit([{"name": r.name, "task": r.task, "base": r.base, "summary": r.summary} for r in recipes])
        return
    rows = [[r.name, r.task, r.base, r.summary] for r in recipes]
    show(table(["name", "task", "base", "what it does"], rows) if rows else "No recipe is installed.")


@verbs.command("show")
def show_(recipe: RecipeName, settings: Settings = None, as_json: Json = False) -> None:
    """A recipe with the defaults of all its keys filled in."""
    import yaml

    from vertical_sdk.recipe import load_recipe

    found = load_recipe(recipe, read_settings(settings))
    if as_json:
        emit({**found.to_dict(), "digest": found.digest})
        return
    show(yaml.safe_dump(found.to_dict(), sort_keys=False, allow_unicode=True, width=120).rstrip())
    say(f"digest {found.digest}")


@verbs.command()
def check(
    recipes: Annotated[list[str], typer.Argument(metavar="RECIPE...", help="Names, or YAML files.")],
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Check keys, names and arguments; ends with 2 where something is wrong."""
    chosen = read_settings(settings)
    found = [_checked(name, chosen) for name in recipes]
    if as_json:
        emit(found)
    else:
        for one in found:
            show(f"{one['recipe']}: ok" if one["ok"] else one["problem"])
    if not all(one["ok"] for one in found):
        raise typer.Exit(RecipeError.exit_code)


@verbs.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Such as my-task.")],
    data: Annotated[Path, typer.Option(metavar="FILE", help="Your rows: CSV, TSV, JSONL, JSON or Parquet.")],
    text: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column of the texts, found where it is not given.")
    ] = None,
    label: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column of the labels, likewise.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The recipe's file; NAME.yaml here where there is none.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Begin a recipe for your own rows; an existing file is never overwritten."""
    from vertical_sdk.paths import report_full_disk
    from vertical_sdk.recipe import load_recipe

    path = out or Path(f"{name.replace('/', '-')}.yaml")
    if path.exists():
        raise RunError(f"{path}: is there already, and is not overwritten. Choose another --out.")
    found_text, found_label = _columns(data, text, label)
    written = BEGIN.format(
        path=path,
        name=_quoted(name),
        summary=_quoted(f"The {found_label} of a text."),
        source=_quoted(str(data.resolve())),
        text=_quoted(found_text),
        label=_quoted(found_label),
        length=_length(data, found_text),
    )
    with report_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(written)
    try:
        load_recipe(path).check()
    except VerticalError:
        path.unlink()
        raise
    if as_json:
        emit({"recipe": path, "columns": {"text": found_text, "label": found_label}})
    else:
        show(f"{path}: texts from {found_text!r}, labels from {found_label!r}")
        say(f"Next: vertical data show {path}; vertical train {path}")


@verbs.command()
def schema(as_json: Json = False) -> None:
    """The JSON schema of a recipe, for editors."""
    from vertical_sdk.recipe import recipe_schema

    del as_json  # a schema is JSON either way
    emit(recipe_schema())


def _checked(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    from vertical_sdk.recipe import load_recipe

    try:
        recipe = load_recipe(name, settings)
        recipe.check()
    except VerticalError as error:
        return {"recipe": name, "ok": False, "problem": str(error)}
    return {"recipe": name, "ok": True, "digest": recipe.digest}


def _columns(path: Path, text: str | None, label: str | None) -> tuple[str, str]:
    """The columns of texts and labels, as given or found. Raises DataError."""
    from vertical_sdk.data.formats import read_file
    from vertical_sdk.data.layouts import find_layout

    given = {key: name for key, name in (("text", text), ("label", label)) if name}
    layout = find_layout(read_file(path), given, "classification", need_label=True)
    return layout.columns["text"], layout.columns["label"]


def _length(path: Path, column: str) -> int:
    """Tokens that 19 of 20 texts fit into, at three characters a token, within what a small encoder reads."""
    from vertical_sdk.data.formats import read_file

    lengths = sorted(len(str(row.get(column) or "")) for row in read_file(path).rows)
    long = lengths[int(0.95 * (len(lengths) - 1))] if lengths else 0
    return min(512, max(64, -(-long // 3 // 32) * 32))


def _quoted(text: str) -> str:
    """A text as YAML that means just that: JSON strings are YAML."""
    return json.dumps(text, ensure_ascii=False)
