"""vertical train: train and evaluate an adapter from a recipe."""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from pathlib import Path
from typing import Annotated

import typer

from vertical_sdk.cli.comparison import show_evaluation, show_report
from vertical_sdk.cli.notes import list_notes
from vertical_sdk.cli.options import Json, Settings, read_settings
from vertical_sdk.cli.output import emit, say, showing

__all__ = ["train"]


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A name (see 'vertical recipe list') or a YAML file.")],
    base: Annotated[str | None, typer.Option(help="Another base model: a name, a hub id or a folder.")] = None,
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="The run's folder; default: runs/NAME-TIME.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run that was interrupted.")] = False,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="REFERENCE",
            help="An adapter to start from, in place of the recipe's start: a reference in your registry, or a folder: ./RUN, /path/RUN or "
            "runs/RUN.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a specialist, and compare it with its base and classical baselines on rows that it never saw."""
    from vertical_sdk.recipe import load_recipe
    from vertical_sdk.types import silent

    chosen = read_settings(settings)
    load_recipe(recipe, chosen)  # report a wrong recipe before torch is loaded
    started = time.monotonic()
    first = os.environ.get("RANK", "0") == "0"  # of the processes of accelerate, only the first prints and evaluates
    try:
        with showing() if first else contextlib.nullcontext(silent) as progress:
            from vertical_sdk.evaluation import evaluate
            from vertical_sdk.registry import Registry
            from vertical_sdk.registry.policy import Policy
            from vertical_sdk.training import train as train_recipe

            run = train_recipe(recipe, base=base, settings=chosen, out=out, resume=resume, start=start, progress=progress)
            if not first:
                raise typer.Exit
            # written by this process just now, so it has no signature yet
            evaluation = evaluate(run.path, registry=Registry(policy=Policy()), memory=run.memory, progress=progress).to_dict()
    except KeyboardInterrupt:
        options = [*(["--base", base] if base else []), *(f"--set={text}" for text in settings or ())]
        options += ["--from", start] if start else []
        options += ["--out", str(out)] if out else []
        say(f"Interrupted. Continue with: {shlex.join(['vertical', 'train', recipe, *options, '--resume'])}")
        raise typer.Exit(130) from None
    card = run.card
    gate = evaluation["gate"]
    if as_json:
        paths = {"run": run.path, "adapter": run.adapter, "report": evaluation["report"]}
        emit(
            {
                **paths,
                "resumed_from": run.resumed_from,
                "seconds": round(time.monotonic() - started, 1),
                "training": card.training,
                "evaluation": evaluation,
                "gate": gate,
            }
        )
        return
    show_evaluation(evaluation)
    for note in list_notes(card.account):
        say(f"note: {note}")
    say(f"Run: {run.path} ({time.monotonic() - started:.0f} s)")
    show_report(evaluation)
    if gate and not gate["passed"]:
        say("The gate failed: the specialist is not shown to be better, and 'vertical registry publish' will reject it.")
    elif not gate:
        say(f"It will be marked as ungated if you publish it: vertical registry publish {shlex.quote(str(run.path))}")
    else:
        say(f"Publish it: vertical registry publish {shlex.quote(str(run.path))}")
