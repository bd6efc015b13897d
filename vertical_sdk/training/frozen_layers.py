"""If LoRA is on the upper layers only, the layers below compute the same for a row in every epoch: it is kept after the first.

What is kept is the input of the lowest layer that is trained, for each token of each row, in a file that is mapped into memory and has
no name: it goes away with the process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vertical_sdk.families.batching import Encoded
from vertical_sdk.kernels.packing import Layout

__all__ = ["FrozenLayers", "count_frozen_layers", "find_layers", "open_cache"]

SHARE = 4
"""The file may take a quarter of the disk's free space."""


def find_layers(backbone: Any) -> nn.ModuleList | None:
    """Find the layers of a backbone, the lowest first; None if it has no list of them."""
    model = backbone.get_base_model()
    count = getattr(model.config, "num_hidden_layers", 0)
    found = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == count > 0]
    return found[0] if len(found) == 1 else None


def count_frozen_layers(backbone: Any) -> tuple[int, nn.ModuleList | None]:
    """Count the layers below the lowest one that is trained. 0 if something outside the layers is trained, which may be below them.

    returns  also the layers; None if the model has no list of them
    """
    model, layers = backbone.get_base_model(), find_layers(backbone)
    if layers is None:
        return 0, None
    inside = {id(weight) for weight in layers.parameters()}
    if any(weight.requires_grad and id(weight) not in inside for weight in model.parameters()):
        return 0, layers
    trained = [any(weight.requires_grad for weight in layer.parameters()) for layer in layers]
    return (trained.index(True) if True in trained else 0), layers


def open_cache(backbone: Any, rows: Sequence[Encoded], folder: Path, width: int, tail: int = 0) -> FrozenLayers | None:
    """Open a cache for these rows; None if the lowest layer is trained, or the disk has no room for it.

    folder  on whose disk the file is
    width   numbers of each token's state
    tail    tokens that follow each row
    """
    below, layers = count_frozen_layers(backbone)
    if not below or layers is None:
        return None
    places: dict[tuple[int, ...], int] = {}
    tokens = 0
    for ids in _list_pieces(rows):
        if ids not in places:
            places[ids] = tokens
            tokens += len(ids) + tail
    size = tokens * width * 4
    folder.mkdir(parents=True, exist_ok=True)
    if not size or size * SHARE > shutil.disk_usage(folder).free:
        return None
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size)  # a write into a mapped file on a full disk would end the process
            states = np.memmap(file, dtype=np.float32, mode="r+", shape=(tokens, width))
    except (OSError, AttributeError):  # no room, or a system without this call
        return None
    return FrozenLayers(layers, below, places, torch.from_numpy(states))


class FrozenLayers:
    """The states of tokens at the lowest layer that is trained.

    layers  all layers of the model
    below   how many of them are below it
    places  the tokens of a row, or of one of its windows → the position of its first in `states`
    states  (tokens, width) float32
    """

    def __init__(self, layers: nn.ModuleList, below: int, places: Mapping[tuple[int, ...], int], states: Tensor) -> None:
        self.layers, self.below, self.places, self.states = layers, below, places, states
        self._kept: set[tuple[int, ...]] = set()
        self._tuples = False

    @contextlib.contextmanager
    def use(self, rows: Sequence[Encoded], layout: Layout) -> Iterator[None]:
        """Within it, the model reads these rows: the layers below are skipped if all rows are kept; else the rows are kept."""
        pieces = _list_pieces(rows)
        if all(ids in self._kept for ids in pieces):
            yield from self._skip(pieces, layout)
        elif all(ids in self.places for ids in pieces):
            yield from self._keep(pieces, layout)
        else:
            yield

    def _keep(self, pieces: Sequence[tuple[int, ...]], layout: Layout) -> Iterator[None]:
        seen: list[Tensor] = []
        first = self.layers[0].register_forward_hook(self._note_kind)
        lowest = self.layers[self.below].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
        try:
            yield
        finally:
            first.remove()
            lowest.remove()
        states = seen[0][0].float()
        for ids, start in zip(pieces, layout.starts.tolist(), strict=True):
            length = len(ids) + len(layout.tail.parents)
            own, kept = length - layout.shared, self.states[self.places[ids] :][:length]
            kept[: layout.shared] = states[: layout.shared]
            kept[layout.shared :] = states[start : start + own]
            self._kept.add(ids)

    def _note_kind(self, _layer: nn.Module, _inputs: Any, output: Any) -> None:
        self._tuples = isinstance(output, tuple)

    def _skip(self, pieces: Sequence[tuple[int, ...]], layout: Layout) -> Iterator[None]:
        parts = [self.states[self.places[pieces[0]] :][: layout.shared]]
        for number in layout.order:
            ids = pieces[number]
            length = len(ids) + len(layout.tail.parents)
            parts.append(self.states[self.places[ids] :][layout.shared : length])
        states = torch.cat(parts)[None]

        def pass_on(hidden: Tensor, *_: Any, **__: Any) -> Any:
            return (hidden,) if self._tuples else hidden

        def exchange(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            return (states.to(inputs[0].dtype), *inputs[1:])

        lower: list[Any] = list(self.layers[: self.below])
        lowest = self.layers[self.below].register_forward_pre_hook(exchange)
        try:
            for layer in lower:
                layer.forward = pass_on
            yield
        finally:
            lowest.remove()
            for layer in lower:
                vars(layer).pop("forward", None)


def _list_pieces(rows: Sequence[Encoded]) -> list[tuple[int, ...]]:
    return [piece for row in rows for piece in row.pieces]
