"""Metrics of decisions about money: costs, separation, fairness, alarms, and a walk-forward back-test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from vertical_sdk.catalog import CORRELATION, SHARE, NotNegative, metrics
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.metrics.measure import UNDEFINED
from vertical_sdk.metrics.probability import auc
from vertical_sdk.types import Cell, Example, TaskName

from . import backtest

__all__ = [
    "backtest_drawdown",
    "backtest_return",
    "backtest_sharpe",
    "cheapest_decisions",
    "cost",
    "direction_accuracy",
    "direction_mcc",
    "excess_return",
    "gini",
    "ks",
    "opportunity_gap",
    "parity_gap",
    "recall_at_alarms",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Costs = tuple[tuple[NotNegative, ...], ...]
PUBLISHED: Costs = ((0.0, 1.0), (5.0, 0.0))
"""German credit data: a bad risk accepted costs 5, a good one refused 1. Rows are the truth, columns the decision."""
ONE: tuple[TaskName, ...] = ("classification", "ordinal")


def cheapest_decisions(probabilities: Floats, costs: Costs) -> Ints:
    """Choose for each row the decision with the lowest expected cost (Elkan, 2001); the first of equals.

    Raises RecipeError if the matrix does not fit the labels.
    """
    size = probabilities.shape[1]
    if len(costs) != size or any(len(row) != size for row in costs):
        raise RecipeError(f"costs: {len(costs)} rows of {[len(row) for row in costs]}; {size} rows of {size} are needed.")
    return np.asarray((probabilities @ np.asarray(costs, dtype=np.float64)).argmin(axis=1), dtype=np.int64)


@metrics.register("finance.cost", tasks=ONE, higher_is_better=False)
def cost(probabilities: Floats, references: Ints, *, costs: Costs = PUBLISHED) -> float:
    """Mean cost of a row if each decision has the lowest expected cost; this depends on calibrated probabilities.

    costs  (labels, labels): row by truth, column by decision
    """
    matrix = np.asarray(costs, dtype=np.float64)
    return float(matrix[references, cheapest_decisions(probabilities, costs)].mean())


@metrics.register("finance.ks", within=SHARE, tasks=ONE)
def ks(probabilities: Floats, references: Ints) -> float:
    """Kolmogorov-Smirnov: the largest distance between the two groups' distribution functions of the second label's probability.

    0 (no separation) to 1; undefined if one of the groups is empty. More than two labels: the second against the rest.
    """
    scores, has = probabilities[:, 1], references == 1
    if has.all() or not has.any():
        return UNDEFINED
    own, others = np.sort(scores[has]), np.sort(scores[~has])
    below_own = np.searchsorted(own, scores, side="right") / len(own)
    below_others = np.searchsorted(others, scores, side="right") / len(others)
    return float(np.abs(below_own - below_others).max())


@metrics.register("finance.gini", within=CORRELATION, tasks=ONE)
def gini(probabilities: Floats, references: Ints) -> float:
    """2 AUC - 1, as credit scoring writes it: 0 is chance, 1 perfect, below 0 inverted."""
    return 2 * float(auc(probabilities, references)) - 1


@metrics.register("finance.recall_at_alarms", within=SHARE, tasks=ONE)
def recall_at_alarms(probabilities: Floats, references: Ints, *, share: Annotated[float, Field(gt=0, le=1)] = 0.05) -> float:
    """Of all rows with the second label, the share among the `share` of rows with its highest probability.

    `share` is what a person has time to check. Rows of equal probability at the edge count by the part of them that
    fits. Undefined if no row has the label.
    """
    has = references == 1
    if not has.any():
        return UNDEFINED
    scores = probabilities[:, 1]
    alarms = max(1, round(share * len(scores)))
    edge = np.partition(scores, len(scores) - alarms)[len(scores) - alarms]
    above, at = scores > edge, scores == edge
    part = (alarms - np.count_nonzero(above)) / np.count_nonzero(at)
    return float((np.count_nonzero(has & above) + part * np.count_nonzero(has & at)) / np.count_nonzero(has))


def read_groups(rows: Sequence[Example], *, field: str, bounds: tuple[float, ...] = ()) -> Ints:
    """Number the group of each row; -1 if the field is unknown.

    field   of the record: each word is a group; a number belongs to the group between two bounds
    bounds  the lowest numbers of the second and later groups

    Raises DataError if a record lacks the field; RecipeError if a field with bounds contains words.
    """
    cells: list[Cell] = []
    for row in rows:
        record = dict(row.record)
        if field not in record:
            raise DataError(f"row {row.id}: its record has no field {field!r}. It has {', '.join(record) or 'none'}.")
        cells.append(record[field])
    if bounds:
        word = next((cell for cell in cells if isinstance(cell, str)), None)
        if word is not None:
            raise RecipeError(f"field {field!r} has bounds, but a row contains {word!r} there. Leave bounds out for words.")
        edges = np.asarray(sorted(bounds))
        numbers = np.array([np.nan if cell is None else cell for cell in cells], dtype=np.float64)
        return np.where(np.isnan(numbers), -1, np.searchsorted(edges, numbers, side="right")).astype(np.int64)
    codes: dict[Cell, int] = {None: -1}
    return np.array([codes.setdefault(cell, len(codes) - 1) for cell in cells], dtype=np.int64)


@metrics.register("finance.parity_gap", within=SHARE, tasks=ONE, higher_is_better=False, prepare=read_groups)
def parity_gap(
    predictions: Ints,
    probabilities: Floats,
    facts: Ints,
    *,
    costs: Costs | None = None,
    least: Annotated[int, Field(ge=1)] = 10,
) -> float:
    """The largest difference of acceptance rates between groups (demographic parity; Calders and Verwer, 2010).

    facts   (rows,) the number of each row's group; -1 if unknown, see `read_groups`
    costs   decide by the lowest expected cost under this matrix; None means by the likeliest label
    least   groups with fewer rows are left out

    A row with the first label as decision is accepted. Rows of unknown groups are left out. Undefined if fewer than two
    groups are left.
    """
    return _rate_gap(_find_accepted(predictions, probabilities, costs), facts, least)


@metrics.register("finance.opportunity_gap", within=SHARE, tasks=ONE, higher_is_better=False, prepare=read_groups)
def opportunity_gap(
    predictions: Ints,
    references: Ints,
    probabilities: Floats,
    facts: Ints,
    *,
    costs: Costs | None = None,
    least: Annotated[int, Field(ge=1)] = 10,
) -> float:
    """The same gap among rows whose true label is the first: equality of opportunity (Hardt, Price and Srebro, 2016)."""
    good = references == 0
    return _rate_gap(_find_accepted(predictions, probabilities, costs)[good], facts[good], least)


@metrics.register("finance.direction_accuracy", within=SHARE, tasks=("regression",))
def direction_accuracy(predictions: Floats, references: Floats, *, least: NotNegative = 0.0) -> float:
    """Share of returns with the right predicted direction: a prediction above 0 means up, any other down.

    least  returns of at most this size have no direction and are left out; undefined if none are left
    """
    moved = np.abs(references) > least
    return float(((predictions > 0) == (references > 0))[moved].mean()) if moved.any() else UNDEFINED


@metrics.register("finance.direction_mcc", within=CORRELATION, tasks=("regression",))
def direction_mcc(predictions: Floats, references: Floats, *, least: NotNegative = 0.0) -> float:
    """Matthews correlation of predicted and true direction (Matthews, 1975), -1 to 1.

    0 if the predicted direction never varies; undefined if the true one never varies.
    """
    moved = np.abs(references) > least
    predicted, true = (predictions > 0)[moved], (references > 0)[moved]
    if true.all() or not true.any():
        return UNDEFINED
    spread = float(predicted.std() * true.std())
    return float((np.mean(predicted & true) - predicted.mean() * true.mean()) / spread) if spread > 1e-12 else 0.0


def draw_equity(predictions: Floats, references: Floats, facts: Ints, *, costs_bp: float = 10.0) -> dict[str, object]:
    """Draw the value of 1 invested, day by day, for the system and for holding everything."""
    buy_and_hold = backtest.walk(np.ones(len(references)), references, facts, costs_bp)
    lines = {"": _walk_signs(predictions, references, facts, costs_bp), "buy and hold": buy_and_hold}
    days = backtest.calendar(facts)
    return {
        "title": f"Walk-forward back-test, {costs_bp:g} basis points a trade",
        "x": "day",
        "y": "what 1 has become",
        "lines": {
            name: [(day, round(float(value), 4)) for day, value in zip(days, np.cumprod(1 + walked.returns), strict=True)]
            for name, walked in lines.items()
        },
    }


@metrics.register("finance.backtest_return", tasks=("regression",), curve=draw_equity, prepare=backtest.read_days)
def backtest_return(predictions: Floats, references: Floats, facts: Ints, *, costs_bp: NotNegative = 10.0) -> float:
    """Return a year, after costs, of holding each day's shares long or short by the predicted sign, equally weighted.

    costs_bp  hundredths of a percent of the traded value. `backtest.walk` describes how days, costs and repeated rows count. Rows need
    a date and a ticker; use evaluate.resample: groups with the day as group.
    """
    return backtest.annual_return(_walk_signs(predictions, references, facts, costs_bp))


@metrics.register("finance.backtest_sharpe", tasks=("regression",), prepare=backtest.read_days)
def backtest_sharpe(predictions: Floats, references: Floats, facts: Ints, *, costs_bp: NotNegative = 10.0) -> float:
    """The Sharpe ratio a year of the same portfolio; undefined if its returns do not vary."""
    return backtest.sharpe(_walk_signs(predictions, references, facts, costs_bp))


@metrics.register(
    "finance.backtest_drawdown", within=SHARE, tasks=("regression",), higher_is_better=False, prepare=backtest.read_days
)
def backtest_drawdown(predictions: Floats, references: Floats, facts: Ints, *, costs_bp: NotNegative = 10.0) -> float:
    """The largest fall from a peak of the same portfolio, 0 to 1."""
    return backtest.drawdown(_walk_signs(predictions, references, facts, costs_bp))


@metrics.register("finance.excess_return", tasks=("regression",), prepare=backtest.read_days)
def excess_return(predictions: Floats, references: Floats, facts: Ints, *, costs_bp: NotNegative = 10.0) -> float:
    """Return a year of the same portfolio less that of holding all the same shares long, both after costs."""
    own = backtest.annual_return(_walk_signs(predictions, references, facts, costs_bp))
    return own - backtest.annual_return(backtest.walk(np.ones(len(references)), references, facts, costs_bp))


def _walk_signs(predictions: Floats, references: Floats, days: Ints, costs_bp: float) -> backtest.Walk:
    return backtest.walk(np.sign(predictions).astype(np.float64), references, days, costs_bp)


def _find_accepted(predictions: Ints, probabilities: Floats, costs: Costs | None) -> Bools:
    return np.asarray((predictions if costs is None else cheapest_decisions(probabilities, costs)) == 0)


def _rate_gap(accepted: Bools, groups: Ints, least: int) -> float:
    known = groups >= 0
    counts = np.bincount(groups[known])
    rates = np.bincount(groups[known], weights=accepted[known])[counts >= least] / counts[counts >= least]
    return float(rates.max() - rates.min()) if len(rates) > 1 else UNDEFINED
