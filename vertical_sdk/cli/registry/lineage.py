"""vertical registry lineage, diff, search and used-data: where versions come from, and how they differ."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

import typer

from vertical_sdk.cli.comparison import describe_gate, interval_text
from vertical_sdk.cli.options import Json, RegistryAt
from vertical_sdk.cli.output import emit, say, show, table
from vertical_sdk.cli.registry.arguments import Reference
from vertical_sdk.types import REPORTED

__all__ = ["diff", "lineage", "search", "used_data"]

Field = Literal["id", "group"]
DIGITS = 12
"""Digits of a digest that a table shows."""


def lineage(reference: Reference, registry: RegistryAt = None, as_json: Json = False) -> None:
    """Show where a version comes from: its base, recipe, data, parents, author and results."""
    from vertical_sdk.registry import Registry
    from vertical_sdk.registry.lineage import lineage as find_lineage

    origin = find_lineage(Registry(registry), reference)
    if as_json:
        emit(origin.to_dict())
        return
    base = origin.base
    rows: list[tuple[str, Any]] = [
        ("version", origin.reference),
        ("digest", f"sha256:{origin.digest}"),
        ("published", f"{origin.created} by {origin.who}" + (" by force" if origin.forced else "")),
        ("why", origin.reason or None),
        ("revoked", origin.revoked),
        ("aliases", ", ".join(origin.aliases) or None),
        ("signed by", ", ".join(origin.signed_by) or None),
        ("trained", "by other software, then imported" if origin.imported else origin.trained or None),
        ("base", f"{base['name']}, a {base['architecture']} ({base['license'] or 'licence not stated'})"),
        ("base's weights", f"sha256:{base['weights']}"),
        ("base's tokenizer", f"sha256:{base['tokenizer']}"),
        ("recipe", f"{origin.recipe['name']} (sha256:{origin.recipe['digest']})"),
        *(
            (
                "data",
                f"{source['source']} (sha256:{source['sha256'] or 'unknown'}, {source['license'] or 'licence not stated'})",
            )
            for source in origin.sources
        ),
        (
            "record index",
            "; ".join(
                f"{part}: {', '.join(f'{n} {k}s' for k, n in counts.items())}" for part, counts in origin.remembers.items()
            )
            or None,
        ),
        *(
            (
                "parent" if n == 0 else "its parent",
                f"{parent.version or f'{parent.given}, not in this registry'} (weights {parent.weights[:DIGITS]})",
            )
            for n, parent in enumerate(origin.parents)
        ),
        ("continued by", ", ".join(origin.children) or None),
        ("software", ", ".join(f"{name} {number}" for name, number in origin.versions.items()) or None),
        ("gate", f"{describe_gate(origin.gate, origin.forced)} ({origin.vouched})"),
        *(("", reason) for reason in (origin.verdict or {}).get("reasons", ())),
    ]
    show(table(["", ""], rows))
    measured = {name: metrics for name, metrics in origin.metrics.items() if metrics}
    names = list(dict.fromkeys(metric for metrics in measured.values() for metric in metrics))
    if names:
        show(
            table(
                ["system", *names],
                [[system, *(interval_text(metrics.get(name)) for name in names)] for system, metrics in measured.items()],
            )
        )


def diff(
    first: Annotated[str, typer.Argument(metavar="REFERENCE")],
    second: Annotated[str, typer.Argument(metavar="REFERENCE")],
    registry: RegistryAt = None,
    as_json: Json = False,
) -> None:
    """Show how two versions differ: base, recipe, data, metrics and files, side by side."""
    from vertical_sdk.registry import Registry
    from vertical_sdk.registry.lineage import diff as compare

    difference = compare(Registry(registry), first, second)
    if as_json:
        emit(difference.to_dict())
        return
    sides = {"base": difference.base, "recipe": difference.recipe, "data": difference.sources, "software": difference.versions}
    rows = [[what, key, _shorten(s.first), _shorten(s.second)] for what, pairs in sides.items() for key, s in pairs.items()]
    rows += [["file", path, change, ""] for path, change in difference.files.items()]
    show(
        table(["", "", difference.first, difference.second], rows)
        if rows
        else f"{difference.first} and {difference.second} are the same."
    )
    if difference.metrics:
        rows_text = (
            "on the same rows, according to their cards"
            if difference.same_rows
            else "each on its own rows: these values are not comparable"
        )
        show(
            table(
                ["metric", difference.first, difference.second, "difference"],
                [
                    [
                        name,
                        interval_text(s.first),
                        interval_text(s.second),
                        None if s.difference is None else f"{s.difference:+.3f}",
                    ]
                    for name, s in difference.metrics.items()
                ],
                title=f"Measured {rows_text}",
            )
        )


def search(
    conditions: Annotated[
        list[str],
        typer.Argument(
            metavar="CONDITION...", help="domain=medical, license=cc-by-4.0, tag.stage=pilot, 'macro_f1>0.8'; all must hold."
        ),
    ],
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many.")] = None,
    after: Annotated[str | None, typer.Option(metavar="NAME@N", help="Only versions after this one.")] = None,
    registry: RegistryAt = None,
    as_json: Json = False,
) -> None:
    """List the versions that meet all conditions, sorted by name and number."""
    from vertical_sdk.registry import Registry

    store = Registry(registry)
    last = store.resolve(after, check=False) if after is not None else None
    versions = store.search(*conditions, after=last, limit=limit)
    if as_json:
        emit([version.to_dict() for version in versions])
        return
    rows = [
        [
            v,
            ", ".join(v.aliases),
            ", ".join(v.facts.get("task", ())),
            ", ".join(v.facts.get("base", ())),
            describe_gate(v.gate, v.forced),
            v.revoked,
        ]
        for v in versions
    ]
    columns = ["version", "aliases", "task", "base", "gate", "revoked"]
    show(table(columns, rows, title=f"Gates as {REPORTED}") if rows else "No version meets all conditions.")
    if limit is not None and len(versions) == limit:
        say(f"There may be more: --after {versions[-1]}")


def used_data(
    digest: Annotated[
        str | None, typer.Argument(metavar="[DIGEST]", help="SHA-256 of a data source, or at least its first 8 digits.")
    ] = None,
    record: Annotated[
        str | None, typer.Option("--record", metavar="ID", help="The id of a record, or of a group such as a patient.")
    ] = None,
    field: Annotated[
        str | None, typer.Option(metavar="id|group", help="With --record: search only ids or only groups.")
    ] = None,
    registry: RegistryAt = None,
    as_json: Json = False,
) -> None:
    """List the versions that were trained on a data source or a record, and those that continue from them."""
    from vertical_sdk.registry import Registry
    from vertical_sdk.registry.lineage import find_data_uses, find_record_uses

    if (digest is None) == (record is None):
        raise typer.BadParameter("give either a DIGEST or --record ID.")
    if field not in {None, "id", "group"} or (field and record is None):
        raise typer.BadParameter("--field is id or group, and needs --record.")
    store = Registry(registry)
    uses = (
        find_record_uses(store, record, cast("Field | None", field))
        if record is not None
        else find_data_uses(store, digest or "")
    )
    if as_json:
        emit([use.to_dict() for use in uses])
        return
    rows = [[u.version, ", ".join(u.how), u.through, ", ".join(u.version.aliases), u.version.revoked] for u in uses]
    empty = "No version with a record index contains this record." if record else "No version names this source."
    show(table(["version", "used in", "through", "aliases", "revoked"], rows) if rows else empty)


def _shorten(value: Any) -> str | None:
    text = None if value is None else str(value)
    return text if text is None or len(text) <= 64 else f"{text[:60]}…"
