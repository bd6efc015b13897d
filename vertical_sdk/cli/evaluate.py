"""vertical evaluate: compare a specialist with its base and its baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vertical_sdk.cli.comparison import show_evaluation, show_report
from vertical_sdk.cli.options import AllowRevoked, AllowSource, Json, RegistryAt
from vertical_sdk.cli.output import emit, showing
from vertical_sdk.errors import RunError

__all__ = ["evaluate"]


def evaluate(
    adapter: Annotated[str, typer.Argument(metavar="ADAPTER", help="NAME@VERSION, or a folder: ./RUN, /path/RUN or runs/RUN.")],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Rows with labels; those it was trained on are left out. Default: the recipe's test rows."
        ),
    ] = None,
    registry: RegistryAt = None,
    allow_revoked: AllowRevoked = None,
    allow_source: AllowSource = None,
    as_json: Json = False,
) -> None:
    """Measure a specialist, its base and its recipe's baselines, with intervals."""
    with showing() as progress:
        from vertical_sdk.evaluation import evaluate as measure
        from vertical_sdk.registry import Registry

        evaluation = measure(
            adapter,
            data=data,
            registry=Registry(registry),
            allow_revoked=allow_revoked or (),
            allow_sources=allow_source or (),
            progress=progress,
        ).to_dict()
    if as_json:
        emit(evaluation)
    else:
        show_evaluation(evaluation)
    if evaluation["unwritten"] or not as_json:
        show_report(evaluation)
    if evaluation["unwritten"]:
        raise typer.Exit(RunError.exit_code)
