"""The reader of posts about shares with the return that followed: StockNet (Xu and Cohen, 2018), as published or as a table."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated

from pydantic import Field

from vertical_sdk.catalog import readers
from vertical_sdk.data.formats import BROKEN_ZIP, read_file
from vertical_sdk.data.read import Table
from vertical_sdk.errors import DataError
from vertical_sdk.types import Example, TaskName

from .complete_rows import Missing, cell_text, collect_complete_rows, parse_cell_number, require_task

__all__ = ["stock_tweets"]

PRICES = re.compile(r"(?:^|/)price/preprocessed/([A-Z][A-Z.-]*)\.txt$")
POSTS = re.compile(r"(?:^|/)tweet/preprocessed/([A-Z][A-Z.-]*)/(\d{4}-\d\d-\d\d)$")
BETWEEN = " | "
LARGEST = 64 << 20
"""Bytes of the largest file of the repository that is read."""

Positive = Annotated[int, Field(ge=1)]
Row = tuple[str, str, str, str, str, float | None]
"""Place in the source, id, ticker, date, posts, return."""


@readers.register("finance.stock_tweets", tasks=("regression",))
def stock_tweets(
    path: Path,
    columns: Mapping[str, str],
    task: TaskName,
    missing: Missing = "drop",
    *,
    look_back: Positive = 5,
    posts: Positive = 6,
) -> Table:
    """What was posted about a share in the days before, and its return on the day.

    path       a table with the columns ticker, date, text and return; or StockNet's repository, as a folder or a zip, with
               tweet/preprocessed/TICKER/DATE and price/preprocessed/TICKER.txt
    look_back  calendar days before the day whose posts are read; the day itself never is
    posts      at most so many posts, the latest days first, each once

    The target is the return from the close of the trading day before to that day's close (0.01 is 1%). The text begins with the
    ticker. The time and the group are the day: rows of one day share what moved the whole market, so they are on one side of
    a split and are resampled together. The record has ticker, date and return, which the back-test asks for. In a table,
    look_back and posts have done their work already. Raises DataError, with file and line.
    """
    require_task("finance.stock_tweets", columns, task)
    rows = _find_repository(path, look_back, posts) if path.is_dir() or zipfile.is_zipfile(path) else _read_table(path, missing)

    def read_examples() -> Iterator[tuple[str, Example]]:
        for where, name, ticker, day, posted, change in rows:
            record = (("ticker", ticker), ("date", day), ("return", change))
            text = f"{ticker}: {posted}" if ticker and posted else posted
            yield where, Example(name, text, change, group=day or None, time=day or None, record=record)

    examples, account = collect_complete_rows(read_examples(), path, missing)
    days = {e.time for e in examples}
    return Table(examples, f"{len(examples)} rows on {len(days)} days", account=account)


def _read_table(path: Path, missing: Missing) -> Iterator[Row]:
    rows = read_file(path)
    needed = ("text",) if missing == "keep" else ("ticker", "date", "text", "return")
    lacks = [column for column in needed if column not in rows.columns]
    if lacks:
        raise DataError(f"{path}: has no column {', '.join(lacks)}; it has {', '.join(rows.columns)}.")
    seen: set[tuple[str, str]] = set()
    for index, row in enumerate(rows.rows):
        where = rows.at(index)
        ticker, day = cell_text(row.get("ticker")).upper(), cell_text(row.get("date"))[:10]
        if day or missing != "keep":
            _check_day(day, where)
            if (ticker, day) in seen:
                raise DataError(f"{where}: {ticker} appears twice on {day}. A share has one row a day.")
            seen.add((ticker, day))
        change = None if missing == "keep" else parse_cell_number(row.get("return"), where, "return")
        yield where, str(rows.places[index]), ticker, day, cell_text(row.get("text")), change


def _check_day(text: str, where: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise DataError(f"{where}: the date {text!r} is invalid. Write it as 2014-01-31.") from None


def _find_repository(path: Path, look_back: int, posts: int) -> Iterator[Row]:
    """Every trading day of every share that was written about in the days before."""
    if path.is_dir():
        files = {p.relative_to(path).as_posix(): p for p in path.rglob("*") if p.is_file()}
        yield from _build_rows(path, list(files), lambda name: files[name].read_bytes(), look_back, posts)
        return
    try:
        with zipfile.ZipFile(path) as archive:
            large = [entry.filename for entry in archive.infolist() if entry.file_size > LARGEST and _is_wanted(entry.filename)]
            if large:
                raise DataError(f"{path}: {large[0]} is over {LARGEST >> 20} MB, far more than such a file has.")
            yield from _build_rows(path, archive.namelist(), archive.read, look_back, posts)
    except BROKEN_ZIP as error:
        raise DataError(f"{path}: the archive is cut or damaged ({error}). Download it again.") from None


def _is_wanted(name: str) -> bool:
    return bool(PRICES.search(name) or POSTS.search(name))


def _build_rows(path: Path, names: list[str], read: Callable[[str], bytes], look_back: int, posts: int) -> Iterator[Row]:
    prices = {found[1]: name for name in sorted(names) if (found := PRICES.search(name))}
    written = {(found[1], found[2]): name for name in names if (found := POSTS.search(name))}
    if not prices or not written:
        raise DataError(
            f"{path}: has no price/preprocessed/TICKER.txt or no tweet/preprocessed/TICKER/DATE; it is not StockNet's repository."
        )
    for ticker, name in prices.items():
        posts_by_day: dict[str, list[str]] = {}
        for where, day, change in _read_returns(f"{path}/{name}", read(name)):
            texts: list[str] = []
            for back in range(1, look_back + 1):
                before = (day - timedelta(days=back)).isoformat()
                source = written.get((ticker, before))
                if source and before not in posts_by_day:
                    posts_by_day[before] = _read_posts(f"{path}/{source}", read(source))
                texts += posts_by_day.get(before, [])
            text = BETWEEN.join(list(dict.fromkeys(texts))[:posts])
            if text:
                yield where, f"{ticker}:{day.isoformat()}", ticker, day.isoformat(), text, change


def _read_returns(where: str, content: bytes) -> Iterator[tuple[str, date, float]]:
    """The days of a price file, oldest first, with the return on each."""
    returns = []
    for line, text in enumerate(_decode_post(where, content).splitlines(), 1):
        cells = text.split("\t")
        change = parse_cell_number(cells[1], f"{where}:{line}", "movement percent") if len(cells) > 1 else None
        if change is None:
            raise DataError(f"{where}:{line}: {text[:40]!r} is not a date, tab and movement percent.")
        returns.append((f"{where}:{line}", _check_day(cells[0], f"{where}:{line}"), change))
    return iter(sorted(returns, key=lambda row: row[1]))


def _read_posts(where: str, content: bytes) -> list[str]:
    """The posts of a file, one JSON object with its words a line."""
    texts = []
    for line, text in enumerate(_decode_post(where, content).splitlines(), 1):
        try:
            words = json.loads(text)["text"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise DataError(f"{where}:{line}: not a JSON object with a text.") from None
        texts.append(words if isinstance(words, str) else " ".join(map(str, words)))
    return texts


def _decode_post(where: str, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: byte at offset {error.start} is not UTF-8.") from None
