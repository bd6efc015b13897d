"""vertical registry import: take in an adapter that PEFT saved elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from vertical_sdk.cli.options import Json, RegistryAt
from vertical_sdk.cli.output import emit, say, show, showing
from vertical_sdk.cli.registry import verbs

if TYPE_CHECKING:
    from vertical_sdk.types import Task

__all__ = ["import_"]

TASKS = ("classification", "multilabel", "ordinal", "regression", "generation")


@verbs.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="With adapter_config.json and adapter_model.safetensors.")],
    name: Annotated[str, typer.Option(help="What it is called here, such as medical/notes.")],
    base: Annotated[
        str | None, typer.Option(help="The base model that it stands on; what its configuration names where there is none.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="What it is for, where its task type does not say it.")] = None,
    license_: Annotated[
        str | None, typer.Option("--license", metavar="SPDX", help="The licence of its data, where known.")
    ] = None,
    prompt: Annotated[str, typer.Option(help="The user's turn that it is asked with; {text} stands for the text.")] = "{text}",
    system: Annotated[str | None, typer.Option(help="The system's turn that it is asked with.")] = None,
    reason: Annotated[str, typer.Option(help="Why, for the registry's log.")] = "",
    registry: RegistryAt = None,
    as_json: Json = False,
) -> None:
    """Publish a PEFT adapter that was made elsewhere; its base and it are asked the same things now, and on every load."""
    from vertical_sdk.registry import Registry

    if task is not None and task not in TASKS:
        raise typer.BadParameter(f"--task is one of {', '.join(TASKS)}.")
    with showing() as progress:
        from vertical_sdk.adapters.importing import import_adapter

        found = import_adapter(
            Registry(registry),
            folder,
            name,
            base=base,
            task=cast("Task | None", task),
            license=license_,
            system=system,
            prompt=prompt,
            reason=reason,
            progress=progress,
        )
    if as_json:
        told = {"missing": found.missing, "left_out": found.left_out, "unread": found.unread}
        emit({**found.version.to_dict(), **told})
        return
    show(f"{found.version} (sha256:{found.version.digest[:16]}…)")
    show("Its card lacks:\n" + "\n".join(f"  {line}" for line in found.missing))
    if found.left_out:
        say(f"Left out, as no part of an adapter: {', '.join(found.left_out)}")
    if found.unread:
        say(f"VerticalModel does not load it: {found.unread}")
    else:
        say(f"Use it: VerticalModel.from_registry('{found.version}')")
