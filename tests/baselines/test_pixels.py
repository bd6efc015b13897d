from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from vertical_sdk.baselines import load_fitted, save_arrays
from vertical_sdk.baselines.pixels import pixels
from vertical_sdk.errors import DataError
from vertical_sdk.types import Example, LabelSpace

LABELS = LabelSpace(("dark", "bright"))


def rows(count: int, seed: int, side: int = 8) -> list[Example]:
    rng = np.random.default_rng(seed)
    examples = []
    for n in range(count):
        bright = n % 2
        picture = rng.integers(0, 200, (side, side)) + 40 * bright
        examples.append(Example(str(n), target=LABELS.labels[bright], values=picture.astype(np.uint8)))
    return examples


def test_pixels_equals_logistic_regression_on_the_grey_values() -> None:
    train, test = rows(60, 0), rows(20, 1)

    outputs = pixels(train, LABELS, "classification", 0, None, side=8, C=0.1).predict(test, None)

    def x(part: list[Example]) -> np.ndarray:
        return np.stack([e.values.reshape(-1) / 127.5 - 1 for e in part if e.values is not None])

    model = LogisticRegression(C=0.1, max_iter=1000).fit(x(train), [LABELS.index(str(e.target)) for e in train])
    np.testing.assert_allclose(outputs.probabilities, model.predict_proba(x(test)), atol=2e-3)


def test_pixels_scales_large_and_coloured_images_to_small_grey_ones() -> None:
    fitted = pixels(rows(60, 0), LABELS, "classification", 0, None, side=8)
    small = rows(4, 2)
    large = [Example(e.id, values=np.kron(e.values, np.ones((3, 3), np.uint8))) for e in small]
    colour = [Example(e.id, values=np.stack([e.values] * 3, axis=2)) for e in small if e.values is not None]

    expected = fitted.predict(small, None).probabilities

    np.testing.assert_allclose(fitted.predict(large, None).probabilities, expected, atol=1e-6)
    np.testing.assert_allclose(fitted.predict(colour, None).probabilities, expected, atol=1e-6)


def test_loaded_pixels_predicts_the_same() -> None:
    fitted = pixels(rows(60, 0), LABELS, "classification", 0, None, side=8)

    loaded = load_fitted("pixels", save_arrays("pixels", fitted, "here"))

    np.testing.assert_array_equal(
        loaded.predict(rows(9, 3), None).probabilities, fitted.predict(rows(9, 3), None).probabilities
    )


def test_rows_without_images_are_refused() -> None:
    with pytest.raises(DataError, match="Row a does not contain an image"):
        pixels([Example("a", "words", "dark")], LABELS, "classification", 0, None)
    with pytest.raises(DataError, match="no training rows"):
        pixels([], LABELS, "classification", 0, None)
