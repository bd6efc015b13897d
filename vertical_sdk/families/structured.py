"""Answers in JSON that follow a schema: which tokens may come next, by llguidance (https://github.com/guidance-ai/llguidance)."""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from vertical_sdk.errors import BaseModelError, DataError, MissingExtra
from vertical_sdk.json_text import parse_json

__all__ = ["JsonGrammar", "JsonState", "read_schema"]

LONGEST_SCHEMA = 1 << 20
"""Characters."""
STRICT = {
    "whitespace_pattern": r"[ \t\r\n]{1,32}",  # between two parts: a model that has nothing to say must not write spaces for ever
    "item_separator": ",",
    "key_separator": ":",
    "coerce_one_of": False,
    "lenient": False,  # a keyword that is not enforced is an error
}
"""Settings of llguidance that hold whatever a schema says under "x-guidance"."""
_TOKENIZERS: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
"""Tokenizer of a base → llguidance's, which takes a second to build for a large vocabulary."""


def read_schema(schema: Mapping[str, Any] | str) -> str:
    """Write a JSON schema, given as a dict or as JSON, as JSON in one form. The order of its properties stays.

    Raises DataError for what is not a JSON object.
    """
    try:
        text = schema if isinstance(schema, str) else json.dumps(schema, allow_nan=False)
        document = parse_json(text, largest=LONGEST_SCHEMA)
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"json_schema is not JSON: {error}.") from None
    if not isinstance(document, dict):
        raise DataError(f"json_schema = {text!r:.60} is wrong: give a JSON object, such as {{'type': 'object', ...}}.")
    return json.dumps(document)


class JsonGrammar:
    """A JSON schema in the tokens of one base.

    tokenizer  the base's own, in its fast form
    end        the token that ends a turn
    schema     what `read_schema` returned

    Raises DataError for a schema that is wrong or cannot be enforced, BaseModelError for a tokenizer that llguidance cannot read, and
    MissingExtra without llguidance.
    """

    def __init__(self, tokenizer: Any, end: int, schema: str) -> None:
        if importlib.util.find_spec("llguidance") is None:
            raise MissingExtra("structured", "json_schema")
        if end < 0:
            raise BaseModelError("json_schema needs a base whose tokenizer has a token that ends a turn.")
        library: Any = importlib.import_module("llguidance")
        self._tokens = _TOKENIZERS.get(tokenizer)
        if self._tokens is None:
            try:
                self._tokens = library.LLTokenizer(tokenizer.backend_tokenizer.to_str(), eos_token=end)
            except (ValueError, AttributeError) as error:
                raise BaseModelError(f"json_schema cannot be used with the tokenizer of this base: {error}.") from None
            _TOKENIZERS[tokenizer] = self._tokens
        grammar = library.LLMatcher.grammar_from_json_schema(schema, overrides=STRICT)
        self._matcher = library.LLMatcher(self._tokens, grammar, log_level=0)
        if self._matcher.is_error():
            raise DataError(f"json_schema cannot be followed: {_first_line(self._matcher.get_error())}.")

    def begin_answer(self) -> JsonState:
        """Begin an answer."""
        return JsonState(self._tokens, self._matcher.deep_copy())


class JsonState:
    """What may follow in one answer that is being written."""

    def __init__(self, tokens: Any, matcher: Any) -> None:
        self._tokens, self._matcher = tokens, matcher

    @property
    def complete(self) -> bool:
        """Whether the JSON is complete and nothing may follow."""
        return bool(self._matcher.is_stopped())

    def allows(self, token: int) -> bool:
        """Whether a token may come next."""
        return token < self._tokens.vocab_size and bool(self._matcher.validate_tokens([token]))

    def list_allowed(self, vocabulary: int) -> Tensor:
        """List the tokens below `vocabulary` that may come next, (tokens,), at least one.

        Raises DataError if there is none.
        """
        mask = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        allowed = np.flatnonzero(np.unpackbits(mask, bitorder="little")[:vocabulary])
        if not len(allowed):
            raise self._explain()
        return torch.from_numpy(allowed)

    def add(self, token: int) -> None:
        """Take the next token, the one that ends a turn included.

        Raises DataError if it cannot follow: nothing can, as the base has no token for it or the schema takes too much work.
        """
        if not self._matcher.consume_token(token):
            raise self._explain()

    def decode(self, tokens: list[int]) -> str:
        """Decode tokens to exactly the characters that were allowed; half a character is U+FFFD."""
        return str(self._tokens.decode_str(tokens))

    def _explain(self) -> DataError:
        reason = _first_line(self._matcher.get_error()) or "the base has no token for what has to follow"
        return DataError(f"json_schema cannot be followed further: {reason}. Simplify the schema.")


def _first_line(text: str) -> str:
    """The first line of a message, without its full stop."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0].removesuffix(".") if lines else ""
