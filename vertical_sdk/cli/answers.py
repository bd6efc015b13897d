"""Answers as JSON lines, as a CSV and as a table: one for each row, in order; a row that was not answered has an error instead."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertical_sdk.cli.output import say, table, to_json
from vertical_sdk.errors import DataError
from vertical_sdk.paths import open_whole
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, Prediction

if TYPE_CHECKING:
    from rich.table import Table

    from vertical_sdk.card import Card

__all__ = ["Answered", "Counts", "check_out", "list_answers", "to_document", "write_answers"]

SUFFIXES = (".csv", ".jsonl")
LONGEST = 200
"""Characters of a text in a table."""


@dataclass(frozen=True)
class Answered:
    """A row with its answer, or with the reason why it has none."""

    row: Example
    prediction: Prediction | None
    error: str = ""

    @property
    def text(self) -> str:
        """What was read, if it was a text."""
        return self.row.text or (self.row.messages[-1].content if self.row.messages else "")

    @property
    def wordless(self) -> bool:
        """Whether the row has numbers and no text."""
        return self.row.values is not None and not self.text


class Counts:
    """Counts over all answers of a command, for the messages at its end."""

    def __init__(self) -> None:
        self.rows = self.truncated = self.unknown = self.control = self.abstained = 0
        self.errors: Counter[str] = Counter()
        self.first: dict[str, list[str]] = {}

    @property
    def failed(self) -> int:
        """How many rows were not answered."""
        return sum(self.errors.values())

    def add(self, answers: Sequence[Answered]) -> None:
        """Count some more answers."""
        self.rows += len(answers)
        for answered in answers:
            if answered.prediction is None:
                self.errors[answered.error] += 1
                ids = self.first.setdefault(answered.error, [])
                if len(ids) < 5:
                    ids.append(answered.row.id)
                continue
            self.truncated += answered.prediction.truncated > 0
            self.unknown += answered.prediction.unknown > 0
            self.control += answered.prediction.control > 0
            self.abstained += bool(answered.prediction.abstained)

    def require_answers(self, where: str | Path) -> None:
        """Raise DataError if no row was answered."""
        if self.failed and self.failed == self.rows:
            raise DataError(f"none of the {self.failed} rows could be answered: {next(iter(self.errors))}.", where=where)

    def report(self, base: str) -> None:
        """Write to stderr what the user must know about these answers."""
        for error, count in self.errors.most_common(5):
            ids = ", ".join(self.first[error]) + (", …" if count > len(self.first[error]) else "")
            say(f"{count} of {self.rows} rows were not answered: {error} (rows {ids}).")
        if self.abstained:
            say(
                f"The specialist abstained from {self.abstained} of {self.rows} answers: it is not sure enough of them to keep its promise."
            )
        if self.truncated:
            say(f"{self.truncated} of {self.rows} texts were longer than the specialist can read, and were cut.")
        if self.unknown:
            say(
                f"{self.unknown} of {self.rows} texts have words that {base} does not know; the specialist could not read them."
            )
        if self.control:
            say(f"{self.control} of {self.rows} texts contain control tokens of {base}, which were read as characters.")


def check_out(path: Path, data: Path | None = None) -> None:
    """Raise DataError if a file of answers cannot be written there: an unknown ending, a folder, or the file with the rows."""
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"the ending should be {' or '.join(SUFFIXES)}, not {path.suffix!r}.", where=path)
    if path.is_dir():
        raise DataError("this is a folder. Give the name of a file.", where=path)
    if data is not None and path.exists() and path.samefile(data):
        raise DataError("this is the file with the rows, which the answers would overwrite. Give another name.", where=path)


def to_document(answered: Answered, *, with_id: bool) -> dict[str, Any]:
    """An answer as a JSON document."""
    document: dict[str, Any] = {"id": answered.row.id} if with_id or answered.wordless else {}
    document |= {} if answered.wordless else {"text": answered.text}
    prediction = answered.prediction
    if prediction is None:
        return document | {"label": None, "probabilities": {}, "error": answered.error}
    document |= {"label": prediction.label, "probabilities": prediction.probabilities}
    if prediction.abstained is not None:
        document["abstained"] = prediction.abstained
    if prediction.interval is not None:
        document["interval"] = prediction.interval
    if prediction.text is not None:
        document["answer"] = prediction.text
    counts = {"truncated": prediction.truncated, "unknown": prediction.unknown, "control": prediction.control}
    return document | counts | {"adapter": prediction.adapter}


@contextlib.contextmanager
def write_answers(
    path: Path, card: Card, *, with_id: bool, top_k: int | None
) -> Iterator[Callable[[Sequence[Answered]], None]]:
    """Open a .csv or .jsonl file of answers, and yield the function that writes some more of them.

    The file has its name only after the block, and not if that raises. Raises what `write_whole` raises.
    """
    with open_whole(path) as file:

        def write(answers: Sequence[Answered]) -> None:
            if path.suffix.lower() == ".csv":
                text = _format_csv(answers, card, with_id=with_id, top_k=top_k, header=not file.tell())
            else:
                text = _format_jsonl(answers, with_id=with_id)
            file.write(text.encode())

        yield write


def _format_jsonl(answers: Sequence[Answered], *, with_id: bool) -> str:
    """Answers as JSON, one on each line."""
    documents = (to_json(to_document(answered, with_id=with_id)) for answered in answers)
    return "".join(json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n" for document in documents)


def _format_csv(answers: Sequence[Answered], card: Card, *, with_id: bool, top_k: int | None, header: bool) -> str:
    """Answers as lines of a CSV: id and text, what the task answers, and the reason for a row without an answer."""
    task = get_task(card.task)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    likeliest = (
        [f"{key}_{n}" for n in range(1, (top_k or 0) + 1) for key in ("likeliest", "probability")] if task.labelled else []
    )
    abstains = ["abstained"] if card.calibration.promise is not None else []
    own = (
        ["answer"]
        if task.written
        else ["label", *(["confidence"] if task.labelled else ["low", "high"]), *abstains, *likeliest]
    )
    ids = ["id"] if with_id or any(answered.wordless for answered in answers) else []
    if header:
        writer.writerow([*ids, "text", *own, "truncated", "unknown", "control", "error"])
    for answered in answers:
        start = [answered.row.id] * len(ids) + [answered.text]
        prediction = answered.prediction
        if prediction is None:
            writer.writerow([*start, *[""] * (len(own) + 3), answered.error])
            continue
        label = prediction.label
        cells: list[Any] = [";".join(label) if isinstance(label, tuple) else label]
        if task.written:
            cells = [prediction.text]
        elif task.labelled:
            cells += [prediction.confidence, *([json.dumps(prediction.abstained)] if abstains else [])]
            cells += [cell for pair in prediction.top_k(top_k or 0) for cell in pair]
        else:
            cells += prediction.interval or (None, None)
        cells += [""] * (len(own) - len(cells))
        writer.writerow([*start, *cells, prediction.truncated, prediction.unknown, prediction.control, ""])
    return text.getvalue()


def list_answers(answers: Sequence[Answered], card: Card, *, top_k: int | None) -> Table:
    """Answers as a table for people. Only a task with labels has probabilities."""
    labelled, failed = get_task(card.task).labelled, any(answered.error for answered in answers)
    abstains = card.calibration.promise is not None
    columns = [
        *("text", "answer"),
        *(["probability"] if labelled else []),
        *(["abstained"] if abstains else []),
        *(["error"] if failed else []),
    ]
    rows = []
    for answered in answers:
        shown = answered.text or (answered.row.id if answered.row.values is not None or not answered.row.text else "")
        line = [shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…", _answer(answered.prediction)]
        line += [_probabilities(answered.prediction, top_k)] if labelled else []
        line += ["yes" if answered.prediction is not None and answered.prediction.abstained else ""] if abstains else []
        rows.append([*line, *([answered.error] if failed else [])])
    return table(columns, rows)


def _answer(prediction: Prediction | None) -> Any:
    if prediction is None:
        return None
    label = prediction.label
    if prediction.interval is not None:
        return f"{label:.4g}, {prediction.interval[0]:.4g} to {prediction.interval[1]:.4g}"
    return prediction.text if prediction.text is not None else ", ".join(label) if isinstance(label, tuple) else label


def _probabilities(prediction: Prediction | None, top_k: int | None) -> str | None:
    """The probability of each chosen label, or the likeliest labels with theirs."""
    if prediction is None:
        return None
    if top_k is not None:
        return ", ".join(f"{label} {probability:.3f}" for label, probability in prediction.top_k(top_k))
    labels = prediction.label if isinstance(prediction.label, tuple) else (prediction.label,)
    known = [
        prediction.probabilities[label] for label in labels if isinstance(label, str) and label in prediction.probabilities
    ]
    return ", ".join(f"{probability:.3f}" for probability in known) or None
