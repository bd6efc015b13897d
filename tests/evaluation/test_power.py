"""What few test rows of a label can show."""

from __future__ import annotations

from math import comb

import pytest

from vertical_sdk.evaluation.power import describe_few, least_difference


def sign_test(favor: int, against: int) -> float:
    """The exact two-sided sign test: how likely a split at least this uneven is, if either side is equally likely."""
    n = favor + against
    tail = sum(comb(n, i) for i in range(min(favor, against) + 1)) / 2**n
    return min(1.0, 2 * tail)


@pytest.mark.parametrize("confidence", [0.8, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("n", [1, 5, 6, 10, 29])
def test_the_least_difference_is_that_of_the_exact_sign_test(n: int, confidence: float) -> None:
    significant = [k for k in range(1, n + 1) if sign_test(k, 0) <= 1 - confidence + 1e-12]

    expected = significant[0] / n if significant else None
    assert least_difference(n, confidence) == expected


def test_labels_with_few_rows_are_named_with_what_they_can_show() -> None:
    assert describe_few({"N": 300, "V": 20, "S": 2, "F": 0}, 0.95) == (
        "Fewer than 30 test rows of a label: 'S' has 2 (none), 'V' has 20 (0.30 or more). In brackets: the difference in the recall of "
        "the label that these rows can show at 95% confidence."
    )
    assert describe_few({"N": 300, "V": 30}, 0.95) == ""


def test_many_labels_with_few_rows_are_counted() -> None:
    text = describe_few({f"label {n}": n for n in range(1, 9)}, 0.95)

    assert "'label 5' has 5 (none), and 3 more labels." in text
