"""vertical recipe: list, show, check and create recipes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from vertical_sdk.cli.options import Json, Settings, group, read_settings
from vertical_sdk.cli.output import emit, say, show, table
from vertical_sdk.errors import RecipeError, RunError, VerticalError

__all__ = ["verbs"]

verbs = group("Recipes: the YAML files that specialists are trained from.")
RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A name, or a YAML file.")]

TEMPLATE = """\
# A recipe. Every key and its default: vertical recipe schema
# Check it:   vertical recipe check {path}
# Show rows:  vertical data show {path}
# Train it:   vertical train {path}
name: {name}
task: classification              # or multilabel, ordinal, regression, generation
summary: {summary}
base: minilm-l6                   # small and fast on a CPU; see: vertical base list

data:
  source: {source}
  columns: {{text: {text}, label: {label}}}   # the file's columns; group: keeps rows of one patient or contract in one split
  # license: CC-BY-4.0            # licence of the data, for the card
  # deidentify: {{use: presidio, on_hit: surrogate}}
  split: {{use: stratified, test: 0.2, validation: 0.1}}
  max_length: {length:<18}  # tokens; longer texts are cut, and counted

adapter: {{r: 16, lora_alpha: 32, target_modules: all-linear}}     # keys of peft.LoraConfig
train: {{num_train_epochs: 3, learning_rate: 1e-3, seed: 0}}       # keys of transformers.TrainingArguments

evaluate:
  metrics: [accuracy, macro_f1]
  baselines: [base, tfidf]
  gate: {{metric: macro_f1, beats: [base, tfidf], margin: 0.0, confidence: 0.95}}   # publishing requires this
"""


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
    show(yaml.safe_dump(loaded.to_dict(), sort_keys=False, allow_unicode=True, width=120).rstrip())
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
            show(f"{result['recipe']}: ok" if result["ok"] else result["problem"])
    if not all(result["ok"] for result in results):
        raise typer.Exit(RecipeError.exit_code)


@verbs.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Such as my-task.")],
    data: Annotated[Path, typer.Option(metavar="FILE", help="Your rows: CSV, TSV, JSONL, JSON or Parquet.")],
    text: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column of the texts; default: detected.")] = None,
    label: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column of the labels; default: detected.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="The recipe's file; default: NAME.yaml.")] = None,
    as_json: Json = False,
) -> None:
    """Create a recipe for your own rows. An existing file is never overwritten."""
    from vertical_sdk.paths import report_full_disk
    from vertical_sdk.recipe import load_recipe

    path = out or Path(f"{name.replace('/', '-')}.yaml")
    if path.exists():
        raise RunError("the file exists already and is never overwritten. Choose another --out.", where=path)
    text_column, label_column = _detect_columns(data, text, label)
    written = TEMPLATE.format(
        path=path,
        name=_quote(name),
        summary=_quote(f"The {label_column} of a text."),
        source=_quote(str(data.resolve())),
        text=_quote(text_column),
        label=_quote(label_column),
        length=_estimate_length(data, text_column),
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
        emit({"recipe": path, "columns": {"text": text_column, "label": label_column}})
    else:
        show(f"{path}: texts from {text_column!r}, labels from {label_column!r}")
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


def _detect_columns(path: Path, text: str | None, label: str | None) -> tuple[str, str]:
    """The columns of texts and labels, as given or detected. Raises DataError."""
    from vertical_sdk.data.formats import read_file
    from vertical_sdk.data.layouts import find_layout

    given = {key: name for key, name in (("text", text), ("label", label)) if name}
    layout = find_layout(read_file(path), given, "classification", need_label=True)
    return layout.columns["text"], layout.columns["label"]


def _estimate_length(path: Path, column: str) -> int:
    """Tokens that 95% of the texts fit into, at three characters a token, at most the length limit of a small encoder."""
    from vertical_sdk.data.formats import read_file

    lengths = sorted(len(str(row.get(column) or "")) for row in read_file(path).rows)
    long = lengths[int(0.95 * (len(lengths) - 1))] if lengths else 0
    return min(512, max(64, -(-long // 3 // 32) * 32))


def _quote(text: str) -> str:
    """Write a text as a YAML string; JSON strings are valid YAML."""
    return json.dumps(text, ensure_ascii=False)
