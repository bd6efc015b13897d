"""vertical registry promote and rollback: an alias moves to a version that proved itself, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from vertical_sdk.cli.comparison import interval_text, p_text
from vertical_sdk.cli.options import Json, RegistryAt
from vertical_sdk.cli.output import emit, show, showing, table
from vertical_sdk.cli.registry import Name, Why, verbs
from vertical_sdk.errors import GateFailed

__all__ = ["promote", "rollback"]


@verbs.command()
def promote(
    name: Name,
    source: Annotated[str, typer.Option("--from", metavar="ALIAS|VERSION", help="The challenger: candidate, or 4.")],
    target: Annotated[str, typer.Option("--to", metavar="ALIAS", help="The alias to move: production.")],
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Rows with labels; the test rows of the challenger's recipe else.")
    ] = None,
    margin: Annotated[
        float,
        typer.Option(help="What the challenger must surely be better by; -0.01 allows it to be worse by up to 0.01."),
    ] = 0.0,
    force: Annotated[bool, typer.Option("--force", help="Move it against the verdict; the log says so for ever.")] = False,
    why: Why = "",
    registry: RegistryAt = None,
    as_json: Json = False,
) -> None:
    """Move an alias to a version that beats the one it stands at, on the same rows; ends with 8 where it does not."""
    with showing() as progress:
        from vertical_sdk.promotion import promote as compare_and_move
        from vertical_sdk.registry import Registry

        found = compare_and_move(
            Registry(registry), name, source, target, data=data, margin=margin, force=force, why=why, progress=progress
        ).to_dict()
    if as_json:
        emit(found)
    else:
        _show(found)
    if not found["moved"]:
        raise typer.Exit(GateFailed.exit_code)


@verbs.command()
def rollback(
    name: Name,
    alias: Annotated[str, typer.Option(metavar="ALIAS", help="The alias to take back: production.")],
    why: Why = "",
    registry: RegistryAt = None,
    as_json: Json = False,
) -> None:
    """Put an alias back to the version that held it before; a second time, to the one before that."""
    from vertical_sdk.registry import Registry
    from vertical_sdk.registry.aliases import rollback as go_back

    moved = go_back(Registry(registry), name, alias, why=why)
    if as_json:
        emit(asdict(moved))
        return
    show(f"{name}@{alias}: {moved.before} → {moved.after}")
    if moved.skipped:
        show(f"Passed over, as revoked: {', '.join(map(str, moved.skipped))}")


def _show(found: Mapping[str, Any]) -> None:
    if found["metric"] is not None:
        rows = [
            [who, f"{found['name']}@{found[who]}", interval_text(found[f"{who}_value"])] for who in ("challenger", "champion")
        ]
        rows.append(["difference", f"p {p_text(found['p_value'])}", interval_text(found["difference"], "+")])
        title = f"On {found['rows']} rows ({found['rows_from']}), with {100 * found['confidence']:g}% intervals"
        show(table(["", "", found["metric"]], rows, title=title))
    for note in found["notes"]:
        show(note)
    show(f"Verdict: {'passed' if found['verdict']['passed'] else 'FAILED'}")
    for reason in found["verdict"]["reasons"]:
        show(f"  {reason}")
    where = f"{found['name']}@{found['alias']}"
    if found["moved"]:
        by_force = " by force" if found["forced"] else ""
        show(f"{where}: {found['champion'] or 'new'} → {found['challenger']}{by_force}")
        return
    show(f"{where} stays {'at ' + str(found['champion']) if found['champion'] else 'away'}.")
