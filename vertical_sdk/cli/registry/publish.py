"""vertical registry publish, alias and tag: new versions and their names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vertical_sdk.cli.comparison import describe_gate
from vertical_sdk.cli.options import Json, RegistryAt
from vertical_sdk.cli.output import emit, say, show
from vertical_sdk.cli.registry.arguments import Expected, Force, Name, Why, parse_tags

__all__ = ["alias", "publish", "tag"]


def publish(
    adapter: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run or of an adapter.")],
    name: Annotated[str | None, typer.Option(help="The name to publish under; default: the recipe's name.")] = None,
    alias: Annotated[str | None, typer.Option(help="Point this alias, such as production, at the new version.")] = None,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Add a tag to the version. May be repeated.")
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Publish although the gate failed, with a --reason; the registry records this permanently."
        ),
    ] = False,
    reason: Annotated[str, typer.Option(help="Why, for the registry's log.")] = "",
    members_only: Annotated[
        bool, typer.Option("--members-only", help="Publish the members of its ensemble without the adapter: no base is needed.")
    ] = False,
    registry: RegistryAt = None,
    as_json: Json = False,
) -> None:
    """Publish an adapter that passed its gate as the next version of its name."""
    from vertical_sdk.registry import Registry
    from vertical_sdk.registry.checks import NOT_WORTH_IT
    from vertical_sdk.registry.policy import PASSING

    store = Registry(registry)
    version = store.publish(
        adapter, name, force=force, reason=reason, tags=parse_tags(tag), alias=alias, members_only=members_only
    )
    told = "" if members_only else _describe_report(adapter)
    if as_json:
        emit({**version.to_dict(), "report": told})
        return
    show(f"{version} (sha256:{version.digest[:16]}…){f', {alias}' if alias else ''}")
    contribution = version.card.metrics.get("contribution") or {}
    if contribution.get("outcome") in NOT_WORTH_IT:
        say(contribution["text"])
    if version.gate not in PASSING:
        say(
            f"It is marked as {describe_gate(version.gate, version.forced)}. An alias moves to it only by force, with a reason."
        )
    say(f"Published in {store.location}. Use it: VerticalModel.from_registry('{version.name}@{alias or version.number}')")
    if told:
        say(told)


def _describe_report(adapter: Path) -> str:
    """Whether the report that was published shows rows of data."""
    from vertical_sdk.card import read_card
    from vertical_sdk.evaluation_record import find_run, read_evaluation
    from vertical_sdk.registry.checks import find_adapter_folder
    from vertical_sdk.registry.public_report import describe_report

    folder, report = find_adapter_folder(adapter)
    run = find_run(folder)
    return describe_report(report, read_card(folder), read_evaluation(run) if run is not None else None)


def alias(
    name: Name,
    alias: Annotated[str, typer.Argument(metavar="ALIAS", help="Such as production.")],
    version: Annotated[
        int | None, typer.Argument(metavar="[VERSION]", help="The version that the alias should point at.")
    ] = None,
    expected: Expected = None,
    delete: Annotated[bool, typer.Option("--delete", help="Delete the alias; the version stays.")] = False,
    force: Force = False,
    why: Why = "",
    registry: RegistryAt = None,
    as_json: Json = False,
) -> None:
    """Point an alias at a version that passed its gate, or delete the alias."""
    from vertical_sdk.registry import Registry

    if delete == (version is not None):
        raise typer.BadParameter("give either a VERSION or --delete.")
    store = Registry(registry)
    if version is None:
        store.delete_alias(name, alias, expected=expected, why=why)
    else:
        store.set_alias(name, alias, version, expected=expected, force=force, why=why)
    if as_json:
        emit({"name": name, "alias": alias, "version": version})
    else:
        show(f"{name}@{alias} → {version}" if version is not None else f"{name}@{alias} was deleted")


def tag(
    name: Name,
    version: Annotated[int, typer.Argument(metavar="VERSION")],
    tags: Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", help="An empty value deletes the tag.")],
    why: Why = "",
    registry: RegistryAt = None,
    as_json: Json = False,
) -> None:
    """Set or delete tags of a version."""
    from vertical_sdk.registry import Registry

    store = Registry(registry)
    store.tag(name, version, {key: value or None for key, value in parse_tags(tags).items()}, why=why)
    changed = store.resolve(f"{name}@{version}", check=False)
    if as_json:
        emit(changed.to_dict())
    else:
        show(f"{changed}: " + (", ".join(f"{k}={v}" for k, v in changed.tags.items()) or "no tags"))
