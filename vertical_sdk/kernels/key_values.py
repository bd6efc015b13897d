"""Keys and values of the tokens that a decoder has read, in slots of one length: one slot for each row of the batch."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["KeyValues"]

STEP = 64
"""Tokens by which slots grow: a multiple of it."""


class KeyValues:
    """Keys and values in memory that stays in place, so that a step copies nothing but its new token.

    layers, heads, width  of the network: heads are those of keys and values
    """

    def __init__(self, layers: int, heads: int, width: int, device: torch.device) -> None:
        self._device = device
        self.layers = [torch.zeros(0, 2, heads, 0, width, device=device) for _ in range(layers)]
        """Of each layer, keys and values: (slots, 2, heads, tokens, width)."""
        self.lengths: list[int] = []
        """Tokens in each slot that is in use: the first ones."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return sum(layer.nbytes for layer in self.layers)

    def reserve(self, slots: int, tokens: int) -> None:
        """Make room for so many slots of so many tokens; what is held is copied.

        Memory is 8 × layers × slots × heads × tokens × width bytes.
        """
        have, _, heads, room, width = self.layers[0].shape
        if slots <= have and tokens <= room:
            return
        slots, tokens = max(slots, have), max(-(-tokens // STEP) * STEP, room)
        used, longest = len(self.lengths), max(self.lengths, default=0)
        for number, old in enumerate(self.layers):
            self.layers[number] = torch.zeros(slots, 2, heads, tokens, width, device=self._device)
            self.layers[number][:used, :, :, :longest] = old[:used, :, :, :longest]

    def open(self) -> int:
        """Use one more slot, for which there is room, and return its number."""
        self.lengths.append(0)
        return len(self.lengths) - 1

    def close(self, slot: int, *, clear: bool = False) -> None:
        """Give a slot back; the last slot in use takes its number.

        clear  overwrite it with zeros: what is left of other rows is multiplied by zero, which needs numbers
        """
        last = len(self.lengths) - 1
        for layer in self.layers:
            if clear:
                layer[slot] = 0
            if slot != last:
                layer[slot, :, :, : self.lengths[last]] = layer[last, :, :, : self.lengths[last]]
        self.lengths[slot] = self.lengths[last]
        self.lengths.pop()

    def append(self, layer: int, rows: Tensor, positions: Tensor, pairs: Tensor) -> None:
        """Write one token of each row: rows and positions (rows,), keys and values (rows, 2, heads, width)."""
        self.layers[layer][rows, :, :, positions] = pairs

    def write(self, layer: int, slot: int, first: int, pairs: Tensor) -> Tensor:
        """Write tokens of one row, (tokens, 2, heads, width), and return all of the row: (2, heads, tokens, width)."""
        end = first + len(pairs)
        self.layers[layer][slot, :, :, first:end] = pairs.permute(1, 2, 0, 3)
        return self.layers[layer][slot, :, :, :end]

    def copy_out(self, slot: int, tokens: int) -> Tensor:
        """Copy the first tokens of a row: (layers, 2, heads, tokens, width)."""
        return torch.stack([layer[slot, :, :, :tokens] for layer in self.layers])

    def copy_in(self, slot: int, pairs: Tensor) -> None:
        """Begin an empty row with what `copy_out` returned."""
        for layer, beginning in zip(self.layers, pairs, strict=True):
            layer[slot, :, :, : beginning.shape[2]] = beginning
        self.lengths[slot] = pairs.shape[3]
