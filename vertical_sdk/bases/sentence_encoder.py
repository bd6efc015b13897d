"""A sentence encoder without an adapter, by which metrics and baselines compare what texts say."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.bases.base import load_text_tokenizer, pull_base
from vertical_sdk.bases.model import load_model
from vertical_sdk.errors import BaseModelError

__all__ = ["ENCODER", "SentenceEncoder", "load_encoder"]

ENCODER = "minilm-l6"
"""The embedded encoder that is used if none is named. It reads English; me5-small reads a hundred languages."""
Floats = NDArray[np.float32]


class SentenceEncoder:
    """A base of the family encoder, in float32 on the CPU. Only the beginning of a text that is too long for it is read.

    Raises BaseModelError for a base of another family, and what `pull_base` raises.
    """

    def __init__(self, name: str) -> None:
        base = pull_base(name)
        if base.family != "encoder":
            raise BaseModelError(
                f"{name} is a {base.family} base, and an encoder is needed to compare texts. Use {ENCODER} or me5-small."
            )
        self.texts = load_text_tokenizer(base)
        self.model: Any = load_model(base, "AutoModel").float().eval()
        self.max_length = base.max_length or 512

    def read_tokens(self, text: str) -> Floats:
        """Compute the hidden states of the last layer, each of length 1: (tokens, width), special tokens left out."""
        first, last = self.texts.edges
        hidden = self._read(text)
        return _to_length_one(hidden[len(first) : len(hidden) - len(last)])

    def read_text(self, text: str) -> Floats:
        """Compute the mean of the hidden states of the last layer, special tokens among them, of length 1: (width,)."""
        return _to_length_one(self._read(text).mean(axis=0))

    def _read(self, text: str) -> Floats:
        import torch

        first, last = self.texts.edges
        plain = self.texts.encode(text).ids[: self.max_length - self.texts.extra]
        with torch.inference_mode():
            hidden: Floats = self.model(torch.tensor([[*first, *plain, *last]])).last_hidden_state[0].numpy()
        return hidden


@functools.lru_cache(maxsize=2)
def load_encoder(name: str) -> SentenceEncoder:
    """Load an encoder, once in a process. Raises BaseModelError, and what `pull_base` raises."""
    return SentenceEncoder(name)


def _to_length_one(vectors: Floats) -> Floats:
    """Each vector of the last axis, of length 1."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True).clip(1e-12), dtype=np.float32)
