"""The account of every row: one StepAccount for each step, all of them in an Account."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vertical_sdk.errors import DataError
from vertical_sdk.recipe import Limits

__all__ = ["Account", "StepAccount", "Tally"]

SHOWN = 5
"""Row ids of a reason that a report lists."""


@dataclass(frozen=True)
class StepAccount:
    """The account of one step: `rows_in` + `added` = `rows_out` + `dropped` + `set_aside`, each by reason.

    changed    rows that the step changed
    dropped    rows lost: duplicates, rows without a label
    set_aside  rows not used by design, which do not count as lost: over the cap of a group, on the other side of a split
    added      rows that the step created: augmented copies
    notes      other counts of the step: entities masked, rows of each part
    rows       reason → ids of its rows, in the order of the input
    about      what a reader should know about the step: what it did not look for
    """

    step: str
    rows_in: int
    rows_out: int
    changed: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    set_aside: Mapping[str, int] = field(default_factory=dict)
    added: Mapping[str, int] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    rows: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    about: str = ""

    @property
    def adds_up(self) -> bool:
        """Whether every row of the input and every added row is accounted for."""
        rows = self.rows_in + sum(self.added.values())
        return rows == self.rows_out + sum(self.dropped.values()) + sum(self.set_aside.values())

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, with only the first few row ids of each reason."""
        return {
            "step": self.step,
            "rows_in": self.rows_in,
            "rows_out": self.rows_out,
            "changed": dict(self.changed),
            "dropped": dict(self.dropped),
            "set_aside": dict(self.set_aside),
            "added": dict(self.added),
            "notes": dict(self.notes),
            "examples": {reason: list(ids[:SHOWN]) for reason, ids in self.rows.items()},
            **({"about": self.about} if self.about else {}),
        }


class Tally:
    """Counts rows while a step runs. `close` returns the StepAccount."""

    def __init__(self, step: str) -> None:
        self.step = step
        self._ids: dict[str, dict[str, list[str]]] = {"changed": {}, "dropped": {}, "set_aside": {}, "added": {}}
        self.notes: dict[str, Any] = {}
        self.about = ""

    def change(self, row: str, reason: str) -> None:
        """Count a row that is kept, but changed."""
        self._ids["changed"].setdefault(reason, []).append(row)

    def drop(self, row: str, reason: str) -> None:
        """Count a row that is lost."""
        self._ids["dropped"].setdefault(reason, []).append(row)

    def set_aside(self, row: str, reason: str) -> None:
        """Count a row that is not used, by design."""
        self._ids["set_aside"].setdefault(reason, []).append(row)

    def add(self, row: str, reason: str) -> None:
        """Count a new row."""
        self._ids["added"].setdefault(reason, []).append(row)

    def note(self, name: str, count: int = 1) -> None:
        """Count something other than rows."""
        self.notes[name] = self.notes.get(name, 0) + count

    def close(self, rows_in: int, rows_out: int) -> StepAccount:
        """Return the account. A step that loses a row without counting it is a bug of the library."""
        counts = {kind: {reason: len(ids) for reason, ids in by.items()} for kind, by in self._ids.items()}
        rows = {reason: tuple(ids) for by in self._ids.values() for reason, ids in by.items()}
        account = StepAccount(self.step, rows_in, rows_out, notes=dict(self.notes), rows=rows, about=self.about, **counts)
        if not account.adds_up:
            raise AssertionError(f"the account of {self.step} does not add up: {account.to_dict()}")
        return account


@dataclass(frozen=True)
class Account:
    """All steps, in the order they ran. The first one is reading."""

    steps: tuple[StepAccount, ...] = ()

    def extend(self, steps: Iterable[StepAccount]) -> Account:
        """Return this account with more steps."""
        return Account((*self.steps, *steps))

    @property
    def read(self) -> int:
        """Rows of the source."""
        return self.steps[0].rows_in if self.steps else 0

    @property
    def lost(self) -> float:
        """The share of the rows read that were dropped, 0 to 1."""
        return sum(sum(step.dropped.values()) for step in self.steps) / self.read if self.read else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for a card or a report."""
        return {"read": self.read, "lost": self.lost, "steps": [step.to_dict() for step in self.steps]}

    def check(self, limits: Limits) -> None:
        """Refuse to continue after more rows were dropped than `limits.lost` allows.

        Raises DataError with the reasons, their counts and some of the rows.
        """
        if self.lost <= limits.lost:
            return
        reasons = [
            f"{step.step}: {count} {reason} (rows {', '.join(step.rows[reason][:SHOWN])}{', ...' if count > SHOWN else ''})"
            for step in self.steps
            for reason, count in step.dropped.items()
        ]
        raise DataError(
            f"{self.lost:.1%} of the {self.read} rows read were dropped; data.limits.lost allows {limits.lost:.1%}. "
            f"{'; '.join(reasons)}. Correct the rows, or raise data.limits.lost if this loss is intended."
        )
