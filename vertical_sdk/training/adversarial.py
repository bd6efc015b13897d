"""Adversarial training (`train.adversarial_epsilon`): a second pass with the embeddings moved in the direction that raises the loss most."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from vertical_sdk.errors import BaseModelError
from vertical_sdk.kernels.packing import Layout, current_layout

__all__ = ["Adversary"]


class Adversary:
    """The fast gradient method on token embeddings (Miyato, Dai and Goodfellow, 2017).

    A row's step is epsilon · g / ‖g‖, with g the gradient of the loss at the embeddings of all its tokens together. The embeddings of
    the base are not normalized first, so epsilon is a distance in the space of the base's own embeddings. Of a row that is read in
    windows, each window makes a step.

        with adversary.record():
            loss().backward()       # adds the gradient of the unchanged rows
        with adversary.move():
            loss().backward()       # adds the gradient of the moved rows
    """

    def __init__(self, backbone: Any, epsilon: float) -> None:
        self.embeddings: nn.Module = backbone.get_base_model().get_input_embeddings()
        self.epsilon = epsilon
        self._seen: Tensor | None = None
        self._layout: Layout | None = None

    @contextlib.contextmanager
    def record(self) -> Iterator[None]:
        """Within it, the embeddings of a forward pass are kept, and get a gradient in its backward pass."""
        self._seen = None

        def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            if output.requires_grad:
                output.retain_grad()
            else:
                output.requires_grad_()
            self._seen, self._layout = output, current_layout()
            return output

        hook = self.embeddings.register_forward_hook(keep)
        try:
            yield
        finally:
            hook.remove()

    @contextlib.contextmanager
    def move(self) -> Iterator[None]:
        """Within it, a forward pass of the same rows reads moved embeddings.

        Raises BaseModelError if the base did not read the rows through its embeddings.
        """
        if self._seen is None or self._seen.grad is None:
            raise BaseModelError("the base does not read tokens through its embeddings. Leave train.adversarial_epsilon out.")
        step = find_step(self._seen.grad, self._layout, self.epsilon)
        self._seen = None
        hook = self.embeddings.register_forward_hook(lambda _module, _inputs, output: output + step)
        try:
            yield
        finally:
            hook.remove()


def find_step(gradient: Tensor, layout: Layout | None, epsilon: float) -> Tensor:
    """Scale the gradient of each row to the length epsilon; 0 for a row without a gradient.

    gradient  (rows, tokens, width); of packed rows (1, tokens, width)
    layout    of packed rows, which share no tokens
    returns   as the gradient, in its type
    """
    squares = gradient.float().square().sum(-1)  # (rows or 1, tokens)
    if layout is None:
        lengths = squares.sum(1, keepdim=True).sqrt()
    else:
        rows = squares.new_zeros(len(layout.order)).index_add(0, layout.owners, squares[0])
        lengths = rows.sqrt()[layout.owners][None]
    scale = torch.where(lengths > 0, epsilon / lengths, torch.zeros_like(lengths))
    return (gradient.float() * scale[..., None]).to(gradient.dtype)
