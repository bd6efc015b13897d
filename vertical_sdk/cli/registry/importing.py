"""vertical registry import: publish an adapter that other software saved with PEFT."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vertical_sdk.cli.options import Json, RegistryAt
from vertical_sdk.cli.output import emit, say, show, showing

__all__ = ["import_adapter"]


def import_adapter(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Contains adapter_config.json and adapter_model.safetensors.")
    ],
    name: Annotated[str, typer.Option(help="Its name in the registry, such as medical/notes.")],
    base: Annotated[
        str | None, typer.Option(help="The base model that it was trained on; default: the one in its configuration.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="The task, if its task type does not state it.")] = None,
    license_: Annotated[
        str | None, typer.Option("--license", metavar="SPDX", help="The licence of its training data, if known.")
    ] = None,
    prompt: Annotated[str, typer.Option(help="The user turn of its prompt; {text} is replaced by the text.")] = "{text}",
    system: Annotated[str | None, typer.Option(help="The system turn of its prompt.")] = None,
    reason: Annotated[str, typer.Option(help="Why, for the registry's log.")] = "",
    registry: RegistryAt = None,
    as_json: Json = False,
) -> None:
    """Publish a PEFT adapter that other software trained. Self-tests are recorded now and replayed on every load."""
    from vertical_sdk.registry import Registry
    from vertical_sdk.tables import TASKS
    from vertical_sdk.tasks import get_task

    if task is not None:
        importable = [known for known in TASKS if get_task(known).verb in {"predict", "generate"}]
        if task not in importable:
            raise typer.BadParameter(f"--task must be one of {', '.join(importable)}.")
    with showing() as progress:
        from vertical_sdk.adapters.importing import import_adapter as import_and_publish

        result = import_and_publish(
            Registry(registry),
            folder,
            name,
            base=base,
            task=task,
            license=license_,
            system=system,
            prompt=prompt,
            reason=reason,
            progress=progress,
        )
    if as_json:
        gaps = {"missing": result.missing, "left_out": result.left_out, "unread": result.unread}
        emit({**result.version.to_dict(), **gaps})
        return
    show(f"{result.version} (sha256:{result.version.digest[:16]}…)")
    show("Its card does not state:")
    for line in result.missing:
        show(f"  {line}")
    if result.left_out:
        say(f"Not published, because these files are not part of an adapter: {', '.join(result.left_out)}")
    if result.unread:
        say(f"VerticalModel cannot load it: {result.unread}")
    else:
        say(f"Use it: VerticalModel.from_registry('{result.version}')")
