"""vertical tune: search better settings of a recipe on its validation rows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Annotated

import typer

from vertical_sdk.cli.options import Json
from vertical_sdk.cli.output import emit, say, show, showing, table
from vertical_sdk.errors import RecipeError

__all__ = ["tune"]

UNITS = {"s": 1, "m": 60, "h": 3600}


def tune(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A name (see 'vertical recipe list') or a YAML file.")],
    budget: Annotated[str, typer.Option(metavar="TIME", help="How long this call may take: 90s, 30m or 2h.")],
    trials: Annotated[int | None, typer.Option(help="Trials of the whole study at most.")] = None,
    seeds: Annotated[int, typer.Option(help="Trainings of one trial, whose mean counts.")] = 1,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="The recipe to write; default: NAME-tuned.yaml.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Search settings with which a recipe does better on its validation rows. The same command continues the search."""
    from vertical_sdk.recipe import load_recipe

    seconds = _read_time(budget)
    load_recipe(recipe)  # report a wrong recipe before torch is loaded
    try:
        with showing() as progress:
            from vertical_sdk.tuning import tune as search
            from vertical_sdk.tuning.result import describe_settings

            tuned = search(recipe, budget=seconds, trials=trials, seeds=seeds, out=out, progress=progress)
    except KeyboardInterrupt:
        options = [*(["--trials", str(trials)] if trials else []), *(["--seeds", str(seeds)] if seeds != 1 else [])]
        options += ["-o", str(out)] if out else []
        say(f"Interrupted. Continue with: {shlex.join(['vertical', 'tune', recipe, '--budget', budget, *options])}")
        raise typer.Exit(130) from None
    if as_json:
        emit(tuned.to_dict())
        return
    rows = [[row.number, row.value, describe_settings(row.settings), row.state] for row in tuned.trials]
    show(table(["trial", f"{tuned.metric} (validation)", "settings", "end"], rows))
    say(tuned.text)
    say(f"Study: {tuned.page}")
    if tuned.recipe is not None:
        say(f"Train it, and see its gate on the test rows: vertical train {shlex.quote(str(tuned.recipe))}")


def _read_time(text: str) -> float:
    """Read a time such as 90s, 30m or 2h as seconds.

    Raises RecipeError.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if match is None or float(match[1]) == 0:
        raise RecipeError(f"--budget {text}: write a number above 0 and a unit: 90s, 30m or 2h.")
    return float(match[1]) * UNITS[match[2]]
