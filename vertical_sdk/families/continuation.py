"""One answer while it is written: how its next token is chosen, when it ends, and its text piece by piece."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vertical_sdk.errors import AdapterError, DataError
from vertical_sdk.families.structured import JsonState
from vertical_sdk.kernels.sampling import penalize, sample_token
from vertical_sdk.types import GeneratedText

__all__ = ["NOT_A_NUMBER", "Continuation", "Decoding", "TokenTree"]

UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What a tokenizer decodes half a character to: the rest is in the next token."""
MOST_STOPS = 16
NOT_A_NUMBER = "the specialist's output is not a number. Its weights are wrong. Train it again, or load another version."


@dataclass(frozen=True)
class Decoding:
    """How answers are written.

    max_new_tokens  tokens of an answer at most
    temperature     0 chooses the likeliest token each time; above it tokens are drawn, with softmax(scores / temperature)
    top_p, top_k    tokens are drawn from the likeliest only: those with this probability together, and so many
    repetition_penalty  the score of each token that the prompt or the answer has already is divided by it if positive, else multiplied
                    by it (Keskar et al., 2019), before everything else; None: what the base's generation_config says
    seed            of the random numbers of each answer: an answer depends on its prompt, its adapter and the seed; None: new ones
    stop            texts that end an answer, which then ends before the first of them
    choices         texts of which each answer is one; None: any text. With temperature 0, the likeliest continuation at each token where
                    they differ
    json_schema     each answer is a JSON document that follows this schema, which `read_schema` returned; None: any text

    Raises DataError for a value that is not possible.
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    choices: tuple[str, ...] | None = None
    json_schema: str | None = None

    def __post_init__(self) -> None:
        _check_whole("max_new_tokens", self.max_new_tokens, 1, "write at least one token")
        _check_number("temperature", self.temperature, 0 <= _number(self.temperature) < math.inf, "it should be 0 or more")
        _check_number("top_p", self.top_p, 0 < _number(self.top_p) <= 1, "it should be above 0 and at most 1")
        if self.top_k is not None:
            _check_whole("top_k", self.top_k, 1, "choose among at least one token")
        if self.repetition_penalty is not None:
            possible = 0 < _number(self.repetition_penalty) < math.inf
            _check_number("repetition_penalty", self.repetition_penalty, possible, "it should be above 0; 1 changes nothing")
        if self.seed is not None:
            _check_whole("seed", self.seed, 0, "it should be 0 or more")
        for name, texts in (("stop", self.stop), ("choices", self.choices or ())):
            odd = next((text for text in texts if not isinstance(text, str) or not text.strip(" ")), None)
            if odd is not None:
                raise DataError(f"{name}: {odd!r:.60} is wrong: give texts that are not empty.")
        if len(self.stop) > MOST_STOPS:
            raise DataError(f"stop has {len(self.stop)} texts, and at most {MOST_STOPS} are allowed.")
        if self.choices is not None and not self.choices:
            raise DataError("choices is empty: name at least one text, or leave it out.")
        if self.json_schema is not None and (self.stop or self.choices is not None):
            raise DataError("json_schema says where an answer ends: leave out stop and choices.")


class TokenTree:
    """Texts as a tree of tokens: which tokens may follow, until one text is left."""

    def __init__(self, texts: Sequence[str], encode: Any, end: int) -> None:
        self.root: dict[int, Any] = {}
        self.depth = 0
        for text in dict.fromkeys(texts):
            node, tokens = self.root, [*encode(text).ids, end]
            for token in tokens[:-1]:
                node = node.setdefault(token, {})
            node[tokens[-1]] = text
            self.depth = max(self.depth, len(tokens))


class Continuation:
    """The answer to one prompt.

    tokenizer  the base's tokenizer
    end        the token that ends a turn
    prompt     token ids
    tree       the choices
    json       what may follow by a JSON schema
    streamed   whether `take_piece` is called
    """

    def __init__(
        self,
        tokenizer: Any,
        end: int,
        decoding: Decoding,
        *,
        prompt: Sequence[int] = (),
        tree: TokenTree | None = None,
        json: JsonState | None = None,
        streamed: bool = False,
    ) -> None:
        self._tokenizer, self._end, self._decoding, self._prompt = tokenizer, end, decoding, prompt
        self._random = random.Random(decoding.seed)  # noqa: S311  (not for secrets)
        self._node: Any = None if tree is None else tree.root
        self._json = json
        self._penalty = decoding.repetition_penalty or 1.0
        self._seen = set(prompt)
        self._streamed, self._passed_on, self._stopped_at = streamed, 0, -1
        self._decoded = ""
        self.tokens: list[int] = []
        self.most = decoding.max_new_tokens if tree is None else tree.depth
        """Tokens that it may take."""
        self.finish_reason: Literal["stop", "length"] | None = None
        """Why it has ended, as in `GeneratedText`; None as long as it has not."""
        self._follow_only_way()

    @property
    def finished(self) -> bool:
        """Whether the answer has ended."""
        return self.finish_reason is not None

    @property
    def takes_likeliest(self) -> bool:
        """Whether the next token is simply the one with the highest score."""
        return self._node is None and self._json is None and self._penalty == 1 and self._decoding.temperature == 0

    @property
    def text(self) -> str:
        """The answer as far as it is written, without special tokens and without spaces around it."""
        if isinstance(self._node, str):
            return self._node
        text = self._decoded or self._decode()
        return (text[: self._stopped_at] if self._stopped_at >= 0 else text).strip()

    @property
    def result(self) -> GeneratedText:
        """The answer as far as it is written, with its counts; an answer that is given up is cut."""
        return GeneratedText(self.text, self.finish_reason or "length", len(self._prompt), len(self.tokens))

    def choose(self, scores: Tensor) -> int:
        """Choose the next token by its scores (vocabulary,).

        Raises AdapterError for NaN, of which the likeliest token would be any, and DataError if nothing may follow by the JSON schema.
        """
        if bool(scores.isnan().any()):
            raise AdapterError(NOT_A_NUMBER)
        if self._penalty != 1:
            scores = penalize(scores, self._seen, self._penalty)
        greedy = self._decoding.temperature == 0
        allowed: Tensor | None = None
        if self._json is not None:
            if greedy and self._json.allows(likeliest := int(scores.argmax())):
                return likeliest
            allowed = self._json.list_allowed(len(scores))
        elif self._node is not None:
            allowed = torch.tensor(sorted(self._node))
        if allowed is not None:
            allowed = allowed.to(scores.device)
            scores = scores[allowed]
        if greedy or len(scores) == 1:
            place = int(scores.argmax())
        else:
            options = self._decoding
            place = sample_token(
                scores, self._random.random(), temperature=options.temperature, top_k=options.top_k, top_p=options.top_p
            )
        return place if allowed is None else int(allowed[place])

    def add(self, token: int) -> None:
        """Take the next token, and find out whether the answer ends. Raises DataError if it cannot follow by the JSON schema."""
        self.tokens.append(token)
        self._seen.add(token)
        if self._node is not None:
            self._node = self._node[token]
            self._follow_only_way()
            return
        if self._json is not None:
            self._json.add(token)
        if token == self._end or (self._json is not None and self._json.complete):
            self.finish_reason = "stop"
        if self._decoding.stop or self._streamed:
            self._decoded = self._decode()
            found = [place for stop in self._decoding.stop if (place := self._decoded.find(stop)) >= 0]
            if found:
                self._stopped_at, self.finish_reason = min(found), "stop"
        if not self.finished and len(self.tokens) >= self.most:
            self.finish_reason = "length"

    def take_piece(self) -> str:
        """Return what is new in the text since the last call; the pieces joined are the text.

        What may still change is kept back: half a character, spaces at the end, and what may become a text of `stop`.
        """
        text = self.text
        if not self.finished:
            if self._node is not None or self._decoded.endswith(UNFINISHED):
                return ""
            held = max((_overlap(self._decoded, stop) for stop in self._decoding.stop), default=0)
            text = self._decoded[: len(self._decoded) - held].strip()
        piece = text[self._passed_on :]
        self._passed_on += len(piece)
        return piece

    def _follow_only_way(self) -> None:
        """End as soon as one choice is left: its other tokens need not be computed."""
        node = self._node
        while isinstance(node, dict) and len(node) == 1:
            (node,) = node.values()
        if isinstance(node, str):
            self._node, self.finish_reason = node, "stop"

    def _decode(self) -> str:
        """The text of the tokens."""
        if self._json is not None:  # exactly the characters that the schema allowed
            return self._json.decode([token for token in self.tokens if token != self._end])
        return str(self._tokenizer.decode(self.tokens, skip_special_tokens=True))


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of a text that `stop` begins with."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)


def _number(value: object) -> float:
    """A number, NaN for anything else."""
    return (
        math.nan if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating) else float(value)
    )


def _check_number(name: str, value: object, possible: bool, should: str) -> None:
    if not possible:
        raise DataError(f"{name} = {value!r:.60} is wrong: {should}.")


def _check_whole(name: str, value: object, least: int, should: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise DataError(f"{name} = {value!r:.60} is wrong: {should}.")
