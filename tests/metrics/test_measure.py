from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from vertical_sdk import catalog
from vertical_sdk.errors import RecipeError, UnknownName
from vertical_sdk.metrics import bind, higher_is_better, inputs
from vertical_sdk.metrics.interface import as_evaluate
from vertical_sdk.metrics.measure import prepare_rows
from vertical_sdk.tables import TASKS
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, TaskName

LESS_IS_BETTER = {"aurc", "bits_per_character", "ece", "log_loss", "mae", "rmse", "rank_mae"} | {
    *("forecast_mae", "forecast_rmse", "forecast_mape", "coverage_gap", "interval_width", "pinball_loss"),
    *("copying", "longest_copy", "repetition"),
}


def test_every_metric_knows_which_way_is_better() -> None:
    names = [name for name in catalog.metrics.names() if "." not in name]

    assert {name for name in names if not higher_is_better(name)} == LESS_IS_BETTER


def test_every_metric_takes_only_inputs_of_the_sdk() -> None:
    for name in catalog.metrics.names():
        assert inputs(name) <= {"predictions", "references", "probabilities", "quantiles", "labels", "rows"}


@pytest.mark.parametrize("task", list(TASKS))
def test_the_default_metrics_of_a_task_exist(task: TaskName) -> None:
    assert set(get_task(task).default_metrics) <= set(catalog.metrics.names())


def test_a_misspelt_metric_gets_the_nearest_name_suggested() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'macro_f1'"):
        bind("makro_f1")


def test_an_argument_that_a_metric_does_not_take_is_refused() -> None:
    with pytest.raises(RecipeError, match="'bin'"):
        bind("ece", arguments={"bin": 10})


@pytest.fixture
def seen() -> Iterator[str]:
    """A metric that looks at the rows: the share of those predicted 1 whose record says that money was made."""
    name = "made_money"

    @catalog.metrics.register(name)
    def made_money(predictions: Any, rows: Sequence[Example], *, above: float = 0.0) -> float:
        returns = [dict(row.record)["return"] for row, said in zip(rows, predictions, strict=True) if said == 1]
        return sum(isinstance(one, float) and one > above for one in returns) / len(returns)

    yield name
    catalog.metrics._parts.pop(name)


ROWS = [Example(id=str(i), record=(("return", value),)) for i, value in enumerate((0.2, -0.1, 0.05))]


def test_a_metric_may_look_at_the_rows_themselves(seen: str) -> None:
    said = np.array([1, 1, 0])

    assert inputs(seen) == {"predictions", "rows"}
    assert bind(seen)(said, said, None, ROWS) == 0.5
    assert bind(seen, arguments={"above": 0.5})(said, said, rows=ROWS) == 0.0


def test_a_metric_that_needs_rows_is_refused_without_rows(seen: str) -> None:
    with pytest.raises(TypeError, match="needs rows"):
        bind(seen)(np.array([1]), np.array([1]))


def test_rows_are_ignored_by_a_metric_that_does_not_take_them() -> None:
    assert bind("accuracy")(np.array([0, 1, 1]), np.array([0, 1, 0]), rows=ROWS) == pytest.approx(2 / 3)


def test_a_metric_of_rows_is_refused_by_the_interface_of_evaluate(seen: str) -> None:
    with pytest.raises(TypeError, match="looks at the rows themselves"):
        as_evaluate(seen)


@pytest.fixture
def calls() -> Iterator[list[int]]:
    """Two metrics that share one `prepare`; it records how many rows each call reads."""
    lengths: list[int] = []

    def read_returns(rows: Sequence[Example], *, scale: float = 1.0) -> Any:
        lengths.append(len(rows))
        return scale * np.array([float(dict(row.record)["return"] or 0) for row in rows])

    @catalog.metrics.register("earned", prepare=read_returns)
    def earned(predictions: Any, facts: Any) -> float:
        return float((predictions * facts).sum())

    @catalog.metrics.register("worst", prepare=read_returns, higher_is_better=False)
    def worst(facts: Any, *, least: float = 0.0) -> float:
        return float(min(facts.min(), least))

    yield lengths
    for name in ("earned", "worst"):
        catalog.metrics._parts.pop(name)


def test_prepared_rows_measure_the_same_as_the_rows_themselves(calls: list[int]) -> None:
    measure = bind("earned", arguments={"scale": 10.0})
    predictions, at = np.array([1, 1, 0]), np.array([2, 0, 0])

    prepared = measure.prepare(ROWS)

    assert inputs("earned") == {"predictions", "rows"}
    assert (
        measure(predictions, predictions, rows=ROWS) == measure(predictions, predictions, rows=prepared) == pytest.approx(1.0)
    )
    assert measure(predictions[at], predictions[at], rows=prepared[at]) == pytest.approx(4.0)
    assert measure(predictions[at], predictions[at], rows=[ROWS[i] for i in at]) == pytest.approx(4.0)


def test_rows_are_prepared_once_for_metrics_with_the_same_prepare(calls: list[int]) -> None:
    measures = {
        "earned": bind("earned"),
        "worst": bind("worst", arguments={"least": -1.0}),
        "scaled": bind("worst", arguments={"scale": 2.0}),
    }

    prepared = prepare_rows(measures, ROWS)
    for at in np.random.default_rng(0).integers(0, 3, (100, 3)):
        for name, measure in measures.items():
            measure(np.ones(3), np.ones(3), rows=prepared[name][at])

    assert calls == [3, 3]  # once for both metrics without a scale, once with it
    assert measures["scaled"](None, None, rows=prepared["scaled"]) == pytest.approx(-0.2)


def test_a_metric_that_takes_facts_needs_prepare() -> None:
    @catalog.metrics.register("unprepared")
    def unprepared(facts: Any) -> float:
        raise NotImplementedError

    try:
        with pytest.raises(TypeError, match=r"'unprepared' takes facts\. Register it with prepare="):
            bind("unprepared")
    finally:
        catalog.metrics._parts.pop("unprepared")
