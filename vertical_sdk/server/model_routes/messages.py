"""Conversations of requests, in OpenAI's shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from vertical_sdk.types import Message

__all__ = ["Turn", "read_turns"]


class TextPart(BaseModel):
    """A part of a turn: a text."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["text"]
    text: str


class Turn(BaseModel):
    """One turn of a conversation. "developer" is OpenAI's newer name for "system"."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]


def read_turns(turns: Sequence[Turn]) -> tuple[Message, ...]:
    """The turns as the engine reads them; the parts of one are joined."""
    return tuple(
        Message(
            "system" if turn.role == "developer" else turn.role,
            turn.content if isinstance(turn.content, str) else "".join(part.text for part in turn.content),
        )
        for turn in turns
    )
