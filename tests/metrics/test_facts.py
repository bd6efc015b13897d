"""Numbers and names in a text."""

from __future__ import annotations

import pytest

from vertical_sdk.metrics.facts import find_figures, find_names, find_numbers, find_words


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("I am seventy six years old", {"70", "6", "76"}),
        ("one hundred and forty over ninety", {"1", "100", "40", "140", "90"}),
        ("since two thousand eight", {"2", "1000", "2000", "8", "2008"}),
        ("in nineteen eighty five", {"19", "80", "85", "5", "1985"}),
        ("July thirty first", {"7", "30", "1", "31"}),
        ("98.6 degrees and 1,200 steps, 07", {"98", "6", "1200", "1", "200", "7"}),
        ("twice a day", {"2"}),
        ("nothing to count", set()),
    ],
)
def test_numbers_are_read_in_figures_and_in_words(text: str, said: set[str]) -> None:
    assert find_numbers(text) == said


def test_figures_are_those_in_digits() -> None:
    assert find_figures("two doses of 1,200 mg, 07:30, 0") == {"1200", "7", "30", "0"}
    assert find_figures("1" * 5000) == {"1" * 5000}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("What did Dr. Smith say? Ask Mary.", {"dr", "smith", "mary"}),
        ("FDA approval of B12 and COVID-19 tests", {"fda", "b12", "covid"}),
        ('"Where can I find it?" (Perhaps in Boston)', {"boston"}),
        ("Notes:\n\u2022 Aspirin\n\u2022 Ibuprofen", set()),
        ("where can i buy nulytely?", set()),
    ],
)
def test_names_are_words_with_capitals_that_begin_no_sentence(text: str, names: set[str]) -> None:
    assert find_names(text) == names


def test_words_are_in_small_letters_without_marks() -> None:
    assert find_words("O'Brien's COVID-19 test") == {"o", "brien", "s", "covid", "19", "test"}
