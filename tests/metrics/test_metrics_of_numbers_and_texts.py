from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from sklearn import metrics as sk

from vertical_sdk.metrics import bind
from vertical_sdk.metrics.text import tokens

RNG = np.random.default_rng(2)
TRUTH = RNG.normal(size=100)
SAID = TRUTH + RNG.normal(size=100) / 3


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mae", sk.mean_absolute_error(TRUTH, SAID)),
        ("rmse", sk.root_mean_squared_error(TRUTH, SAID)),
        ("r2", sk.r2_score(TRUTH, SAID)),
    ],
)
def test_metrics_of_numbers_are_those_of_scikit_learn(name: str, expected: float) -> None:
    assert bind(name)(SAID, TRUTH) == pytest.approx(expected)


def test_texts_are_compared_without_case_articles_and_punctuation() -> None:
    said, truth = ["The patient is stable.", "no"], ["patient is: stable", "yes"]

    assert bind("exact_match")(said, truth) == 0.5


def test_token_f1_counts_a_word_as_often_as_both_have_it() -> None:
    # two of three words said are among the four that should be: precision 2/3, recall 2/4
    assert bind("token_f1")(["fever fever cough"], ["fever and dry cough"]) == pytest.approx(
        2 * (2 / 3) * (1 / 2) / (2 / 3 + 1 / 2)
    )


def test_chinese_is_compared_by_characters() -> None:
    assert tokens("急性 RSV 支气管炎。") == ("急", "性", "rsv", "支", "气", "管", "炎")


def test_an_empty_answer_is_right_only_where_nothing_was_to_be_said() -> None:
    for name in ("token_f1", "rouge_l", "exact_match"):
        assert bind(name)(["", ""], ["", "word"]) == 0.5


def test_rouge_l_finds_the_longest_common_subsequence() -> None:
    rng = random.Random(0)
    for _ in range(30):
        a, b = (rng.choices("uvwx", k=rng.randint(1, 9)) for _ in range(2))
        parts = (set(itertools.combinations(words, size)) for size in range(len(a), -1, -1) for words in [a])
        longest = next(len(next(iter(part))) for part in parts if any(_within(one, b) for one in part))

        assert bind("rouge_l")([" ".join(a)], [" ".join(b)]) == pytest.approx(2 * longest / (len(a) + len(b)))


def _within(part: tuple[str, ...], words: list[str]) -> bool:
    rest = iter(words)
    return all(word in rest for word in part)
