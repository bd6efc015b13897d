"""Encode users' texts without control tokens, and conversations in which only the chat template writes control tokens.

A control token, such as [SEP] or <|im_end|>, tells a model where a text or a turn ends. Written in a text, it is characters like
any others; read as the token, it would let the author of a text forge a turn.

The texts go through a copy of the base's tokenizer in which every control token has a random name that no text contains. What the
template writes is found in the rendered conversation and gets these names, so template and texts are still encoded in one piece, by
the tokenizer's own rules: a conversation without control tokens in its texts has the tokens that it always had.
"""

from __future__ import annotations

import functools
import json
import re
import secrets
import string
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vertical_sdk.bases.chat_template import render_turns
from vertical_sdk.errors import BaseModelError

__all__ = ["TextTokenizer", "TextTokens"]

MARKER = re.compile(r"<[|｜].+[|｜]>|\[[A-Z_]+\]")
"""Names of added tokens that are control tokens even if the tokenizer does not call them special."""


@dataclass(frozen=True, slots=True)
class TextTokens:
    """A text as tokens.

    ids      the tokens
    offsets  for each token the characters (from, until) that it was made of
    """

    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]


class TextTokenizer:
    """A base's tokenizer for texts that anybody may have written.

    tokenizer  the base's own; it is not changed, and its truncation and padding are off
    control    each control token → its id

    Raises BaseModelError for a tokenizer without a fast form.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.control = _find_control_tokens(tokenizer)
        self.unknown_id: int | None = tokenizer.unk_token_id
        self._pattern = _match_any(self.control)
        self._edges = _match_edges(self.control)
        self._names = {token: _random_letters() for token in self.control}
        self._stand_in = _random_letters()
        self._backend = _rename(tokenizer, self._names, self.control)

    def encode(self, text: str, *, special: bool = False) -> TextTokens:
        """Encode a text, in which nothing is a control token, or a conversation that `render` wrote.

        special  with the tokens that the base expects around a text, such as [CLS] and [SEP]
        """
        encoding = self._backend.encode(text, add_special_tokens=special)
        return TextTokens(tuple(encoding.ids), tuple(encoding.offsets))

    def render(self, turns: Sequence[Mapping[str, str]], write: Callable[[list[dict[str, str]]], str]) -> str:
        """Write a conversation by the base's chat template, for `encode`.

        turns  role and content of each
        write  renders turns by the template

        The template's control tokens have their random names in the result. Those in the contents are hidden from it while it
        renders, and so is the beginning or end of one at a content's edge, which could join what the template writes beside it.
        """
        hidden: list[str] = []

        def hide(match: re.Match[str]) -> str:
            hidden.append(match[0])
            return f"{self._stand_in}{len(hidden) - 1}q"

        def hide_in(content: str) -> str:
            inner = content.strip()  # many templates strip it too, so that its edges are those of the rest
            return content.replace(inner, self._edges.sub(hide, inner), 1) if inner else content

        safe = [{**turn, "content": hide_in(turn["content"])} for turn in turns]
        rendered = self._pattern.sub(lambda match: self._names[match[0]], write(safe))
        return re.sub(rf"{self._stand_in}(\d+)q", lambda match: hidden[int(match[1])], rendered, flags=re.IGNORECASE)

    def count_control(self, text: str) -> int:
        """Count the control tokens that are written in a text; they are read as characters."""
        return sum(1 for _ in self._pattern.finditer(text))

    def count_unknown(self, ids: Sequence[int]) -> int:
        """Count the tokens [UNK]: what is written is not in the vocabulary."""
        return 0 if self.unknown_id is None else ids.count(self.unknown_id)

    @functools.cached_property
    def edges(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The tokens that `special` adds before a text and after it."""
        whole, plain = self.encode("x", special=True).ids, self.encode("x").ids
        before = next(n for n in range(len(whole)) if whole[n : n + len(plain)] == plain)
        return whole[:before], whole[before + len(plain) :]

    @functools.cached_property
    def extra(self) -> int:
        """How many tokens `special` adds to a text."""
        return int(self._backend.num_special_tokens_to_add(False))


def _find_control_tokens(tokenizer: Any) -> dict[str, int]:
    """Find the added tokens that are special, look like a marker, or are written by the chat template around a plain question.

    Other added tokens, such as runs of spaces or <think>, are part of the text, as their tokenizer declares.
    """
    rendered = ""
    if getattr(tokenizer, "chat_template", None):
        try:
            question = [{"role": "user", "content": "x"}]
            rendered = render_turns(tokenizer, question, question=True)
        except Exception:  # noqa: BLE001  (a template is a program of the base's; a conversation that it refuses is reported where it is used)
            rendered = ""
    return {
        token.content: int(number)
        for number, token in tokenizer.added_tokens_decoder.items()
        if token.content.strip() and (token.special or MARKER.fullmatch(token.content) or token.content in rendered)
    }


def _match_any(tokens: Iterable[str]) -> re.Pattern[str]:
    """A pattern of any of the tokens, the longest first, as tokenizers find them; without tokens it matches nothing."""
    return re.compile("|".join(map(re.escape, sorted(tokens, key=len, reverse=True))) or r"(?!)")


def _match_edges(tokens: Collection[str]) -> re.Pattern[str]:
    """A pattern of any of the tokens, of their ends at the beginning of a text, and of their beginnings at its end."""
    starts = {token[:length] for token in tokens for length in range(1, len(token))}
    ends = {token[-length:] for token in tokens for length in range(1, len(token))}
    whole, end, start = (_match_any(pieces).pattern for pieces in (tokens, ends, starts))
    return re.compile(rf"{whole}|\A(?:{end})|(?:{start})\Z")


def _random_letters() -> str:
    """A word that no text contains. Answers do not depend on it."""
    return "".join(secrets.choice(string.ascii_lowercase) for _ in range(40))


def _rename(tokenizer: Any, names: Mapping[str, str], control: Mapping[str, int]) -> Any:
    """Copy the tokenizer's backend with other names for its control tokens.

    Raises BaseModelError if there is no backend, or if it cannot be copied.
    """
    from tokenizers import Tokenizer

    where = str(getattr(tokenizer, "name_or_path", "") or "")
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise BaseModelError(
            "its tokenizer has no fast form (tokenizer.json), which is needed to tell texts from control tokens. Choose another base.",
            where=where,
        )
    try:
        table = json.loads(backend.to_str())
        for token in table["added_tokens"]:
            token["content"] = names.get(token["content"], token["content"])
        _rename_in_model(table["model"], names)
        copy = Tokenizer.from_str(json.dumps(table))
    except Exception as error:  # noqa: BLE001  (tokenizers raises plain Exception)
        raise BaseModelError(f"its tokenizer cannot be copied: {error}", where=where) from None
    copy.no_truncation()
    copy.no_padding()
    lost = [token for token, number in control.items() if copy.encode(names[token], add_special_tokens=False).ids != [number]]
    if lost:
        raise BaseModelError(
            f"its tokenizer does not read its control tokens ({', '.join(lost)}) as one token each.", where=where
        )
    return copy


def _rename_in_model(model: dict[str, Any], names: Mapping[str, str]) -> None:
    """Rename tokens in the vocabulary, so that the model cannot build them from characters either."""
    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in vocabulary]
    else:
        model["vocab"] = {names.get(piece, piece): number for piece, number in vocabulary.items()}
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    if "merges" in model:
        pairs = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in model["merges"]]
        model["merges"] = [list(pair) for pair in pairs if not {*pair, "".join(pair)} & names.keys()]
