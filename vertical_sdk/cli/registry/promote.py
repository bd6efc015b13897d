"""vertical registry promote and rollback: move an alias to a version that is better, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from vertical_sdk.cli.comparison import interval_text, p_text
from vertical_sdk.cli.options import AllowSource, Json, RegistryAt
from vertical_sdk.cli.output import emit, show, showing, table
from vertical_sdk.cli.registry.arguments import Force, Name, Why
from vertical_sdk.errors import GateFailed

__all__ = ["promote", "rollback"]


def promote(
    name: Name,
    source: Annotated[str, typer.Option("--from", metavar="ALIAS|VERSION", help="The challenger, such as candidate or 4.")],
    target: Annotated[str, typer.Option("--to", metavar="ALIAS", help="The alias to move, such as production.")],
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Rows with labels; default: the test rows of the challenger's recipe.")
    ] = None,
    margin: Annotated[
        float,
        typer.Option(
            help="How much better the challenger must be, with confidence; -0.01 allows it to be worse by up to 0.01."
        ),
    ] = 0.0,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Move it although the verdict is negative, with a --reason; the log records this permanently."
        ),
    ] = False,
    why: Why = "",
    allow_source: AllowSource = None,
    registry: RegistryAt = None,
    as_json: Json = False,
) -> None:
    """Move an alias to a version that is better on the same rows than the current one; exit code 8 if it is not."""
    with showing() as progress:
        from vertical_sdk.promotion import promote as compare_and_move
        from vertical_sdk.registry import Registry

        result = compare_and_move(
            Registry(registry),
            f"{name}@{source}",
            target,
            data=data,
            margin=margin,
            force=force,
            why=why,
            allow_sources=allow_source or (),
            progress=progress,
        ).to_dict()
    if as_json:
        emit(result)
    else:
        _show(result)
    if not result["moved"]:
        raise typer.Exit(GateFailed.exit_code)


def rollback(
    name: Name,
    alias: Annotated[str, typer.Option(metavar="ALIAS", help="The alias to move back, such as production.")],
    force: Force = False,
    why: Why = "",
    registry: RegistryAt = None,
    as_json: Json = False,
) -> None:
    """Move an alias back to its previous version; a second rollback moves it to the version before that."""
    from vertical_sdk.registry import Registry
    from vertical_sdk.registry.aliases import rollback as move_back

    moved = move_back(Registry(registry), name, alias, force=force, why=why)
    if as_json:
        emit(asdict(moved))
        return
    show(f"{name}@{alias}: {moved.before} → {moved.after}")
    if moved.skipped:
        show(f"Skipped, because revoked: {', '.join(map(str, moved.skipped))}")


def _show(result: Mapping[str, Any]) -> None:
    if result["metric"] is not None:
        rows = [
            [role, f"{result['name']}@{result[role]}", interval_text(result[f"{role}_value"])]
            for role in ("challenger", "champion")
        ]
        rows.append(["difference", f"p {p_text(result['p_value'])}", interval_text(result["difference"], "+")])
        title = f"On {result['rows']} rows ({result['rows_from']}), with {100 * result['confidence']:g}% intervals"
        show(table(["", "", result["metric"]], rows, title=title))
    for note in result["notes"]:
        show(note)
    show(f"Verdict: {'passed' if result['verdict']['passed'] else 'FAILED'}")
    for reason in result["verdict"]["reasons"]:
        show(f"  {reason}")
    reference = f"{result['name']}@{result['alias']}"
    if result["moved"]:
        by_force = " by force" if result["forced"] else ""
        show(f"{reference}: {result['champion'] or 'new'} → {result['challenger']}{by_force}")
        return
    show(f"{reference} {'stays at ' + str(result['champion']) if result['champion'] else 'was not created'}.")
