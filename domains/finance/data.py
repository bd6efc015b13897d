"""Readers, cleaners and splitters for finance; the readers of records and of share prices have files of their own."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from vertical_sdk.catalog import cleaners, readers, splitters
from vertical_sdk.data.account import StepAccount, Tally
from vertical_sdk.data.formats import read_file
from vertical_sdk.data.read import Table
from vertical_sdk.data.texts import list_texts, replace_texts
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.types import Example, Split, TaskName

from .complete_rows import Missing, cell_text, collect_complete_rows, require_task
from .credit import credit
from .disclosure import disclosure
from .ratios import polish
from .stocks import stock_tweets

__all__ = ["SENTIMENTS", "credit", "disclosure", "embargoed", "news", "polish", "stock_tweets", "tidy_text", "urls"]

SENTIMENTS = ("bearish", "neutral", "bullish")
"""From what is said to push a price down to what is said to push it up."""
NUMBERED = {"0": "bearish", "1": "bullish", "2": "neutral"}
"""How zeroshot/twitter-financial-news-sentiment writes its labels: not in their order."""
MEANINGS = {
    "bearish": "Bad news for the price: a cut, a loss, a fall, a warning.",
    "neutral": "News that says nothing about where the price goes.",
    "bullish": "Good news for the price: a rise, a beat, an upgrade, a deal.",
}
LINK = re.compile(r"(?:https?://|www\.|\bt\.co/)\S*|(?<![\w$])URL(?!\w)")
SPACED = re.compile(r"\$ ([A-Za-z]{1,5}(?:[.-][A-Za-z])?)(?![\w'’])")
"""A ticker as some tokenizers leave it: "$ aapl"."""


@readers.register("finance.news", tasks=("ordinal", "classification"))
def news(path: Path, columns: Mapping[str, str], task: TaskName, missing: Missing = "drop") -> Table:
    """Short news with a sentiment: columns text and label, which is a name or the source's number (0 bearish, 1 bullish, 2 neutral).

    The labels are ordered bearish, neutral, bullish, though the numbers are not. Raises DataError for another label or header.
    """
    require_task("finance.news", columns, task)
    rows = read_file(path)
    lacks = [c for c in ("text", "label") if c not in rows.columns and not (c == "label" and missing == "keep")]
    if lacks:
        raise DataError(f"{path}: has no column {' and '.join(lacks)}; it has {', '.join(rows.columns)}.")

    def read_examples() -> Iterator[tuple[str, Example]]:
        for index, row in enumerate(rows.rows):
            where = rows.at(index)
            name = "" if missing == "keep" else cell_text(row.get("label")).lower()
            label = NUMBERED.get(name, name) or None
            if label is not None and label not in SENTIMENTS:
                raise DataError(f"{where}: the label {name!r} is not one of {', '.join(SENTIMENTS)}, 0, 1 or 2.")
            yield where, Example(str(rows.places[index]), cell_text(row.get("text")), label)

    examples, account = collect_complete_rows(read_examples(), path, missing)
    return Table(examples, f"{rows.format}: {len(examples)} texts", descriptions=MEANINGS, labels=SENTIMENTS, account=account)


@cleaners.register("finance.urls", text_normalizer=True)
def urls(examples: Sequence[Example], *, links: Literal["remove", "mask"] = "remove") -> tuple[list[Example], StepAccount]:
    """Take out links, or write [LINK] for each, and join tickers that were torn: "$ aapl" becomes "$AAPL".

    A shortened link says nothing but where it came from, and would let a model learn the account instead of the words. Of money,
    "$ 5" stays. A row that was nothing but a link is dropped. Labels never change.
    """
    tally = Tally("finance.urls")
    cleaned = []
    for example in examples:
        old = list_texts(example)
        new, reasons = [], set()
        for text in old:
            plain, why = tidy_text(text, links)
            new.append(plain)
            reasons.update(why)
        if any(old) and not any(new):
            tally.drop(example.id, "nothing but links")
            continue
        for reason in sorted(reasons):
            tally.change(example.id, reason)
        cleaned.append(replace_texts(example, new))
    return cleaned, tally.close(len(examples), len(cleaned))


def tidy_text(text: str, links: Literal["remove", "mask"] = "remove") -> tuple[str, list[str]]:
    """The same for one text, and what was done to it."""
    reasons = []
    plain = LINK.sub("[LINK]" if links == "mask" else "", text)
    if plain != text:
        reasons.append("links removed" if links == "remove" else "links masked")
        plain = re.sub(r"[^\S\n]{2,}", " ", plain).strip()
    joined = SPACED.sub(lambda match: f"${match[1].upper()}", plain)
    if joined != plain:
        reasons.append("tickers joined")
    return joined, reasons


@splitters.register("finance.embargoed")
def embargoed(
    examples: Sequence[Example],
    seed: int,
    *,
    days: Annotated[int, Field(ge=0)] = 5,
    test: float = 0.15,
    validation: float = 0.1,
) -> tuple[list[Example], StepAccount]:
    """Split by time, with unused days between the parts (López de Prado, 2018, chapter 7).

    days  calendar days before a later part begins; rows on them are set aside. At least as many as a text looks back, or texts
          of the later part repeat what happened in the earlier one.

    The last rows are the test, those before them the validation, the first ones the training. Rows of one day are never on two
    sides; nothing is random. Raises DataError for a row without a date, or too few days.
    """
    del seed
    if not (0 < test < 1 and 0 <= validation < 1 and test + validation < 1):
        raise RecipeError(
            f"data.split: test = {test} and validation = {validation} must be shares that leave something to train on."
        )
    moments = {e.id: _day_number(e) for e in examples}
    ordered = sorted(moments.values())
    if len(set(ordered)) < (3 if validation else 2):
        raise DataError(f"split: finance.embargoed: the rows are of {len(set(ordered))} different days, too few to divide.")
    tests = _start_from(ordered, 1 - test)
    earlier = ordered[: bisect_left(ordered, tests)]
    tunes = _start_from(earlier, 1 - validation / (1 - test)) if validation else tests
    tally = Tally("split: finance.embargoed")
    placed = []
    for example in examples:
        moment = moments[example.id]
        part: Split = "test" if moment >= tests else "validation" if moment >= tunes else "train"
        begins = {"train": tunes, "validation": tests, "test": None}[part]
        if begins is not None and begins - moment <= days:
            tally.set_aside(example.id, f"embargo: within {days} days before the next part")
        else:
            placed.append(replace(example, split=part))
    counts = Counter(e.split for e in placed)
    for needed in ("train", "test", *(["validation"] if validation else [])):
        if not counts[needed]:  # type: ignore[index]
            raise DataError(
                f"split: finance.embargoed: no row is left in the {needed} part; {len(examples)} rows gave {dict(counts)}. "
                "More days, or a shorter embargo, are needed."
            )
    tally.notes = {
        **{str(part): count for part, count in sorted(counts.items(), key=str)},
        "validation from": date.fromordinal(tunes).isoformat(),
        "test from": date.fromordinal(tests).isoformat(),
    }
    return placed, tally.close(len(examples), len(placed))


def _day_number(example: Example) -> int:
    try:
        return date.fromisoformat((example.time or "")[:10]).toordinal()
    except ValueError:
        raise DataError(f"split: finance.embargoed: row {example.id}: the time {example.time!r} is not a date.") from None


def _start_from(ordered: Sequence[int], share: float) -> int:
    """The day from which on a row is in the later part; the earlier part is never empty."""
    boundary = ordered[min(len(ordered) - 1, max(1, round(len(ordered) * share)))]
    return boundary if boundary > ordered[0] else next((day for day in ordered if day > boundary), boundary)
