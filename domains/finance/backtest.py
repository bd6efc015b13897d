"""A walk-forward back-test: each day's predicted signs as a portfolio, with costs for what is traded.

Rows may be repeated or missing, as in bootstrap resamples; see `walk`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.errors import DataError
from vertical_sdk.metrics.measure import UNDEFINED
from vertical_sdk.types import Example

__all__ = ["DAYS_A_YEAR", "Walk", "annual_return", "calendar", "drawdown", "read_days", "sharpe", "walk"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
DAYS_A_YEAR = 252
DAY_BITS = 24
DAY_MASK = (1 << DAY_BITS) - 1


@dataclass(frozen=True)
class Walk:
    """Net returns of the portfolio by day, in the order of days, and how often each day counts: each (days,)."""

    returns: Floats
    weights: Floats


def read_days(rows: Sequence[Example]) -> Ints:
    """Number each row by its ticker and its day: (rows,), the ticker's number above the 24 bits of the day's ordinal.

    Raises DataError if a row has no date or no ticker.
    """
    tickers: dict[str, int] = {}
    days = []
    for row in rows:
        record = dict(row.record)
        ticker = record.get("ticker")
        try:
            day = date.fromisoformat(str(record.get("date") or row.time or "")[:10]).toordinal()
        except ValueError:
            raise DataError(
                f"row {row.id} has no date, which a back-test needs; see the reader finance.stock_tweets."
            ) from None
        if not ticker:
            raise DataError(f"row {row.id} has no ticker, which a back-test needs; see the reader finance.stock_tweets.")
        days.append(tickers.setdefault(str(ticker), len(tickers)) << DAY_BITS | day)
    return np.array(days, dtype=np.int64)


def walk(signs: Floats, returns: Floats, days: Ints, costs_bp: float) -> Walk:
    """Hold every share that has a row on a day, long or short by its sign, all with the same weight; trade where that changes.

    signs    (rows,) 1 long, -1 short, 0 not held
    returns  (rows,) of the day

    A position is sign / (shares with a row on that day). The day costs costs_bp / 10,000 times the sum over shares of how much
    the position changed since the day before among these rows, in which a share without a row was not held. The last positions
    are not closed, and nothing is said of spreads, borrowing or what a large order moves.

    Repeated rows count once in a day's portfolio, and a day counts rows / (different rows) times in what is averaged: a day that
    a bootstrap of whole days (evaluate.resample: groups) drew twice counts twice. A bootstrap of single rows tears holes
    into portfolios and overstates what is traded; do not trust its intervals.
    """
    codes, first, times = np.unique(days, return_index=True, return_counts=True)
    calendar, own = np.unique(codes & DAY_MASK, return_inverse=True)
    size = len(calendar)
    shares_held = np.bincount(own, minlength=size).astype(np.float64)
    position = signs[first] / shares_held[own]
    gross = np.bincount(own, weights=position * returns[first], minlength=size)
    same_ticker = codes[1:] >> DAY_BITS == codes[:-1] >> DAY_BITS
    follows = np.append(same_ticker & (own[1:] == own[:-1] + 1), False)
    preceded = np.append(False, follows[:-1])
    before = np.where(preceded, np.append(0.0, position[:-1]), 0.0)
    traded = np.bincount(own, weights=np.abs(position - before), minlength=size + 1)
    closed = ~follows
    traded += np.bincount(own[closed] + 1, weights=np.abs(position[closed]), minlength=size + 1)
    net = gross - costs_bp / 10_000 * traded[:size]
    return Walk(net, np.bincount(own, weights=times, minlength=size) / shares_held)


def calendar(days: Ints) -> list[str]:
    """The days of a walk over these rows, in order, as YYYY-MM-DD."""
    return [date.fromordinal(int(day)).isoformat() for day in np.unique(days & DAY_MASK)]


def annual_return(walked: Walk) -> float:
    """The compounded net return a year: exp(252 * mean log(1 + r)) - 1, so that longer tests do not give larger numbers."""
    return float(np.expm1(DAYS_A_YEAR * np.average(np.log1p(walked.returns.clip(min=-0.99)), weights=walked.weights)))


def sharpe(walked: Walk) -> float:
    """Mean over standard deviation of the days' net returns, a year (times sqrt(252)); no risk-free rate is taken off.

    Undefined (NaN) if the returns do not vary (Sharpe, 1994).
    """
    mean = float(np.average(walked.returns, weights=walked.weights))
    spread = float(np.sqrt(np.average(np.square(walked.returns - mean), weights=walked.weights)))
    return mean / spread * DAYS_A_YEAR**0.5 if spread > 1e-12 else UNDEFINED


def drawdown(walked: Walk) -> float:
    """The largest fall from a peak of the compounded value, 0 to 1, each different day once, in order.

    It depends on the path, which a resample does not keep: read the value, and its interval only as a hint.
    """
    value = np.append(1.0, np.cumprod(1 + walked.returns.clip(min=-0.99)))
    return float((1 - value / np.maximum.accumulate(value)).max())
