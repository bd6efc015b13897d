"""Small helpers on examples that several steps share."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Hashable
from dataclasses import replace

from vertical_sdk.recipe import Prompt
from vertical_sdk.types import Example, Message

__all__ = [
    "apply_prompt",
    "comparable_values",
    "fold_text",
    "format_prompt",
    "full_text",
    "list_texts",
    "prompt_text",
    "replace_texts",
    "shuffle_key",
    "split_paragraph",
    "stable_hash",
]


BOUNDARY = re.compile(r"""[.!?]["'’”)\]]*\s+(?![a-z])""")
"""The end of a sentence."""
_CODE = re.compile(r"[A-Za-z][0-9]|[=#()\[\]@]")


def list_texts(example: Example) -> list[str]:
    """List the texts of an example: its text, or the turns of its conversation."""
    return [turn.content for turn in example.messages] if example.messages else [example.text]


def replace_texts(example: Example, texts: list[str]) -> Example:
    """Replace the texts of an example, in the order of `list_texts`. Equal texts give the same example."""
    if texts == list_texts(example):
        return example
    if not example.messages:
        return replace(example, text=texts[0])
    turns = zip(example.messages, texts, strict=True)
    return replace(example, messages=tuple(Message(turn.role, text) for turn, text in turns))


def full_text(example: Example) -> str:
    """Join all texts of an example, answer included."""
    return "\n".join(list_texts(example))


def prompt_text(example: Example) -> str:
    """Join the texts that a specialist reads: the text, or the conversation without its last answer."""
    turns = example.messages
    if not turns:
        return example.text
    return "\n".join(turn.content for turn in (turns[:-1] if turns[-1].role == "assistant" else turns))


def format_prompt(prompt: Prompt, text: str) -> tuple[Message, ...]:
    """Write a text as a conversation, as the recipe's prompt says."""
    system = (Message("system", prompt.system),) if prompt.system else ()
    return (*system, Message("user", prompt.user.replace("{text}", text)))


def apply_prompt(example: Example, prompt: Prompt) -> Example:
    """Write a conversation of one question without a system turn as the recipe's prompt says, as in prediction."""
    turns = example.messages
    if not turns or turns[0].role != "user" or any(turn.role == "user" for turn in turns[1:]):
        return example
    return replace(example, messages=(*format_prompt(prompt, turns[0].content), *turns[1:]))


def comparable_values(example: Example) -> Hashable:
    """Return the numbers of a row in a form that can be compared; None for a row without numbers."""
    return None if example.values is None else (example.values.shape, example.values.tobytes())


def fold_text(text: str) -> str:
    """Return the form in which texts are compared: casefolded, every run of white space one space.

    In a text of one word with digits or brackets, which may be a code or a molecule (SMILES), case matters.
    """
    words = text.split()
    return words[0] if len(words) == 1 and _CODE.search(words[0]) else " ".join(words).casefold()


def stable_hash(*parts: object) -> int:
    """Hash the parts to a 64-bit number that is the same on every machine and in every process."""
    joined = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(joined.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def shuffle_key(seed: int, example: Example) -> tuple[int, str]:
    """Return a sort key that shuffles rows by seed, independently of their order."""
    return stable_hash(seed, example.id, full_text(example)), example.id


def split_paragraph(paragraph: str) -> tuple[str, str] | None:
    """Split a paragraph in two at the sentence end nearest to its middle; None if it is one sentence."""
    ends = [match.end() for match in BOUNDARY.finditer(paragraph.strip())]
    if not ends:
        return None
    text = paragraph.strip()
    cut = min(ends, key=lambda end: abs(2 * end - len(text)))
    return (text[:cut].rstrip(), text[cut:]) if text[cut:] else None
