"""vertical base: the base models that specialists are trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from vertical_sdk.cli.options import Json, group
from vertical_sdk.cli.output import emit, show, showing, size, table
from vertical_sdk.errors import DigestMismatch

if TYPE_CHECKING:
    from vertical_sdk.bases.reading import LanguageReading

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
    texts = [[b.name, f"{b.max_length} tokens", *_name_languages(b.reads)] for b in bases if b.reads]
    show(table(["name", "longest text", "reads", "reads in small pieces", "does not know"], texts))


@verbs.command()
def pull(
    name: Annotated[str, typer.Argument(metavar="BASE", help="An embedded base, a hub id OWNER/NAME, or a folder.")],
    as_json: Json = False,
) -> None:
    """Download a base model and check it."""
    with showing() as progress:
        from vertical_sdk.bases.base import load_text_tokenizer, pull_base
        from vertical_sdk.bases.reading import read_languages

        base = pull_base(name, progress=progress)
        languages = {} if base.family == "vision" else read_languages(load_text_tokenizer(base))
    if as_json:
        reads = {language: asdict(item) for language, item in languages.items()}
        emit({**asdict(base), "fingerprint": base.fingerprint.model_dump(), "reads": reads})
        return
    show(
        f"{base.name}: {base.family}, {base.parameters / 1e6:.0f}M weights, {base.fingerprint.license or 'licence not stated'}"
    )
    if languages:
        named = zip(("reads", "reads in small pieces", "does not know"), _name_languages(languages), strict=True)
        show("; ".join(f"{words} {group}" for words, group in named if group))
    show(f"{base.path}")


@verbs.command()
def verify(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[BASE]", help="A base; all of the cache, data too, if it is left out.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Read every file of the cached bases and of cached data again, and list what has changed since it was saved."""
    with showing() as progress:
        from vertical_sdk.bases.verify import verify_cache

        count, problems = verify_cache(name, progress=progress)
    if as_json:
        emit({"folders": count, "problems": problems})
    else:
        for problem in problems:
            show(problem)
        show(f"{count} folders were read: {len(problems) or 'no'} problem{'' if len(problems) == 1 else 's'}.")
    if problems:
        raise typer.Exit(DigestMismatch.exit_code)


def _name_languages(reads: Mapping[str, LanguageReading]) -> list[str]:
    """The languages that a base reads, those that it reads in small pieces, and those that it does not know."""
    from vertical_sdk.bases.reading import group_languages

    return [" ".join(group) for group in group_languages(reads)]
