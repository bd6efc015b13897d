"""Written answers: prompts for one or more specialists to texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vertical_sdk.engines import Engine, Stream
from vertical_sdk.errors import DataError
from vertical_sdk.families.continuation import Decoding
from vertical_sdk.inference.batches import list_inputs, list_names
from vertical_sdk.inference.inputs import as_conversations
from vertical_sdk.types import GeneratedText, Message, Progress, silent

__all__ = ["generate"]


def generate(
    engine: Engine,
    prompts: Iterable[str] | Iterable[Sequence[Message]],
    adapters: str | Iterable[str],
    decoding: Decoding,
    *,
    batch_size: int = 8,
    stream: Stream | None = None,
    progress: Progress = silent,
) -> list[GeneratedText]:
    """Write an answer to each prompt by one specialist, or by one for each; see `VerticalModel.generate`."""
    given = list_names(adapters)
    recipes = {name: engine.adapter(name).recipe for name in ([given] if isinstance(given, str) else dict.fromkeys(given))}
    items = list_inputs(prompts, "generate", reads="prompts", one="prompt")
    names = [given] * len(items) if isinstance(given, str) else given
    if len(names) != len(items):
        raise DataError(
            f"{len(items)} prompts but {len(names)} adapters: give one adapter for each prompt, or one name for all."
        )
    turns: dict[int, tuple[Message, ...]] = {}
    for name, recipe in recipes.items():
        rows = [row for row, owner in enumerate(names) if owner == name]
        turns |= zip(rows, as_conversations([items[row] for row in rows], recipe, rows), strict=True)
    ordered = [turns[row] for row in range(len(items))]
    return engine.generate(ordered, names, decoding=decoding, batch_size=batch_size, stream=stream, progress=progress)
