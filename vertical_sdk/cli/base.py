"""vertical base: the base models that specialists are trained on."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from vertical_sdk.cli.options import Json, group
from vertical_sdk.cli.output import emit, show, showing, size, table

__all__ = ["verbs"]

verbs = group("The base models that specialists are trained on.")


@verbs.command("list")
def list_(as_json: Json = False) -> None:
    """List the embedded bases, which need no hub. Downloads nothing."""
    from vertical_sdk.bases.base import describe_bases

    bases = describe_bases()
    if as_json:
        emit([asdict(base) for base in bases])
        return
    rows = [
        [
            b.name,
            b.family,
            f"{b.parameters / 1e6:.0f}M",
            b.license,
            size(b.training_bytes),
            size(b.inference_bytes),
            "yes" if b.cached else "no",
        ]
        for b in bases
    ]
    show(table(["name", "family", "weights", "licence", "memory to train", "memory to predict", "in the cache"], rows))


@verbs.command()
def pull(
    name: Annotated[str, typer.Argument(metavar="BASE", help="An embedded base, a hub id OWNER/NAME, or a folder.")],
    as_json: Json = False,
) -> None:
    """Download a base model and check it."""
    with showing() as progress:
        from vertical_sdk.bases.base import pull_base

        base = pull_base(name, progress=progress)
    if as_json:
        emit({**asdict(base), "fingerprint": base.fingerprint.model_dump()})
        return
    show(
        f"{base.name}: {base.family}, {base.parameters / 1e6:.0f}M weights, {base.fingerprint.license or 'licence not stated'}"
    )
    show(f"{base.path}")
