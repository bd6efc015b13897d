from __future__ import annotations

from typing import get_args

import pytest

from vertical_sdk import catalog
from vertical_sdk.errors import RecipeError, UnknownName
from vertical_sdk.metrics import bind, default_metrics, higher_is_better, inputs
from vertical_sdk.types import Task

LESS_IS_BETTER = {"ece", "log_loss", "mae", "rmse", "rank_mae"}


def test_every_metric_knows_which_way_is_better() -> None:
    names = [name for name in catalog.metrics.names() if "." not in name]

    assert {name for name in names if not higher_is_better(name)} == LESS_IS_BETTER


def test_every_metric_wants_only_what_the_sdk_gives() -> None:
    for name in catalog.metrics.names():
        assert inputs(name) <= {"predictions", "references", "probabilities", "labels"}


@pytest.mark.parametrize("task", get_args(Task))
def test_the_default_metrics_of_a_task_exist(task: Task) -> None:
    assert set(default_metrics(task)) <= set(catalog.metrics.names())


def test_a_misspelt_metric_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'macro_f1'"):
        bind("makro_f1")


def test_an_argument_that_a_metric_does_not_take_is_refused() -> None:
    with pytest.raises(RecipeError, match="'bin'"):
        bind("ece", arguments={"bin": 10})
