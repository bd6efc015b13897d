"""What every engine offers: one base, and the adapters on it, for mixed batches and for many threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray

from vertical_sdk.adapters.folder import Adapter
from vertical_sdk.baselines.frozen_base import FrozenBase
from vertical_sdk.bases.base import Base
from vertical_sdk.errors import DataError
from vertical_sdk.families.continuation import Decoding
from vertical_sdk.types import Example, GeneratedText, Message, Progress, silent

__all__ = ["Engine", "Raw", "Stream", "check_batch_size", "renumber"]

Stream: TypeAlias = Callable[[int, str], None]
"""Called while an engine generates, with the number of the prompt and the next piece of its text."""


LIKELIEST = Decoding()
"""The likeliest token each time."""


@dataclass(frozen=True, eq=False)
class Raw:
    """The raw output of an adapter for one row.

    values  (k,) logits or one number; (steps, channels, quantiles) for series, the median first
    cut     tokens of the row that did not fit
    unknown tokens of the row that the base's vocabulary does not have
    control control tokens that are written in the row, and were read as characters
    """

    values: NDArray[Any]
    cut: int = 0
    unknown: int = 0
    control: int = 0


class Engine(Protocol):
    """Runs adapters on one base.

    Every method may be called from many threads at once, while other threads load and unload adapters. A row's output does not
    depend on the adapters of the other rows in its batch.
    """

    @property
    def base(self) -> Base:
        """The base model that all adapters share."""

    @property
    def adapters(self) -> tuple[str, ...]:
        """The names of the loaded adapters, in the order in which they were loaded."""

    def adapter(self, name: str) -> Adapter:
        """Return a loaded adapter: its card, recipe and folder.

        Raises AdapterError that lists the loaded ones.
        """

    def load(self, adapter: Adapter, name: str = "") -> str:
        """Load an adapter and check it.

        name     what to call it; the name on its card if empty
        returns  the name

        Raises AdapterError for a name that is taken; CorruptAdapter, BaseMismatch or IdleAdapter for an adapter that fails the
        checks. The engine is then as before.
        """

    def unload(self, name: str) -> None:
        """Forget an adapter. Calls that use it already run to their end.

        Raises AdapterError for a name that is not loaded.
        """

    def outputs(
        self,
        rows: Sequence[Example],
        adapters: Sequence[str],
        *,
        batch_size: int | None = None,
        progress: Progress = silent,
    ) -> list[Raw]:
        """Compute the raw output of each row by its adapter, before members and calibration.

        adapters    one name for each row
        batch_size  rows in one pass through the base; None: as many as fit the engine's own limit
        """

    def general(self, name: str, progress: Progress = silent) -> FrozenBase:
        """Return the base without the adapter, reading rows as the adapter does; ensemble members and baselines need it."""

    def generate(
        self,
        prompts: Sequence[Sequence[Message]],
        adapters: Sequence[str],
        *,
        decoding: Decoding = LIKELIEST,
        batch_size: int = 8,
        stream: Stream | None = None,
        progress: Progress = silent,
    ) -> list[GeneratedText]:
        """Write an answer to each conversation.

        adapters    one name for each prompt
        decoding    how the next token is chosen, and where an answer ends
        batch_size  prompts of this call that are answered at once
        stream      gets each answer piece by piece; the pieces joined are the answer

        Raises AdapterError for an adapter whose base cannot write; DataError for a prompt that is too long, and for a JSON schema that
        cannot be followed.
        """


def renumber(stream: Stream | None, positions: Sequence[int]) -> Stream | None:
    """A stream for some of the prompts, which are counted from 0; None without a stream."""
    if stream is None:
        return None
    whole = stream
    return lambda row, piece: whole(positions[row], piece)


def check_batch_size(batch_size: int | None) -> None:
    """Raise DataError for a batch without rows, or a size that is not a whole number."""
    if batch_size is not None and (not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1):
        raise DataError(f"batch_size = {batch_size!r:.60} is wrong: it should be 1 or more.")
