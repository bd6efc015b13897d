"""Which columns mean what: named by the recipe, or recognised by their names, never guessed between two.

Layouts of conversations: `messages` (role, content), sharegpt (`conversations` of from, value), alpaca (instruction, input,
output) and prompt/completion. Of other tasks: a text column and a label column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vertical_sdk.data.formats import Rows
from vertical_sdk.errors import DataError, RecipeError, did_you_mean
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Message, Task

__all__ = ["KEYS", "Layout", "cell", "conversation", "find_layout"]

KEYS = ("id", "text", "label", "group", "time", "split", "messages")
TEXTS = ("text", "sentence", "document", "review", "content", "comment", "utterance", "input", "question")
LABELS = ("label", "labels", "target", "class", "category", "output", "score")
PAIRS = (("prompt", "completion"), ("prompt", "response"), ("instruction", "output"), ("instruction", "response"))
ROLES: dict[str, Any] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
}


@dataclass(frozen=True)
class Layout:
    """Where a row's parts stand.

    columns   our key → the file's column
    messages  row → its turns, for generation; raises ValueError that says what is wrong with the row
    said      for people: what was recognised
    """

    columns: Mapping[str, str]
    said: str
    messages: Callable[[Mapping[str, Any]], tuple[Message, ...]] | None = None


def find_layout(rows: Rows, columns: Mapping[str, str], task: Task, *, need_label: bool = True) -> Layout:
    """The layout of a file.

    Raises RecipeError for a key of `columns` that does not exist, DataError where a column is missing or two would do.
    """
    for key, name in columns.items():
        if key not in KEYS:
            raise RecipeError(f"data.columns: unknown key {key!r}.{did_you_mean(key, KEYS)} Known here: {', '.join(KEYS)}.")
        if key == "label" and not need_label and name not in rows.columns:
            continue
        for part in cell_columns(name, rows.columns):
            _known(rows, key, part)
    if get_task(task).written:
        return _generation(rows, columns, need_label)
    found = {key: name for key, name in columns.items() if key != "label" or need_label or name in rows.columns}
    text = found.get("text") or _only(rows, TEXTS, "text", set(columns.values()))
    if text is None:
        raise DataError(f"{rows.path}: no text column. {_listed(rows)} Set data.columns.text.")
    found["text"] = text
    label = found.get("label") or ("label" not in columns and _only(rows, LABELS, "label", {text})) or None
    if label:
        found["label"] = label
    elif need_label:
        raise DataError(f"{rows.path}: no label column. {_listed(rows)} Set data.columns.label.")
    return Layout(found, f"{rows.format}, " + ", ".join(f"{key} from {name!r}" for key, name in found.items()))


def cell_columns(name: str, known: Sequence[str]) -> list[str]:
    """The columns that a name stands for: itself, or several joined by " + "."""
    return [name] if name in known or " + " not in name else [part.strip() for part in name.split(" + ")]


def cell(row: Mapping[str, Any], name: str) -> Any:
    """A row's value in a column; several columns give their texts, an empty line between."""
    if name in row or " + " not in name:
        return row.get(name)
    values = [row.get(part.strip()) for part in name.split(" + ")]
    return "\n\n".join(str(value) for value in values if value not in (None, ""))


def _known(rows: Rows, key: str, name: str) -> None:
    if name not in rows.columns:
        raise DataError(
            f"{rows.path}: data.columns.{key}: no column {name!r}.{did_you_mean(name, rows.columns)} {_listed(rows)}"
        )


def _listed(rows: Rows) -> str:
    return f"The columns are {', '.join(map(repr, rows.columns))}."


def _only(rows: Rows, names: Sequence[str], key: str, taken: set[str]) -> str | None:
    """The one column that has a usual name for this."""
    found = [column for column in rows.columns if column.lower() in names and column not in taken]
    if len(found) > 1:
        either = " and ".join(map(repr, found))
        raise DataError(f"{rows.path}: {either} could both be the {key}. {_listed(rows)} Set data.columns.{key}.")
    return found[0] if found else None


