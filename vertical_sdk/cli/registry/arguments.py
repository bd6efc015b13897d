"""Arguments and options that several verbs of `vertical registry` share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from vertical_sdk.errors import RegistryError

__all__ = ["Expected", "Force", "Name", "Reference", "Why", "parse_tags"]

Name = Annotated[str, typer.Argument(metavar="NAME", help="Such as medical/icd-chapter.")]
Reference = Annotated[str, typer.Argument(metavar="REFERENCE", help="NAME, NAME@3, NAME@ALIAS or NAME@sha256:DIGEST.")]
Why = Annotated[str, typer.Option("--reason", "--why", help="Why, for the registry's log; needed with --force.")]
Force = Annotated[
    bool, typer.Option("--force", help="Move it to a version that did not pass its gate; the log records this permanently.")
]
Expected = Annotated[
    int | None,
    typer.Option(
        metavar="VERSION", help="Only if the alias points at this version now (0: it does not exist); guards against races."
    ),
]


def parse_tags(texts: Sequence[str] | None) -> dict[str, str]:
    """Parse KEY=VALUE texts. Raises RegistryError."""
    tags = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not equals:
            raise RegistryError(f"tag {text!r}: write KEY=VALUE.")
        tags[key] = value
    return tags
