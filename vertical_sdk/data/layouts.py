"""Find the meaning of columns: the recipe names them, or their names are known. Two candidates are an error, not a guess.

Layouts of conversations: `messages` (role, content), sharegpt (`conversations` of from, value), alpaca (instruction, input,
output) and prompt/completion. Of other tasks: a text column and a label column.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vertical_sdk.cells import MISSING_WORDS, is_empty, is_missing, plain_value, to_number
from vertical_sdk.data.formats import Rows
from vertical_sdk.errors import DataError, RecipeError, did_you_mean
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Message, TaskName

__all__ = [
    "LABELS",
    "TEXTS",
    "Layout",
    "UnusableRow",
    "cell",
    "cell_columns",
    "find_layout",
    "has_name",
    "is_index_name",
    "list_used",
    "numbers_rows",
    "parse_conversation",
    "refuse_unknown_columns",
]

KEYS = ("id", "text", "label", "group", "time", "split", "messages")
TEXTS = (
    *("text", "sentence", "document", "review", "content", "comment", "utterance", "input", "question"),
    *(
        "文本",
        "内容",
        "正文",
        "文字",
        "句子",
        "评论",
        "评论内容",
        "文章",
        "文本内容",
        "內容",
        "評論",
        "本文",
        "テキスト",
        "レビュー",
    ),
    *("텍스트", "내용", "리뷰", "texto", "comentario", "reseña", "mensaje", "comentário", "mensagem", "resenha", "texte"),
    *("commentaire", "avis", "beschreibung", "kommentar", "testo", "recensione", "tekst", "текст", "отзыв", "сообщение", "نص"),
)
LABELS = (
    *("label", "labels", "target", "class", "category", "output", "score"),
    *(
        "标签",
        "类别",
        "分类",
        "类目",
        "标注",
        "情感",
        "情感标签",
        "標籤",
        "類別",
        "分類",
        "ラベル",
        "カテゴリ",
        "라벨",
        "레이블",
        "분류",
    ),
    *("etiqueta", "categoría", "clase", "categoria", "classe", "rótulo", "étiquette", "etiquette", "catégorie", "categorie"),
    *("klasse", "kategorie", "etikett", "etichetta", "etykieta", "kategoria", "метка", "класс", "категория", "تصنيف"),
)
PAIRS = (("prompt", "completion"), ("prompt", "response"), ("instruction", "output"), ("instruction", "response"))
SHOWN = 40
"""Columns that a message names."""
ROLES: dict[str, Any] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
}


class UnusableRow(Exception):
    """A row whose conversation cannot be learned as it is; the message is the reason, for the account."""


@dataclass(frozen=True)
class Layout:
    """The columns of a file and their meaning.

    columns   our key → the column of the file
    messages  row → its turns, for generation; raises ValueError that says what is wrong with the row, and UnusableRow
    detected  what was recognized, for people
    """

    columns: Mapping[str, str]
    detected: str
    messages: Callable[[Mapping[str, Any]], tuple[Message, ...]] | None = None


def find_layout(
    rows: Rows,
    columns: Mapping[str, str],
    task: TaskName,
    *,
    need_label: bool = True,
    words: Collection[str] = MISSING_WORDS,
) -> Layout:
    """Find the layout of a file.

    need_label  False for rows to predict: their label is then not read, whether it is there or not
    words       words that mean a missing cell

    Raises RecipeError for an unknown key of `columns`, DataError if a column is missing or two are candidates.
    """
    for key, name in columns.items():
        if key not in KEYS:
            raise RecipeError(
                f"unknown key {key!r}.{did_you_mean(key, KEYS)} Known here: {', '.join(KEYS)}.", where="data.columns"
            )
        if key == "label" and not need_label:
            continue
        for part in cell_columns(name, rows.columns):
            _require_column(rows, key, part)
    if get_task(task).written:
        return _find_conversation_layout(rows, columns, need_label, words)
    chosen = {key: name for key, name in columns.items() if key != "label" or need_label}
    text = chosen.get("text") or _find_only_column(rows, TEXTS, "text", set(columns.values()))
    if text is None:
        raise DataError(
            f"no text column. {_list_columns(rows)} Set data.columns.text, or data.reader.record: all if a row is a record.",
            where=rows.path,
        )
    chosen["text"] = text
    if need_label:
        label = chosen.get("label") or _find_only_column(rows, LABELS, "label", {text})
        if label is None:
            raise DataError(f"no label column. {_list_columns(rows)} Set data.columns.label.", where=rows.path)
        chosen["label"] = label
    return Layout(chosen, f"{rows.format}, " + ", ".join(f"{key} from {name!r}" for key, name in chosen.items()))


def is_index_name(column: str) -> bool:
    """Whether pandas gives this name to an index that it writes or reads as a column."""
    return re.fullmatch(r"__index_level_\d+__|Unnamed: 0(\.\d+)?", column) is not None


def numbers_rows(rows: Rows, column: str) -> bool:
    """Whether a column numbers the rows, as the index of a DataFrame does in a file: it says nothing about them."""
    nameless = column == "column_1" and column == rows.columns[0] and rows.details.get("header", "none") != "none"
    if not nameless and not is_index_name(column):
        return False
    numbers = [to_number(row.get(column)) for row in rows.rows]
    return all(number is not None and number.is_integer() for number in numbers) and len(set(numbers)) == len(numbers)


def list_used(present: Iterable[str], columns: Mapping[Any, str]) -> set[str]:
    """List the columns with another use than a field of a record: those that `columns` names, and common names of a label and an id."""
    known = list(present)
    used = {part for name in columns.values() for part in cell_columns(name, known)}
    used |= {column for column in known if "label" not in columns and has_name(column, LABELS)}
    return used | {column for column in known if "id" not in columns and has_name(column, ("id",))}


def refuse_unknown_columns(present: Iterable[str], columns: Mapping[Any, str], reads: Sequence[str], where: str | Path) -> None:
    """Raise DataError if there is a column that a specialist does not read and that has no other use.

    present  the columns of a file or a table, without one that numbers the rows
    columns  as in a recipe: our key → the column
    reads    the columns that the specialist reads, by the names that they have here
    """
    present = list(present)
    used = list_used(present, columns)
    extra = [column for column in present if column not in reads and column not in used]
    if extra:
        raise DataError(
            f"unknown columns {', '.join(map(repr, extra))}.{did_you_mean(extra[0], reads)} This specialist reads "
            f"{', '.join(reads)}. Remove the others.",
            where=where,
        )


def has_name(column: str, names: Sequence[str]) -> bool:
    """Whether a column has one of these names, in any case."""
    return unicodedata.normalize("NFC", column.strip()).lower() in names


def cell_columns(name: str, known: Sequence[str]) -> list[str]:
    """List the columns that a name means: itself, or several joined by " + "."""
    return [name] if name in known or " + " not in name else [part.strip() for part in name.split(" + ")]


def cell(row: Mapping[str, Any], name: str, words: Collection[str] = MISSING_WORDS) -> Any:
    """Return the value of a row in a column. Several columns give their texts, with an empty line between them."""
    if name in row or " + " not in name:
        return row.get(name)
    return _join_texts([row.get(part.strip()) for part in name.split(" + ")], words)


def _join_texts(cells: Sequence[Any], words: Collection[str]) -> str:
    """Join the cells that are not missing, with an empty line between them."""
    return "\n\n".join(str(plain_value(cell)) for cell in cells if not is_missing(cell, words))


def _require_column(rows: Rows, key: str, name: str) -> None:
    if name not in rows.columns:
        raise DataError(
            f"data.columns.{key}: no column {name!r}.{did_you_mean(name, rows.columns)} {_list_columns(rows)}", where=rows.path
        )


def _list_columns(rows: Rows) -> str:
    more = f" and {len(rows.columns) - SHOWN} more" if len(rows.columns) > SHOWN else ""
    return f"The columns are {', '.join(map(repr, rows.columns[:SHOWN]))}{more}."


def _find_only_column(rows: Rows, names: Sequence[str], key: str, taken: set[str]) -> str | None:
    """Find the only column with a common name for this key."""
    candidates = [column for column in rows.columns if has_name(column, names) and column not in taken]
    if len(candidates) > 1:
        either = " and ".join(map(repr, candidates))
        raise DataError(f"{either} could both be the {key}. {_list_columns(rows)} Set data.columns.{key}.", where=rows.path)
    return candidates[0] if candidates else None


def _find_conversation_layout(rows: Rows, columns: Mapping[str, str], need_label: bool, words: Collection[str]) -> Layout:
    others = {key: name for key, name in columns.items() if key not in {"text", "label", "messages"}}
    if "messages" in columns:
        return _turns_layout(rows, columns["messages"], others)
    if "text" in columns:
        if "label" not in columns and need_label:
            raise DataError(
                f"data.columns has text but no label, the column of the answers. {_list_columns(rows)}", where=rows.path
            )
        return _pair_layout(rows, _Pair(columns["text"], columns.get("label", "") if need_label else ""), others, words)
    layouts: list[Layout] = [
        _turns_layout(rows, name, others) for name in ("messages", "conversations") if name in rows.columns
    ]
    for question, answer in PAIRS:
        if question in rows.columns and answer in rows.columns:
            context = "input" if question == "instruction" and "input" in rows.columns else None
            name = "alpaca" if question == "instruction" else "prompt/completion"
            layouts.append(_pair_layout(rows, _Pair(question, answer if need_label else "", context, name), others, words))
    if len(layouts) > 1:
        raise DataError(
            f"{' and '.join(layout.detected for layout in layouts)} are both possible. {_list_columns(rows)} "
            "Set data.columns: {messages: ...} or {text: ..., label: ...}.",
            where=rows.path,
        )
    prompts = [name for name in ("prompt", "instruction", "text") if name in rows.columns]
    if not layouts and not need_label and len(prompts) == 1:
        return _pair_layout(rows, _Pair(prompts[0], name="prompt"), others, words)
    if not layouts:
        raise DataError(
            "no conversation is recognized: neither messages, nor sharegpt (conversations), nor alpaca (instruction, input, "
            f"output), nor prompt/completion. {_list_columns(rows)} Set data.columns: {{text: ..., label: ...}}.",
            where=rows.path,
        )
    return layouts[0]


def _turns_layout(rows: Rows, name: str, others: Mapping[str, str]) -> Layout:
    first = next((row[name] for row in rows.rows if row.get(name)), None)
    sharegpt = isinstance(first, list) and isinstance(first[0], dict) and "from" in first[0]
    kind = "sharegpt" if sharegpt else "messages"
    return Layout(others, f"{rows.format}, {kind} in {name!r}", lambda row: parse_conversation(row.get(name)))


@dataclass(frozen=True)
class _Pair:
    """The columns of a question, its answer ("" if it is not read) and its context; and the name of such a layout."""

    question: str
    answer: str = ""
    context: str | None = None
    name: str = "prompt/completion"


def _pair_layout(rows: Rows, pair: _Pair, others: Mapping[str, str], words: Collection[str]) -> Layout:
    columns = {"text": pair.question, **({"label": pair.answer} if pair.answer else {}), **others}

    def messages(row: Mapping[str, Any]) -> tuple[Message, ...]:
        prompt, reply = cell(row, pair.question, words), cell(row, pair.answer, words)
        for value in (prompt, reply):
            if isinstance(value, (dict, list)):
                raise ValueError(f"a text is needed in {pair.question!r} and {pair.answer!r}, not a {type(value).__name__}")
        system = row.get("system") if pair.name == "alpaca" else None
        turns = [] if is_missing(system, words) else [Message("system", str(system))]
        turns.append(Message("user", _join_texts([prompt, row.get(pair.context) if pair.context else None], words)))
        if not is_empty(reply):  # an answer may be a word such as "None"
            turns.append(Message("assistant", str(plain_value(reply))))
        return tuple(turns)

    used = " + ".join(repr(part) for part in (pair.question, pair.context, pair.answer) if part)
    return Layout(columns, f"{rows.format}, {pair.name} in {used}", messages)


def parse_conversation(value: Any) -> tuple[Message, ...]:
    """Read turns from [{role, content}] or [{from, value}]. A content in parts gives its texts.

    Raises ValueError that says what is wrong; UnusableRow for a part that is not text, and for a turn without text before the last.
    """
    if is_empty(value):
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
            content = "\n".join(map(_read_part, content))
        if is_empty(content):
            content = ""
        if not isinstance(content, str):
            raise ValueError(f"turn {number} has a {type(content).__name__} for content, not a text")
        if content or ROLES[role] != "system":
            turns.append(Message(ROLES[role], content))
    if any(not turn.content for turn in turns[:-1]):
        raise UnusableRow("a turn without text")
    return tuple(turns)


def _read_part(part: Any) -> str:
    text = part.get("text") if isinstance(part, dict) else part
    if not isinstance(text, str):
        raise UnusableRow("a turn with a part that is not text, such as an image")
    return text
