"""Keys and values of the tokens that a decoder has read, in slots of one length: one slot for each row of the batch."""

from __future__ import annotations

from collections.abc import Sequence

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
        self._shape, self._device = (heads, width), device
        self.keys = [torch.zeros(0, heads, 0, width, device=device) for _ in range(layers)]
        """Of each layer, (slots, heads, tokens, width)."""
        self.values = list(self.keys)
        self.lengths: list[int] = []
        """Tokens in each slot that is in use: the first ones."""

    @property
    def tokens(self) -> int:
        """Tokens that fit into a slot."""
        return self.keys[0].shape[2]

    def reserve(self, slots: int, tokens: int) -> None:
        """Make room for so many slots of so many tokens; what is held is copied.

        Memory is 8 × layers × slots × heads × tokens × width bytes.
        """
        have, room = self.keys[0].shape[0], self.tokens
        if slots <= have and tokens <= room:
            return
        slots, tokens = max(slots, have), max(-(-tokens // STEP) * STEP, room)
        used, longest = len(self.lengths), max(self.lengths, default=0)
        for stack in (self.keys, self.values):
            for layer, old in enumerate(stack):
                stack[layer] = torch.zeros(slots, self._shape[0], tokens, self._shape[1], device=self._device)
                stack[layer][:used, :, :longest] = old[:used, :, :longest]

    def open(self) -> int:
        """Use one more slot, for which there is room, and return its number."""
        self.lengths.append(0)
        return len(self.lengths) - 1

    def close(self, slot: int, *, clear: bool = False) -> None:
        """Give a slot back; the last slot in use takes its number.

        clear  overwrite it with zeros: what is left of other rows is multiplied by zero, which needs numbers
        """
        last = len(self.lengths) - 1
        for stack in (*self.keys, *self.values):
            if clear:
                stack[slot] = 0
            if slot != last:
                stack[slot, :, : self.lengths[last]] = stack[last, :, : self.lengths[last]]
        self.lengths[slot] = self.lengths[last]
        self.lengths.pop()

    def append(self, layer: int, positions: Tensor, keys: Tensor, values: Tensor) -> None:
        """Write one token of each row: positions (rows,) within the slots, keys and values (rows, heads, width)."""
        rows = torch.arange(len(positions), device=self._device)
        self.keys[layer][rows, :, positions] = keys
        self.values[layer][rows, :, positions] = values

    def write(self, layer: int, slot: int, first: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write tokens of one row, (tokens, heads, width), and return all of the row: keys and values (1, heads, tokens, width)."""
        end = first + len(keys)
        self.keys[layer][slot, :, first:end] = keys.transpose(0, 1)
        self.values[layer][slot, :, first:end] = values.transpose(0, 1)
        return self.keys[layer][slot : slot + 1, :, :end], self.values[layer][slot : slot + 1, :, :end]

    def copy_out(self, slot: int, tokens: int) -> Tensor:
        """Copy the first tokens of a row: (layers, 2, heads, tokens, width)."""
        pairs = zip(self.keys, self.values, strict=True)
        return torch.stack([torch.stack([keys[slot, :, :tokens], values[slot, :, :tokens]]) for keys, values in pairs])

    def copy_in(self, slot: int, tokens: Sequence[Tensor] | Tensor) -> None:
        """Begin an empty row with tokens from `copy_out`."""
        for layer, (keys, values) in enumerate(tokens):
            self.keys[layer][slot, :, : keys.shape[1]] = keys
            self.values[layer][slot, :, : keys.shape[1]] = values
        self.lengths[slot] = tokens[0].shape[2]
