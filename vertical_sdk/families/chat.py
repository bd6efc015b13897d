"""Conversations as tokens, and which of the tokens are answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from vertical_sdk.bases.base import Base, load_text_tokenizer
from vertical_sdk.bases.chat_template import render_turns
from vertical_sdk.bases.reading import Reading, read_texts
from vertical_sdk.bases.text_tokenizer import TextTokenizer
from vertical_sdk.data.texts import format_prompt
from vertical_sdk.errors import BaseModelError, DataError
from vertical_sdk.families.batching import Encoded
from vertical_sdk.recipe import Prompt
from vertical_sdk.types import Message

__all__ = ["encode_conversation", "encode_prompt", "encode_text", "encode_turns", "read_inputs", "require_template"]


def require_template(tokenizer: Any, base: str) -> None:
    """Raise BaseModelError if the base has no chat template: an invented one would be a silent mismatch."""
    if not getattr(tokenizer, "chat_template", None):
        raise BaseModelError(
            f"{base}: this base has no chat template, so its prompt format is not known. Use its instruction-tuned version, or put a "
            "chat_template.jinja into the base's folder."
        )


def _render(texts: TextTokenizer, messages: Sequence[Message], *, question: bool) -> str:
    """Write a conversation by the base's template, for `TextTokenizer.encode`."""

    def write(turns: list[dict[str, str]]) -> str:
        return render_turns(texts.tokenizer, turns, question=question)

    try:
        return texts.render([{"role": m.role, "content": m.content} for m in messages], write)
    except Exception as error:  # noqa: BLE001  (a template is a program of the base's; whatever it raises is about these turns)
        roles = ", ".join(m.role for m in messages)
        raise DataError(f"the base's chat template refuses the turns {roles}: {error}") from None


def encode_prompt(texts: TextTokenizer, prompt: Prompt, text: str, max_length: int) -> Encoded:
    """Encode the prompt of a text, up to the answer.

    What does not fit is cut from the text's end, never from the template around it.
    """
    ids = _encode_prompt(texts, prompt, text)
    cut = max(0, len(ids) - max_length)
    row = _describe(texts, ids, [text], cut)
    if not cut:
        return row
    offsets = texts.encode(text).offsets
    keep = len(offsets)
    while len(ids) > max_length:
        keep -= max(1, len(ids) - max_length)
        if keep <= 0:
            raise DataError(
                f"max_length is {max_length} tokens, but the prompt takes {len(ids)} with none of the text in it. "
                "Raise data.max_length or shorten prompt.system."
            )
        ids = _encode_prompt(texts, prompt, text[: offsets[keep - 1][1]])
    return replace(row, ids=ids)


def _encode_prompt(texts: TextTokenizer, prompt: Prompt, text: str) -> tuple[int, ...]:
    return texts.encode(_render(texts, format_prompt(prompt, text), question=True)).ids


def read_inputs(base: Base, texts: Iterable[str], prompt: Prompt) -> Reading:
    """How a base reads texts: as they are, or in the prompt of a causal base, whose tokens are then counted too.

    Raises BaseModelError for a causal base without a chat template.
    """
    tokenizer = load_text_tokenizer(base)
    reading = read_texts(tokenizer, texts)
    if base.family != "causal":
        return reading
    require_template(tokenizer.tokenizer, base.name)
    around = len(_encode_prompt(tokenizer, prompt, "x")) - len(tokenizer.encode("x").ids) - tokenizer.extra
    return replace(reading, lengths=tuple(length + around for length in reading.lengths))


def encode_conversation(texts: TextTokenizer, messages: Sequence[Message], max_length: int) -> Encoded:
    """Encode a conversation, with the tokens of the assistant's turns marked as tokens to learn.

    Raises DataError if the template does not render a conversation as the beginning of a longer one: then the tokens of an
    answer cannot be found.
    """
    text = _render(texts, messages, question=False)
    spans = []
    for number, message in enumerate(messages):
        if message.role == "assistant":
            before = _render(texts, messages[:number], question=True)
            until = _render(texts, messages[: number + 1], question=False)
            if not until.startswith(before) or not text.startswith(until.rstrip()):
                raise DataError(
                    "the base's chat template changes earlier turns when a later turn follows, so the answers cannot be found."
                )
            spans.append((len(before), len(until)))
    encoded = texts.encode(text)
    learn = tuple(any(low <= start and end <= high and end > start for low, high in spans) for start, end in encoded.offsets)
    row = _describe(texts, encoded.ids, [m.content for m in messages], max(0, len(encoded.ids) - max_length))
    return replace(row, ids=row.ids[:max_length], learn=learn[:max_length])


def encode_text(texts: TextTokenizer, text: str, max_length: int, *, learn: bool) -> Encoded:
    """Encode a text as it is, without a chat template; what does not fit is cut from its end.

    learn   all tokens are to be learned. Without it, the target is the number of characters of the tokens that have one before them
    """
    encoded = texts.encode(text, special=True)
    ids, offsets = encoded.ids[:max_length], encoded.offsets[:max_length]
    row = replace(_describe(texts, encoded.ids, [text], max(0, len(encoded.ids) - max_length)), ids=ids)
    if learn:
        return replace(row, learn=(True,) * len(ids))
    return replace(row, target=float(max((end for _, end in offsets), default=0) - (offsets[0][1] if offsets else 0)))


def encode_turns(texts: TextTokenizer, messages: Sequence[Message], max_length: int) -> tuple[int, ...]:
    """Encode a conversation up to the assistant's next answer.

    Raises DataError if they do not fit: the SDK does not choose a turn to cut.
    """
    ids = texts.encode(_render(texts, messages, question=True)).ids
    if len(ids) > max_length:
        raise DataError(
            f"the conversation has {len(ids)} tokens, {max_length} fit. Shorten it, or train with a larger data.max_length."
        )
    return ids


def _describe(texts: TextTokenizer, ids: tuple[int, ...], contents: Sequence[str], cut: int) -> Encoded:
    """A row of these tokens, with counts of what is unknown or a control token in its contents."""
    parts = [texts.encode(content).ids for content in contents] if texts.count_unknown(ids) else []
    return Encoded(
        ids=ids,
        cut=cut,
        unknown=sum(map(texts.count_unknown, parts)),
        tokens=sum(map(len, parts)),
        control=sum(map(texts.count_control, contents)),
    )
