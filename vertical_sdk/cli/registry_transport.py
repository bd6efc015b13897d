"""vertical registry copy, bundle and unbundle: versions that move to another place."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vertical_sdk.cli.options import AllowRevoked, Json, RegistryAt
from vertical_sdk.cli.output import emit, say, show, showing, size, table
from vertical_sdk.cli.registry import verbs

if TYPE_CHECKING:
    from vertical_sdk.registry.copying import CopyReport

__all__ = ["bundle", "copy", "unbundle"]

Names = Annotated[list[str] | None, typer.Option("--name", metavar="NAME", help="Only this name; all else. May be repeated.")]
Overwrite = Annotated[bool, typer.Option("--overwrite-aliases", help="Move aliases that stand at other versions there.")]
GB = 1_000_000_000


@verbs.command()
def copy(
    source: Annotated[str, typer.Argument(metavar="SRC", help="The registry to copy from: a folder or an address.")],
    target: Annotated[str, typer.Argument(metavar="DST", help="The registry to copy to.")],
    name: Names = None,
    overwrite_aliases: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Copy versions, aliases, tags, signatures and revocations between two registries; run it again after it was stopped."""
    with showing() as progress:
        from vertical_sdk.registry import Registry
        from vertical_sdk.registry.copying import copy as copy_versions

        account = copy_versions(
            Registry(source), Registry(target), name or (), overwrite_aliases=overwrite_aliases, progress=progress
        )
    _tell(account, as_json=as_json)


@verbs.command()
def bundle(
    references: Annotated[
        list[str], typer.Argument(metavar="REFERENCE...", help="NAME (its newest version), NAME@3, NAME@ALIAS, ...")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The bundle, such as adapters.zip.")],
    allow_revoked: AllowRevoked = None,
    registry: RegistryAt = None,
    as_json: Json = False,
) -> None:
    """Write versions into one file that can be carried where there is no network."""
    with showing() as progress:
        from vertical_sdk.paths import file_digest
        from vertical_sdk.registry import Registry
        from vertical_sdk.registry.bundle import bundle as write

        versions = write(Registry(registry), references, out, allow_revoked=allow_revoked or (), progress=progress)
    sha256, large = file_digest(out), out.stat().st_size
    if as_json:
        emit({"file": out, "sha256": sha256, "bytes": large, "versions": [str(version) for version in versions]})
        return
    show(f"{out} ({size(large)}, SHA-256 {sha256}): {', '.join(str(version) for version in versions)}")
    say(f"Take it in elsewhere: vertical registry unbundle {out.name}")


@verbs.command()
def unbundle(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `vertical registry bundle` wrote.")],
    name: Names = None,
    overwrite_aliases: Overwrite = False,
    limit: Annotated[
        float | None, typer.Option(metavar="GB", min=0.0, help="The largest bundle that is read; 10 GB else.")
    ] = None,
    registry: RegistryAt = None,
    as_json: Json = False,
) -> None:
    """Publish the versions of a bundle, each checked as a publish checks it; all of the bundle is looked at first."""
    with showing() as progress:
        from vertical_sdk.registry import Registry
        from vertical_sdk.registry.bundle import LIMIT
        from vertical_sdk.registry.bundle import unbundle as read

        account = read(
            file,
            Registry(registry),
            name or (),
            limit=LIMIT if limit is None else int(limit * GB),
            overwrite_aliases=overwrite_aliases,
            progress=progress,
        )
    _tell(account, as_json=as_json)


def _tell(account: CopyReport, *, as_json: bool) -> None:
    if as_json:
        emit(asdict(account))
        return
    rows = [[version.name, version.before, version.after, "new" if version.new else "was here"] for version in account.versions]
    show(table(["name", "version there", "version here", ""], rows) if rows else "Nothing is there to copy.")
    for alias in account.aliases:
        if alias.outcome in {"set", "moved"}:
            show(f"{alias.name}@{alias.alias} → {alias.version}")
    for alias in account.conflicts:
        say(
            f"{alias.name}@{alias.alias} stands at version {alias.previous} here and was left there; there it stands at what is {alias.version} "
            "here. --overwrite-aliases moves it."
        )
