from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from vertical_sdk.baselines import pack, unpack
from vertical_sdk.baselines.pixels import pixels
from vertical_sdk.errors import DataError
from vertical_sdk.types import Example, LabelSpace

LABELS = LabelSpace(("dark", "bright"))


def rows(count: int, seed: int, side: int = 8) -> list[Example]:
    rng = np.random.default_rng(seed)
    made = []
    for n in range(count):
        bright = n % 2
        picture = rng.integers(0, 200, (side, side)) + 40 * bright
        made.append(Example(str(n), target=LABELS.labels[bright], values=picture.astype(np.uint8)))
    return made


def test_it_is_scikit_learns_regression_on_the_greys() -> None:
    train, test = rows(60, 0), rows(20, 1)

    said = pixels(train, LABELS, "classification", 0, None, side=8, C=0.1).ask(test, None)

    def x(part: list[Example]) -> np.ndarray:
        return np.stack([e.values.reshape(-1) / 127.5 - 1 for e in part if e.values is not None])

    model = LogisticRegression(C=0.1, max_iter=1000).fit(x(train), [LABELS.index(str(e.target)) for e in train])
    np.testing.assert_allclose(said.probabilities, model.predict_proba(x(test)), atol=2e-3)


def test_a_large_or_coloured_picture_is_read_as_a_small_grey_one() -> None:
    fitted = pixels(rows(60, 0), LABELS, "classification", 0, None, side=8)
    small = rows(4, 2)
    large = [Example(e.id, values=np.kron(e.values, np.ones((3, 3), np.uint8))) for e in small]
    colour = [Example(e.id, values=np.stack([e.values] * 3, axis=2)) for e in small if e.values is not None]

    expected = fitted.ask(small, None).probabilities

    np.testing.assert_allclose(fitted.ask(large, None).probabilities, expected, atol=1e-6)
    np.testing.assert_allclose(fitted.ask(colour, None).probabilities, expected, atol=1e-6)


def test_it_is_kept_as_arrays_and_comes_back() -> None:
    fitted = pixels(rows(60, 0), LABELS, "classification", 0, None, side=8)

    again = unpack("pixels", pack("pixels", fitted, "here"))

    np.testing.assert_array_equal(again.ask(rows(9, 3), None).probabilities, fitted.ask(rows(9, 3), None).probabilities)


def test_rows_that_are_no_pictures_are_refused() -> None:
    with pytest.raises(DataError, match="row a is no picture"):
        pixels([Example("a", "words", "dark")], LABELS, "classification", 0, None)
    with pytest.raises(DataError, match="no training rows"):
        pixels([], LABELS, "classification", 0, None)
