"""vertical registry copy, bundle and unbundle: move versions to another registry."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vertical_sdk.cli.options import AllowRevoked, Json, RegistryAt
from vertical_sdk.cli.output import emit, say, show, showing, size, table

if TYPE_CHECKING:
    from vertical_sdk.registry.copying import CopyReport

__all__ = ["bundle", "copy", "unbundle"]

Names = Annotated[
    list[str] | None, typer.Option("--name", metavar="NAME", help="Only this name; default: all names. May be repeated.")
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite-aliases", help="Also move aliases that point at other versions in the target.")
]
GB = 1_000_000_000


def copy(
    source: Annotated[str, typer.Argument(metavar="SRC", help="The registry to copy from: a folder or an address.")],
    target: Annotated[str, typer.Argument(metavar="DST", help="The registry to copy to.")],
    name: Names = None,
    overwrite_aliases: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Copy versions, aliases, tags, signatures and revocations to another registry. If it is interrupted, run it again."""
    with showing() as progress:
        from vertical_sdk.registry import Registry
        from vertical_sdk.registry.copying import copy_versions

        report = copy_versions(
            Registry(source), Registry(target), name or (), overwrite_aliases=overwrite_aliases, progress=progress
        )
    _show_report(report, as_json=as_json)


def bundle(
    references: Annotated[
        list[str], typer.Argument(metavar="REFERENCE...", help="NAME (its newest version), NAME@3, NAME@ALIAS, ...")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The bundle, such as adapters.zip.")],
    allow_revoked: AllowRevoked = None,
    registry: RegistryAt = None,
    as_json: Json = False,
) -> None:
    """Write versions into one file, for a machine without a network."""
    with showing() as progress:
        from vertical_sdk.paths import file_digest
        from vertical_sdk.registry import Registry
        from vertical_sdk.registry.bundle import bundle as write_bundle

        versions = write_bundle(Registry(registry), references, out, allow_revoked=allow_revoked or (), progress=progress)
    sha256, large = file_digest(out), out.stat().st_size
    if as_json:
        emit({"file": out, "sha256": sha256, "bytes": large, "versions": [str(version) for version in versions]})
        return
    show(f"{out} ({size(large)}, SHA-256 {sha256}): {', '.join(str(version) for version in versions)}")
    say(f"Publish it on another machine: vertical registry unbundle {out.name}")


def unbundle(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `vertical registry bundle` wrote.")],
    name: Names = None,
    trust_notes: Annotated[
        bool,
        typer.Option("--trust-notes", help="Also take its tags, aliases, revocations, signatures, users and times."),
    ] = False,
    overwrite_aliases: Overwrite = False,
    limit: Annotated[
        float | None, typer.Option(metavar="GB", min=0.0, help="The size of the largest bundle to read; default: 10 GB.")
    ] = None,
    registry: RegistryAt = None,
    as_json: Json = False,
) -> None:
    """Publish the versions of a bundle. The whole bundle is checked first, and each version as `publish` checks it."""
    with showing() as progress:
        from vertical_sdk.registry import Registry
        from vertical_sdk.registry.bundle import LIMIT
        from vertical_sdk.registry.bundle import unbundle as read_bundle

        report = read_bundle(
            file,
            Registry(registry),
            name or (),
            limit=LIMIT if limit is None else int(limit * GB),
            trust_notes=trust_notes,
            overwrite_aliases=overwrite_aliases,
            progress=progress,
        )
    _show_report(report, as_json=as_json)


def _show_report(report: CopyReport, *, as_json: bool) -> None:
    if as_json:
        emit(asdict(report))
        return
    rows = [
        [version.name, version.before, version.after, "new" if version.new else "already present"]
        for version in report.versions
    ]
    show(table(["name", "version in the source", "version in the target", ""], rows) if rows else "There is nothing to copy.")
    for alias in report.aliases:
        if alias.outcome in {"set", "moved"}:
            show(f"{alias.name}@{alias.alias} → {alias.version}")
    for line in report.notes:
        say(line)
    for alias in report.conflicts:
        say(
            f"{alias.name}@{alias.alias} points at version {alias.previous} in the target and was not moved. In the source it points at the "
            f"version that is {alias.version} in the target. --overwrite-aliases moves it."
        )
