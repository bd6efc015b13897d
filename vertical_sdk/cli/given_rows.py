"""The rows that a command answers: read once to find what is wrong with them, and again, part by part, to be answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vertical_sdk.types import Example

__all__ = ["GivenRows", "Problem", "find_problem", "iterate_file"]

PART = 1024
"""Rows of a file in memory at a time."""
SHOWN = 5
"""Ids of rows with the same problem that are kept."""
Part = tuple[list[Example], Mapping[str, int]]
"""Rows, and what was noted when they were read, with counts."""


@dataclass
class Problem:
    """Why rows cannot be answered: how many, and the ids of the first SHOWN."""

    count: int
    ids: list[str]


class GivenRows:
    """Rows in parts.

    count     rows of all parts
    notes     what was noted when they were read → how often
    problems  why a row cannot be answered → its rows, in the order of the first one
    """

    def __init__(self, read: Callable[[], Iterable[Part]], task: str) -> None:
        """Read all parts once, so that what is wrong with a row is known before the first answer.

        read  is called again for the answers, unless there is only one part, which stays in memory
        """
        self.count = 0
        self.notes: Counter[str] = Counter()
        self.problems: dict[str, Problem] = {}
        self._read = read
        self._only: list[Example] | None = None
        for number, (rows, notes) in enumerate(read()):
            self._only = rows if number == 0 else None
            self.count += len(rows)
            self.notes.update(notes)
            for row in rows:
                if name := find_problem(row, task):
                    problem = self.problems.setdefault(name, Problem(0, []))
                    problem.count += 1
                    if len(problem.ids) < SHOWN:
                        problem.ids.append(row.id)

    def __iter__(self) -> Iterator[list[Example]]:
        """The parts."""
        if self._only is not None:
            yield self._only
            return
        for rows, _ in self._read():
            yield rows


def iterate_file(path: Path, model: Any) -> Iterator[Part]:
    """Read the rows of a file for a specialist, PART at a time. Raises DataError for a file that it cannot read."""
    from vertical_sdk.data.prepare import iterate_rows

    for rows, account in iterate_rows(path, model.adapter.recipe, model.card.contract, size=PART):
        yield rows, account.notes


def find_problem(row: Example, task: str) -> str:
    """Why a row cannot be answered; "" if it can."""
    from vertical_sdk.cells import is_empty
    from vertical_sdk.data.read import find_missing_part
    from vertical_sdk.data.texts import prompt_text

    unread = row.values is None and is_empty(prompt_text(row))
    return find_missing_part(row, task, need_label=False) or ("no text" if unread else "")
