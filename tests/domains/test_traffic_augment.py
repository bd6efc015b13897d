from __future__ import annotations

import random

import numpy as np
import pytest

from vertical_sdk import catalog
from vertical_sdk.types import Example

SERIES = np.random.default_rng(0).normal(50, 5, (40, 6)).astype(np.float32)
ROW = Example("r", values=SERIES[:12], target=SERIES[12:24], time="2012-03-05T07:55:00", group="block")
NAMES = ("traffic.drop_sensors", "traffic.jitter", "traffic.missing_block", "traffic.calendar_shift")


def many(name: str, row: Example = ROW, **options: object) -> list[Example]:
    return [catalog.augmentations.get(name)(row, random.Random(seed), **options) for seed in range(200)]


@pytest.mark.parametrize("name", NAMES)
def test_the_target_the_group_and_the_rows_own_values_stay(name: str) -> None:
    before = SERIES.copy()

    made = many(name)

    assert all(row.target is ROW.target and row.group == "block" and row.id == "r" for row in made)
    assert all(row.values is not None and row.values.shape == (12, 6) and row.values.dtype == np.float32 for row in made)
    np.testing.assert_array_equal(SERIES, before)
    assert any(row.time != ROW.time or not np.array_equal(row.values, SERIES[:12]) for row in made)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_randomness_gives_the_same_row(name: str) -> None:
    first, second = many(name), many(name)

    for one, other in zip(first, second, strict=True):
        assert one.time == other.time
        np.testing.assert_array_equal(one.values, other.values)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
def test_a_text_is_left_alone(name: str) -> None:
    row = Example("t", "a text", "label")

    assert many(name, row) == [row] * 200


def test_sensors_go_dark_as_a_whole_and_never_all_of_them() -> None:
    for row in many("traffic.drop_sensors", p=0.9):
        dark = np.isnan(row.values)
        assert (dark.all(axis=0) == dark.any(axis=0)).all()
        assert not dark.all()


def test_a_block_goes_missing_in_one_piece_of_all_sensors() -> None:
    for row in many("traffic.missing_block", p=1.0, longest=0.5):
        dark = np.isnan(row.values)
        assert (dark.all(axis=1) == dark.any(axis=1)).all()
        steps = np.flatnonzero(dark.all(axis=1))
        assert 1 <= len(steps) <= 6
        assert steps[-1] - steps[0] == len(steps) - 1


def test_the_only_measurement_is_never_removed() -> None:
    values = np.full((4, 2), np.nan)
    values[1, 1] = 7.0
    row = Example("r", values=values, target=np.zeros((1, 2)))

    for name in ("traffic.missing_block", "traffic.drop_sensors"):
        assert all(np.isfinite(made.values).any() for made in many(name, row, p=0.9))  # type: ignore[call-overload]


def test_noise_is_as_large_as_was_asked_for_and_gaps_stay_gaps() -> None:
    values = SERIES[:12].copy()
    values[3, 2] = np.nan
    values[:, 5] = 30.0
    made = np.stack([row.values for row in many("traffic.jitter", Example("r", values=values), share=0.1)])  # type: ignore[misc]

    noise = made - values
    assert np.isnan(made[:, 3, 2]).all()
    assert not noise[:, :, 5].any()
    np.testing.assert_allclose(noise[:, :, 0].std(), 0.1 * values[:, 0].std(), rtol=0.1)


def test_the_calendar_moves_by_whole_days() -> None:
    times = {row.time for row in many("traffic.calendar_shift", p=0.5, days=1)}

    assert times == {"2012-03-04T07:55:00", "2012-03-05T07:55:00", "2012-03-06T07:55:00"}


def test_series_of_one_channel_are_augmented_too() -> None:
    row = Example("r", values=np.arange(10.0))

    made = many("traffic.missing_block", row, p=1.0)

    assert all(one.values is not None and one.values.shape == (10,) and np.isnan(one.values).any() for one in made)
