"""vertical registry lineage, diff, search, used-data: what is known of versions."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

import typer

from vertical_sdk.cli.options import Json, RegistryAt
from vertical_sdk.cli.output import emit, say, show, table
from vertical_sdk.cli.registry import Reference, verbs

__all__ = ["diff", "lineage", "search", "used_data"]

Field = Literal["id", "group"]
SHOWN = 12


@verbs.command()
def lineage(reference: Reference, registry: RegistryAt = None, as_json: Json = False) -> None:
    """What a version was made of, by whom, and what was said of it."""
    from vertical_sdk.registry import Registry
    from vertical_sdk.registry.lineage import lineage as find

    found = find(Registry(registry), reference)
    if as_json:
        emit(found.to_dict())
        return
    base = found.base
    rows: list[tuple[str, Any]] = [
        ("version", found.reference),
        ("digest", f"sha256:{found.digest}"),
        ("published", f"{found.created} by {found.who}" + (" against its gate" if found.forced else "")),
        ("why", found.reason or None),
        ("revoked", found.revoked),
        ("aliases", ", ".join(found.aliases) or None),
        ("signed by", ", ".join(found.signed_by) or None),
        ("trained", "elsewhere, and imported" if found.imported else found.trained or None),
        ("base", f"{base['name']}, a {base['architecture']} ({base['license'] or 'licence not stated'})"),
        ("base's weights", f"sha256:{base['weights']}"),
        ("base's tokenizer", f"sha256:{base['tokenizer']}"),
        ("recipe", f"{found.recipe['name']} (sha256:{found.recipe['digest']})"),
        *(
            ("data", f"{s['source']} (sha256:{s['sha256'] or 'not known'}, {s['license'] or 'licence not stated'})")
            for s in found.sources
        ),
        (
            "remembers",
            "; ".join(
                f"{part}: {', '.join(f'{n} {k}s' for k, n in counts.items())}" for part, counts in found.remembers.items()
            )
            or None,
        ),
        *(
            (
                "parent" if n == 0 else "before it",
                f"{one.version or f'{one.given}, which is not here'} (weights {one.weights[:SHOWN]})",
            )
            for n, one in enumerate(found.parents)
        ),
        ("goes on in", ", ".join(found.children) or None),
        ("made with", ", ".join(f"{name} {number}" for name, number in found.versions.items()) or None),
        ("gate", found.gate),
        *(("", reason) for reason in (found.verdict or {}).get("reasons", ())),
    ]
    show(table(["", ""], rows))
    measured = {name: metrics for name, metrics in found.metrics.items() if metrics}
    names = list(dict.fromkeys(metric for metrics in measured.values() for metric in metrics))
    if names:
        show(
            table(
                ["system", *names],
                [[system, *(_interval(metrics.get(name)) for name in names)] for system, metrics in measured.items()],
            )
        )


@verbs.command()
def diff(
    one: Annotated[str, typer.Argument(metavar="REFERENCE")],
    other: Annotated[str, typer.Argument(metavar="REFERENCE")],
    registry: RegistryAt = None,
    as_json: Json = False,
) -> None:
    """How two versions differ: base, recipe, data, metrics and files, side by side."""
    from vertical_sdk.registry import Registry
    from vertical_sdk.registry.lineage import diff as compare

    found = compare(Registry(registry), one, other)
    if as_json:
        emit(found.to_dict())
        return
    sides = {"base": found.base, "recipe": found.recipe, "data": found.sources, "made with": found.versions}
    rows = [[what, key, _short(s.first), _short(s.second)] for what, pairs in sides.items() for key, s in pairs.items()]
    rows += [["file", path, said, ""] for path, said in found.files.items()]
    show(table(["", "", found.first, found.second], rows) if rows else f"{found.first} and {found.second} are the same.")
    if found.metrics:
        judged = (
            "on the same rows, as far as their cards tell"
            if found.same_rows
            else "each on its own rows: not comparable as they stand"
        )
        show(
            table(
                ["metric", found.first, found.second, "difference"],
                [
                    [name, _interval(s.first), _interval(s.second), None if s.difference is None else f"{s.difference:+.3f}"]
                    for name, s in found.metrics.items()
                ],
                title=f"Measured {judged}",
            )
        )


@verbs.command()
def search(
    conditions: Annotated[
        list[str],
        typer.Argument(
            metavar="CONDITION...", help="domain=medical, license=cc-by-4.0, tag.stage=pilot, 'macro_f1>0.8'; all must hold."
        ),
    ],
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    after: Annotated[str | None, typer.Option(metavar="NAME@N", help="Only those that stand behind this version.")] = None,
    registry: RegistryAt = None,
    as_json: Json = False,
) -> None:
    """The versions that meet all conditions, by name and number."""
    from vertical_sdk.registry import Registry

    store = Registry(registry)
    behind = store.resolve(after, check=False) if after is not None else None
    found = store.search(*conditions, after=behind, limit=limit)
    if as_json:
        emit([version.to_dict() for version in found])
        return
    rows = [
        [v, ", ".join(v.aliases), ", ".join(v.facts.get("task", ())), ", ".join(v.facts.get("base", ())), v.gate, v.revoked]
        for v in found
    ]
    show(table(["version", "aliases", "task", "base", "gate", "revoked"], rows) if rows else "No version meets all of that.")
    if limit is not None and len(found) == limit:
        say(f"There may be more: --after {found[-1]}")


@verbs.command("used-data")
def used_data(
    digest: Annotated[
        str | None, typer.Argument(metavar="[DIGEST]", help="SHA-256 of a source of data, or 8 and more of its first digits.")
    ] = None,
    record: Annotated[
        str | None, typer.Option("--record", metavar="ID", help="The id of a record, or of a group such as a patient.")
    ] = None,
    field: Annotated[str | None, typer.Option(metavar="id|group", help="With --record: only as the one or the other.")] = None,
    registry: RegistryAt = None,
    as_json: Json = False,
) -> None:
    """Which versions saw a source of data, or a record; those that went on from them are named too."""
    from vertical_sdk.registry import Registry
    from vertical_sdk.registry.lineage import find_data_uses
    from vertical_sdk.registry.lineage import find_record_uses

    if (digest is None) == (record is None):
        raise typer.BadParameter("give a source's digest, or --record ID.")
    if field not in {None, "id", "group"} or (field and record is None):
        raise typer.BadParameter("--field is id or group, and goes with --record.")
    store = Registry(registry)
    found = find_record_uses(store, record, cast("Field | None", field)) if record is not None else find_data_uses(store, digest or "")
    if as_json:
        emit([use.to_dict() for use in found])
        return
    rows = [[u.version, ", ".join(u.how), u.through, ", ".join(u.version.aliases), u.version.revoked] for u in found]
    nothing = "No version here that keeps an index of its records saw it." if record else "No version here names this source."
    show(table(["version", "saw it in", "through", "aliases", "revoked"], rows) if rows else nothing)


def _interval(value: Any) -> str | None:
    if not value or value.get("value") is None:
        return None
    low, high = ("?" if value.get(end) is None else f"{value[end]:.3f}" for end in ("low", "high"))
    return f"{value['value']:.3f} [{low}, {high}]"


def _short(value: Any) -> str | None:
    text = None if value is None else str(value)
    return text if text is None or len(text) <= 64 else f"{text[:60]}…"
