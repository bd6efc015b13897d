"""Keys and values of the tokens that prompts of one adapter begin with, kept for its next prompts."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

from torch import Tensor

from vertical_sdk.kernels.low_rank import LowRank
from vertical_sdk.kernels.packing import common_length

__all__ = ["LEAST", "Prefixes"]

LEAST = 16
"""Tokens from which a common beginning is worth keeping."""
ROOM = 64 << 20
"""Bytes of all that is kept."""

Tokens = tuple[int, ...]


class Prefixes:
    """What was computed for the beginnings of prompts, the least recently used first to go.

    An adapter is known by its object, not by a name, and what belongs to it goes with it.

    room  bytes
    """

    def __init__(self, room: int = ROOM) -> None:
        self._room = room
        self._kept: WeakKeyDictionary[LowRank, dict[Tokens, Tensor]] = WeakKeyDictionary()
        self._last: WeakKeyDictionary[LowRank, Tokens] = WeakKeyDictionary()

    def find(self, adapter: LowRank, prompt: Tokens) -> Tensor | None:
        """Keys and values (layers, 2, heads, tokens, width) of the longest known beginning of a prompt, at most all but its last token."""
        kept = self._kept.get(adapter, {})
        lengths = {tokens: min(common_length(tokens, prompt), len(prompt) - 1) for tokens in kept}
        best = max(lengths, key=lengths.__getitem__, default=())
        if not best or lengths[best] < LEAST:
            return None
        values = kept[best] = kept.pop(best)  # now the newest of this adapter
        self._kept[adapter] = self._kept.pop(adapter)
        return values[:, :, :, : lengths[best]]

    def plan(self, adapter: LowRank, prompts: Sequence[Tokens]) -> Tokens:
        """The beginning that is worth computing by itself, as several prompts share it; () if there is none or it is known."""
        last = self._last.get(adapter)
        self._last[adapter] = prompts[-1]
        shared = prompts[0][:-1]
        for prompt in prompts[1:] if len(prompts) > 1 else [last or ()]:
            shared = shared[: common_length(shared, prompt[:-1])]
        known = self.find(adapter, (*shared, -1))
        return shared if len(shared) >= LEAST + (0 if known is None else known.shape[3]) else ()

    def keep(self, adapter: LowRank, tokens: Tokens, values: Tensor) -> None:
        """Keep what `KeyValues.copy_out` returned for these tokens, unless it is larger than the room for all."""
        if values.nbytes > self._room:
            return
        self._kept.setdefault(adapter, {})[tokens] = values
        self._kept[adapter] = self._kept.pop(adapter)
        while sum(values.nbytes for kept in self._kept.values() for values in kept.values()) > self._room:
            oldest, kept = next((owner, kept) for owner, kept in self._kept.items())
            del kept[next(iter(kept))]
            if not kept:
                del self._kept[oldest]
