"""Text while it is generated, piece by piece, for the rows of one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

__all__ = ["Pieces"]

UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What a tokenizer decodes half a character to: the rest is in the next token."""


class Pieces:
    """A streamer for transformers' `generate`: passes on what each new token adds to a row's text.

    The pieces of a row joined are its text, decoded as a whole and stripped.

    rows    the number of each row of the batch, for `stream`
    stream  called with a row's number and the next piece
    """

    def __init__(self, tokenizer: Any, rows: Sequence[int], stream: Callable[[int, str], None]) -> None:
        self._tokenizer, self._rows, self._stream = tokenizer, rows, stream
        self._tokens: list[list[int]] = [[] for _ in rows]
        self._written = [""] * len(rows)
        self._prompted = False

    def put(self, value: Tensor) -> None:
        """Take the prompts (rows, tokens) once, then one token for each row (rows,)."""
        if not self._prompted:
            self._prompted = True
            return
        for place, token in enumerate(value.tolist()):
            self._tokens[place].append(token)
            self._pass_on(place, last=False)

    def end(self) -> None:
        """Pass on what was held back."""
        for place in range(len(self._rows)):
            self._pass_on(place, last=True)

    def _pass_on(self, place: int, *, last: bool) -> None:
        text = self._tokenizer.decode(self._tokens[place], skip_special_tokens=True).strip()
        written = self._written[place]
        if len(text) > len(written) and text.startswith(written) and (last or not text.endswith(UNFINISHED)):
            self._stream(self._rows[place], text[len(written) :])
            self._written[place] = text
