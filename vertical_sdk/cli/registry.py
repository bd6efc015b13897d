"""vertical registry: publish, name, look up and check adapters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from vertical_sdk.cli.options import Json, RegistryAt, group
from vertical_sdk.cli.output import emit, say, show, size, table
from vertical_sdk.errors import CorruptAdapter, RegistryError

__all__ = ["verbs"]

verbs = group("Publish, name, look up and check adapters.")
Name = Annotated[str, typer.Argument(metavar="NAME", help="Such as medical/icd-chapter.")]
Reference = Annotated[str, typer.Argument(metavar="REFERENCE", help="NAME, NAME@3, NAME@ALIAS or NAME@sha256:DIGEST.")]
Why = Annotated[str, typer.Option("--why", help="Why, for the registry's log.")]
Expected = Annotated[
    int | None,
    typer.Option(metavar="VERSION", help="Only if the alias stands at this version now (0: at none); safe against others."),
]


@verbs.command("list")
def list_(
    prefix: Annotated[str | None, typer.Argument(metavar="[PREFIX]", help="Only names that begin so.")] = None,
    registry: RegistryAt = None,
    as_json: Json = False,
) -> None:
    """What is published."""
    from vertical_sdk.registry import Registry

    store = Registry(registry)
    found = store.list_adapters(prefix)
    if as_json:
        emit([asdict(summary) for summary in found])
        return
    rows = [
        [s.name, s.newest, ", ".join(f"{a} → {v}" for a, v in s.aliases.items()), s.task, s.base, _headline(s.metric, s.value)]
        for s in found
    ]
    show(
        table(["name", "newest", "aliases", "task", "base", "result"], rows)
        if rows
        else f"Nothing is published in {store.location}."
    )


@verbs.command("show")
def show_(reference: Reference, registry: RegistryAt = None, as_json: Json = False) -> None:
    """What a version is, after its files were checked."""
    from vertical_sdk.registry import Registry

    version = Registry(registry).resolve(reference)
    card = version.card
    if as_json:
        emit({**version.to_dict(), "path": str(version.path), "card": card.model_dump(mode="json")})
        return
    facts: list[tuple[str, Any]] = [
        ("version", version),
        ("aliases", ", ".join(version.aliases) or None),
        ("tags", ", ".join(f"{k}={v}" for k, v in version.tags.items()) or None),
        ("digest", f"sha256:{version.digest}"),
        ("published", f"{version.created} by {version.who}" + (" against its gate" if version.forced else "")),
        ("why", version.reason or None),
        ("task", card.task),
        ("base", f"{card.base.name} ({card.base.weights[:12]})"),
        ("recipe", f"{card.recipe['name']} ({card.recipe_digest[:12]})"),
        ("labels", len(card.labels) if card.labels else None),
        ("gate", version.gate),
        ("folder", version.path),
    ]
    show(table(["", ""], facts))
    if card.metrics:
        from vertical_sdk.cli.comparison import show_evaluation

        show_evaluation({"gate": card.gate.model_dump() if card.gate else None, **card.metrics})


@verbs.command()
def publish(
    adapter: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or an adapter's.")],
    name: Annotated[str | None, typer.Option(help="Another name than the recipe's.")] = None,
    alias: Annotated[str | None, typer.Option(help="Point this alias at the new version, such as production.")] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="A tag of the version. May be repeated.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Publish against the gate; the registry says so for ever.")] = False,
    reason: Annotated[str, typer.Option(help="Why, for the registry's log.")] = "",
    registry: RegistryAt = None,
    as_json: Json = False,
) -> None:
    """Publish an adapter that passed its gate as the next version of its name."""
    from vertical_sdk.registry import Registry
    from vertical_sdk.registry.references import check_alias

    if alias is not None:
        check_alias(alias)  # before anything is published
    store = Registry(registry)
    version = store.publish(adapter, name, force=force, reason=reason, tags=_tags(tag))
    if alias:
        store.set_alias(version.name, alias, version.number, why=reason)
        version = store.resolve(str(version))
    if as_json:
        emit(version.to_dict())
        return
    show(f"{version} (sha256:{version.digest[:16]}…){f', {alias}' if alias else ''}")
    say(f"In {store.location}. Use it: VerticalModel.from_registry('{version.name}@{alias or version.number}')")


@verbs.command()
def alias(
    name: Name,
    alias: Annotated[str, typer.Argument(metavar="ALIAS", help="Such as production.")],
    version: Annotated[int | None, typer.Argument(metavar="[VERSION]", help="The version to point at.")] = None,
    expected: Expected = None,
    delete: Annotated[bool, typer.Option("--delete", help="Take the alias away; the version stays.")] = False,
    why: Why = "",
    registry: RegistryAt = None,
    as_json: Json = False,
) -> None:
    """Point an alias at a version, or take it away."""
    from vertical_sdk.registry import Registry

    if delete == (version is not None):
        raise typer.BadParameter("give a version to point at, or --delete.")
    store = Registry(registry)
    if version is None:
        store.delete_alias(name, alias, expected=expected, why=why)
    else:
        store.set_alias(name, alias, version, expected=expected, why=why)
    if as_json:
        emit({"name": name, "alias": alias, "version": version})
    else:
        show(f"{name}@{alias} → {version}" if version is not None else f"{name}@{alias} is gone")


@verbs.command()
def tag(
    name: Name,
    version: Annotated[int, typer.Argument(metavar="VERSION")],
    tags: Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", help="An empty value takes the tag away.")],
    why: Why = "",
    registry: RegistryAt = None,
    as_json: Json = False,
) -> None:
    """Set tags of a version."""
    from vertical_sdk.registry import Registry

    store = Registry(registry)
    store.tag(name, version, {key: value or None for key, value in _tags(tags).items()}, why=why)
    changed = store.resolve(f"{name}@{version}", check=False)
    if as_json:
        emit(changed.to_dict())
    else:
        show(f"{changed}: " + (", ".join(f"{k}={v}" for k, v in changed.tags.items()) or "no tags"))


@verbs.command()
def history(
    name: Name,
    limit: Annotated[int | None, typer.Option(min=1, help="The newest so many lines.")] = None,
    registry: RegistryAt = None,
    as_json: Json = False,
) -> None:
    """Who published, aliased and tagged what, when and why; the newest last."""
    from vertical_sdk.registry import Registry

    events = Registry(registry).history(name, limit=limit, newest_first=True)[::-1]
    if as_json:
        emit([asdict(event) for event in events])
        return
    rows = [[e.at[:19].replace("T", " "), e.who, e.action, e.alias, _move(e.before, e.after), e.why] for e in events]
    show(table(["when", "who", "what", "alias", "version", "why"], rows))


@verbs.command()
def verify(
    reference: Annotated[str | None, typer.Argument(metavar="[REFERENCE]", help="One version; everything else.")] = None,
    registry: RegistryAt = None,
    as_json: Json = False,
) -> None:
    """Read every file anew, compare it with its digest and look at signatures; ends with 6 where something is wrong."""
    from vertical_sdk.registry import Registry
    from vertical_sdk.registry.signing import signature_problems

    store = Registry(registry)
    wrong = [*store.verify(reference), *signature_problems(store, reference)]
    if as_json:
        emit({"ok": not wrong, "problems": wrong})
    else:
        signed = " and signed by someone trusted" if store.policy.requires_signature else ""
        show("\n".join(wrong) if wrong else f"Every file is as it was published{signed}.")
    if wrong:
        raise typer.Exit(CorruptAdapter.exit_code)


@verbs.command()
def gc(registry: RegistryAt = None, as_json: Json = False) -> None:
    """Remove what no version uses, such as what a killed publish left."""
    from vertical_sdk.registry import Registry

    freed = Registry(registry).gc()
    if as_json:
        emit({"freed_bytes": freed})
    else:
        show(f"{size(freed)} freed")


def _tags(texts: Sequence[str] | None) -> dict[str, str]:
    tags = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not equals:
            raise RegistryError(f"tag {text!r}: write KEY=VALUE.")
        tags[key] = value
    return tags


def _headline(metric: str | None, value: float | None) -> str | None:
    return None if metric is None or value is None else f"{metric} {value:.3f}"


def _move(before: int | None, after: int | None) -> str:
    if before is None or before == after:
        return str(after or "")
    return f"{before} → {after or 'none'}"


from vertical_sdk.cli import (  # noqa: E402  (their verbs stand on the group above)
    registry_import,  # noqa: F401
    registry_lineage,  # noqa: F401
    registry_promote,  # noqa: F401
    registry_server,  # noqa: F401
    registry_transport,  # noqa: F401
    registry_trust,  # noqa: F401
)
