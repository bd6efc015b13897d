"""The moving average of the trained weights (`train.ema_decay`)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

__all__ = ["WeightAverage"]

WARMUP = 10
"""Of the decay: after n steps it is at most (1 + n) / (WARMUP + n), so that a short training forgets where it began."""


class WeightAverage:
    """An exponential moving average of weights: average = d · average + (1 - d) · weights after each step (Polyak and Juditsky, 1992).

    d is the smaller of `decay` and (1 + n) / (10 + n) after n steps, as in TensorFlow's ExponentialMovingAverage.

    weights  name → weight; the average begins as a copy of them
    """

    def __init__(self, weights: Mapping[str, Tensor], decay: float) -> None:
        self.weights, self.decay = dict(weights), decay
        self.values = {name: weight.detach().clone() for name, weight in self.weights.items()}

    def update(self, steps: int) -> None:
        """Take in the weights after a step. `steps` is the number of steps so far, this one included."""
        decay = min(self.decay, (1 + steps) / (WARMUP + steps))
        for name, weight in self.weights.items():
            self.values[name].lerp_(weight.detach(), 1 - decay)

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Replace the average."""
        for name, value in self.values.items():
            value.copy_(values[name])

    def copy_to_weights(self) -> None:
        """Set the weights to the average."""
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(self.values[name])

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it, the weights are the average."""
        own = {name: weight.detach().clone() for name, weight in self.weights.items()}
        self.copy_to_weights()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, weight in self.weights.items():
                    weight.copy_(own[name])
