"""What a user should know about the rows of a training: the notes of the steps that read them and check their labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["list_notes"]

STEPS = frozenset({"read", "check labels"})
SHOWN = 5


def list_notes(account: Mapping[str, Any]) -> Iterator[str]:
    """List the notes of an account (`Account.to_dict()`), a line each: a count, or the first few names with theirs."""
    for step in account.get("steps") or ():
        for note, value in step.get("notes", {}).items() if step.get("step") in STEPS else ():
            yield f"{note}: {_write(value)}"


def _write(value: Any) -> str:
    if isinstance(value, Mapping):
        value = [f"{name} {count}" for name, count in value.items()]
    if isinstance(value, list | tuple):
        return "; ".join(map(str, value[:SHOWN])) + ("; ..." if len(value) > SHOWN else "")
    return str(value)
