"""vertical registry list, show, history, verify and gc: look up and check versions."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from vertical_sdk.cli.comparison import describe_gate, show_evaluation
from vertical_sdk.cli.options import Json, RegistryAt
from vertical_sdk.cli.output import emit, show, size, table
from vertical_sdk.cli.registry.arguments import Name, Reference
from vertical_sdk.errors import CorruptAdapter
from vertical_sdk.types import REPORTED

__all__ = ["gc", "history", "list_adapters", "show_version", "verify"]

SHOWN = {"rows", "systems", "tests", "confidence"}
"""What a card must state about its evaluation to be shown as tables; other software may write less."""


def list_adapters(
    prefix: Annotated[str | None, typer.Argument(metavar="[PREFIX]", help="Only names with this prefix.")] = None,
    registry: RegistryAt = None,
    as_json: Json = False,
) -> None:
    """List the published adapters."""
    from vertical_sdk.registry import Registry

    store = Registry(registry)
    summaries = store.list_adapters(prefix)
    if as_json:
        emit([asdict(summary) for summary in summaries])
        return
    rows = [
        [
            s.name,
            s.newest,
            ", ".join(f"{a} → {v}" for a, v in s.aliases.items()),
            s.task,
            s.base,
            _headline(s.metric, s.value),
            describe_gate(s.gate, s.forced),
        ]
        for s in summaries
    ]
    show(
        table(["name", "newest", "aliases", "task", "base", "result", "gate"], rows, title=f"Results and gates as {REPORTED}")
        if rows
        else f"Nothing is published in {store.location}."
    )


def show_version(reference: Reference, registry: RegistryAt = None, as_json: Json = False) -> None:
    """Check the files of a version and show what it is."""
    from vertical_sdk.card import hide_paths
    from vertical_sdk.registry import Registry

    version = Registry(registry).resolve(reference)
    card = hide_paths(version.card)
    if as_json:
        emit({**version.to_dict(), "path": str(version.path), "card": card.model_dump(mode="json")})
        return
    facts: list[tuple[str, Any]] = [
        ("version", version),
        ("aliases", ", ".join(version.aliases) or None),
        ("tags", ", ".join(f"{k}={v}" for k, v in version.tags.items()) or None),
        ("digest", f"sha256:{version.digest}"),
        ("published", f"{version.created} by {version.who}" + (" by force" if version.forced else "")),
        ("why", version.reason or None),
        ("task", card.task),
        ("base", f"{card.base.name} ({card.base.weights[:12]})"),
        ("recipe", f"{card.recipe['name']} ({card.recipe_digest[:12]})"),
        ("labels", len(card.labels) if card.labels else None),
        ("gate", describe_gate(version.gate, version.forced)),
        ("results", version.vouched),
        ("folder", version.path),
    ]
    show(table(["", ""], facts))
    if card.metrics.keys() >= SHOWN:
        show_evaluation({"gate": card.gate.model_dump() if card.gate else None, **card.metrics})


def history(
    name: Name,
    limit: Annotated[int | None, typer.Option(min=1, help="Only this many lines, the newest.")] = None,
    registry: RegistryAt = None,
    as_json: Json = False,
) -> None:
    """Show the log of a name: who changed what, when and why; newest last."""
    from vertical_sdk.registry import Registry

    events = Registry(registry).history(name, limit=limit, newest_first=True)[::-1]
    if as_json:
        emit([asdict(event) for event in events])
        return
    rows = [[e.at[:19].replace("T", " "), e.who, e.action, e.alias, _move(e.before, e.after), e.why] for e in events]
    show(table(["when", "who", "what", "alias", "version", "why"], rows))


def verify(
    reference: Annotated[str | None, typer.Argument(metavar="[REFERENCE]", help="One version; default: all versions.")] = None,
    registry: RegistryAt = None,
    as_json: Json = False,
) -> None:
    """Read every file again, and check digests and signatures; exit code 6 if something is wrong."""
    from vertical_sdk.registry import Registry
    from vertical_sdk.registry.signing import signature_problems

    store = Registry(registry)
    problems = [*store.verify(reference), *signature_problems(store, reference)]
    if as_json:
        emit({"ok": not problems, "problems": problems})
    else:
        signed = " and signed by a trusted key" if store.policy.requires_signature else ""
        for problem in problems or [f"Every file is as it was published{signed}."]:
            show(problem)
    if problems:
        raise typer.Exit(CorruptAdapter.exit_code)


def gc(registry: RegistryAt = None, as_json: Json = False) -> None:
    """Remove files that no version uses, such as those of an interrupted publish."""
    from vertical_sdk.registry import Registry

    freed = Registry(registry).gc()
    if as_json:
        emit({"freed_bytes": freed})
    else:
        show(f"{size(freed)} freed")


def _headline(metric: str | None, value: float | None) -> str | None:
    return None if metric is None or value is None else f"{metric} {value:.3f}"


def _move(before: int | None, after: int | None) -> str:
    if before is None or before == after:
        return str(after or "")
    return f"{before} → {after or 'none'}"