def _generation(rows: Rows, columns: Mapping[str, str], need_label: bool) -> Layout:
    kept = {key: name for key, name in columns.items() if key not in {"text", "label", "messages"}}
    if "messages" in columns:
        return _turns_layout(rows, columns["messages"], kept)
    if "text" in columns:
        if "label" not in columns and need_label:
            raise DataError(f"{rows.path}: data.columns has text but no label, the column of the answers. {_listed(rows)}")
        return _pair_layout(rows, columns["text"], columns.get("label", ""), None, kept, "prompt/completion")
    found: list[Layout] = [_turns_layout(rows, name, kept) for name in ("messages", "conversations") if name in rows.columns]
    for ask, answer in PAIRS:
        if ask in rows.columns and answer in rows.columns:
            context = "input" if ask == "instruction" and "input" in rows.columns else None
            name = "alpaca" if ask == "instruction" else "prompt/completion"
            found.append(_pair_layout(rows, ask, answer, context, kept, name))
    if len(found) > 1:
        raise DataError(
            f"{rows.path}: {' and '.join(layout.said for layout in found)} would both do. {_listed(rows)} "
            "Set data.columns: {messages: ...} or {text: ..., label: ...}."
        )
    asked = [name for name in ("prompt", "instruction", "text") if name in rows.columns]
    if not found and not need_label and len(asked) == 1:
        return _pair_layout(rows, asked[0], "", None, kept, "prompt")
    if not found:
        raise DataError(
            f"{rows.path}: no conversation is recognised: neither messages, nor sharegpt (conversations), nor alpaca "
            f"(instruction, input, output), nor prompt/completion. {_listed(rows)} Set data.columns: {{text: ..., label: ...}}."
        )
    return found[0]


def _turns_layout(rows: Rows, name: str, kept: Mapping[str, str]) -> Layout:
    first = next((row[name] for row in rows.rows if row.get(name)), None)
    sharegpt = isinstance(first, list) and isinstance(first[0], dict) and "from" in first[0]
    kind = "sharegpt" if sharegpt else "messages"
    return Layout(kept, f"{rows.format}, {kind} in {name!r}", lambda row: conversation(row.get(name)))


def _pair_layout(rows: Rows, ask: str, answer: str, context: str | None, kept: Mapping[str, str], name: str) -> Layout:
    columns = {"text": ask, **({"label": answer} if answer else {}), **kept}

    def messages(row: Mapping[str, Any]) -> tuple[Message, ...]:
        question, reply = cell(row, ask), cell(row, answer)
        for value in (question, reply):
            if isinstance(value, (dict, list)):
                raise ValueError(f"a text is needed in {ask!r} and {answer!r}, not a {type(value).__name__}")
        more = row.get(context) if context else None
        user = "\n\n".join(str(part) for part in (question, more) if part not in (None, ""))
        system = row.get("system") if name == "alpaca" else None
        turns = [Message("system", str(system))] if system else []
        turns.append(Message("user", user))
        if reply not in (None, ""):
            turns.append(Message("assistant", str(reply)))
        return tuple(turns)

    used = " + ".join(repr(part) for part in (ask, context, answer) if part)
    return Layout(columns, f"{rows.format}, {name} in {used}", messages)


def conversation(value: Any) -> tuple[Message, ...]:
    """Turns from [{role, content}] or [{from, value}]; a content in parts gives its texts.

    Raises ValueError that says what is wrong.
    """
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ValueError(f"a list of turns is needed, not a {type(value).__name__}")
    turns = []
    for number, turn in enumerate(value, 1):
        if not isinstance(turn, dict):
            raise ValueError(f"turn {number} is a {type(turn).__name__}, not an object with role and content")
        role = turn.get("role", turn.get("from"))
        if role not in ROLES:
            raise ValueError(f"turn {number} has the role {role!r}; known are {', '.join(ROLES)}")
        content = turn.get("content", turn.get("value"))
        if isinstance(content, list):
            content = "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
        if content is not None and not isinstance(content, str):
            raise ValueError(f"turn {number} has a {type(content).__name__} for content, not a text")
        turns.append(Message(ROLES[role], content or ""))
    return tuple(turns)
