"""Trees as arrays answer what LightGBM answers."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from vertical_sdk.trees import Trees, join_trees, parse_trees, read_trees

lightgbm = pytest.importorskip("lightgbm")

OBJECTIVES: dict[str, dict[str, Any]] = {
    "two labels": {"objective": "binary"},
    "three labels": {"objective": "multiclass", "num_class": 3},
    "numbers": {"objective": "regression"},
    "medians": {"objective": "l1"},
    "quantiles": {"objective": "quantile", "alpha": 0.2},
    "zero as missing": {"objective": "regression", "zero_as_missing": True},
    "nothing missing": {"objective": "regression", "use_missing": False},
    "no split": {"objective": "regression", "min_data_in_leaf": 9000},
}


def table(rows: int, seed: int) -> np.ndarray:
    """Numbers with gaps, categories, zeros and numbers that count as zero."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 6))
    x[:, 2] = rng.integers(-2, 40, rows)
    x[:, 3] = rng.choice([0, 1e-36, 1e-30, 3.0], rows)
    x[:, 4] = rng.choice([0, 0, 1, 2.5, -1], rows)
    for column in (0, 2, 4):
        x[rng.random(rows) < 0.15, column] = np.nan
    return x


def fit(settings: dict[str, Any], categories: list[int]) -> str:
    x = table(2000, 0)
    score = np.nan_to_num(x[:, 0]) + (x[:, 2] % 3 == 0) + (x[:, 4] == 0) * 0.5 + x[:, 5]
    kinds = {"binary": (score > 0.5).astype(int), "multiclass": np.digitize(score, [0, 1])}
    data = lightgbm.Dataset(x, label=kinds.get(settings["objective"], score), categorical_feature=categories)
    params = {"num_leaves": 15, "min_data_in_leaf": 5, "min_data_per_group": 5, "verbosity": -1, "num_threads": 1}
    return str(lightgbm.train(params | settings, data, num_boost_round=20).model_to_string())


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("categories", [[], [2, 4]], ids=["numbers", "categories"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_trees_sum_up_to_lightgbms_answers(name: str, categories: list[int]) -> None:
    """Unknown, infinite, negative and broken categories included."""
    text = fit(OBJECTIVES[name], categories)
    x = table(1000, 1)
    x[:4, 2] = [1e12, -0.5, 1e300, 7.7]
    x[::9, 1] = np.nan
    x[:2, 5] = [np.inf, -np.inf]
    outputs = 3 if name == "three labels" else 1

    trees = parse_trees(text)

    expected = lightgbm.Booster(model_str=text).predict(x, raw_score=True).reshape(len(x), -1)
    np.testing.assert_allclose(trees.sums(x, outputs), expected, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(read_trees(trees.to_arrays()).sums(x, outputs), trees.sums(x, outputs))
    with np.errstate(over="ignore"):
        narrow = x.astype(np.float32)
    expected = lightgbm.Booster(model_str=text).predict(narrow, raw_score=True).reshape(len(x), -1)
    np.testing.assert_allclose(trees.sums(narrow, outputs), expected, rtol=0, atol=1e-9)


def test_joined_trees_sum_up_to_one_output_each() -> None:
    first, second = parse_trees(fit(OBJECTIVES["numbers"], [2])), parse_trees(fit(OBJECTIVES["medians"], [2, 4]))
    x = table(50, 2)

    joined = join_trees([first, None, second])

    assert [joined.has_output(output) for output in range(3)] == [True, False, True]
    np.testing.assert_array_equal(joined.sums(x, 3), np.hstack([first.sums(x, 1), np.zeros((50, 1)), second.sums(x, 1)]))


def test_a_hundred_thousand_rows_take_seconds() -> None:
    trees = parse_trees(fit(OBJECTIVES["numbers"], []))
    x = table(100_000, 3)

    began = time.monotonic()
    trees.sums(x, 1)

    assert time.monotonic() - began < 10  # LightGBM's own walk takes about half as long as this one


def test_no_trees_sum_up_to_nothing() -> None:
    assert isinstance(join_trees([]), Trees)
    assert join_trees([]).sums(np.zeros((2, 0)), 1).tolist() == [[0.0], [0.0]]
