"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vertical_sdk.errors import AdapterError

if TYPE_CHECKING:
    from vertical_sdk.inference import VerticalModel

__all__ = [
    "AllowRevoked",
    "AllowSource",
    "DType",
    "Json",
    "ReadIn",
    "RegistryAt",
    "Settings",
    "TimeColumn",
    "check_verb",
    "group",
    "read_settings",
]


class DType(str, Enum):
    """The type of the numbers that inputs are read in."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    auto = "auto"


AllowRevoked = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME@3", help="Use this version although it was revoked. May be repeated."),
]
AllowSource = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SOURCE", help="Fetch this source of data although only the adapter's card names it. May be repeated."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write one JSON document to stdout, and nothing else.")]
ReadIn = Annotated[
    DType | None,
    typer.Option(
        "--dtype",
        help="What inputs are read in; default: float32. bfloat16 can be several times as fast and changes probabilities a little; "
        "auto is the faster one as measured on this machine.",
    ),
]
RegistryAt = Annotated[
    str | None,
    typer.Option(
        "--registry",
        metavar="PLACE",
        help="A folder, or an address such as s3://bucket/adapters or https://adapters.example.org; "
        "default: $VERTICAL_REGISTRY, or the registry in your data folder.",
    ),
]
TimeColumn = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="The column of times, if its name differs from the recipe's.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe: train.learning_rate=1e-4. May be repeated."),
]


def group(about: str) -> typer.Typer:
    """Create a verb with verbs of its own."""
    return typer.Typer(help=about, no_args_is_help=True, rich_markup_mode="rich", add_completion=False)


def read_settings(texts: Sequence[str] | None) -> dict[str, Any]:
    """Parse `--set` options into dotted key → value.

    Raises RecipeError.
    """
    from vertical_sdk.recipe import parse_setting

    return dict(parse_setting(text) for text in texts or ())


def check_verb(model: VerticalModel, verb: str, adapter: str) -> None:
    """Check that a command suits the task of a specialist. Raises AdapterError, which names the right command."""
    from vertical_sdk.tasks import get_task

    right = get_task(model.card.task).verb
    right = "predict" if right == "generate" else right  # one command serves both
    if verb != right:
        raise AdapterError(f"this is a {model.card.task} specialist: use `vertical {right}`.", where=adapter)
