"""How answers are written, counted by hand."""

from __future__ import annotations

import math

import pytest

from vertical_sdk.metrics import bind
from vertical_sdk.types import Example, Message


def rows(*sources: str) -> list[Example]:
    system = Message("system", "Summarize what Boston wrote 99 times.")
    return [Example(str(n), messages=(system, Message("user", source))) for n, source in enumerate(sources)]


def test_length_ratio_is_words_written_over_words_wanted() -> None:
    assert bind("length_ratio")(["one two three", "four, the five six"], ["one two", "x"]) == 6 / 3
    assert math.isnan(bind("length_ratio")(["one"], [""]))


def test_repetition_counts_sequences_that_the_answer_had_before() -> None:
    looped = "go home now go home now go home now"  # 7 sequences, of which 3 are new
    plain = "one two three four"  # 2 sequences

    assert bind("repetition")([looped, plain], ["", ""]) == 4 / 9
    assert math.isnan(bind("repetition")(["too short"], [""]))


def test_copying_counts_sequences_of_the_source() -> None:
    asked = rows("My knee hurts when I climb the stairs.", "One two three.")
    answers = ["Knee hurts, when I run", "Three two one"]

    # "knee hurts when" and "hurts when i" are copied; "when i run" and "three two one" are not
    assert bind("copying")(answers, ["", ""], rows=asked) == 2 / 4
    assert bind("longest_copy")(answers, ["", ""], rows=asked) == (4 + 1) / 2


def test_the_instruction_is_not_a_source() -> None:
    answer = ["Summarize what Boston wrote"]

    assert bind("copying")(answer, [""], rows=rows("My knee hurts.")) == 0
    assert bind("longest_copy")(answer, [""], rows=rows("My knee hurts.")) == 0
    assert bind("faithfulness")(answer, [""], rows=rows("My knee hurts.")) == 0
    assert bind("copying")(["One two three"], [""], rows=[Example("1", "so one two three")]) == 1


def test_faithfulness_is_the_share_of_numbers_and_names_in_the_source() -> None:
    asked = rows("my mother, seventy six, was at duke hospital")
    answer = ["A 76-year-old asks whether Duke or Boston gives 500 mg."]

    # 76 and Duke are in the source; 500 and Boston are not
    assert bind("faithfulness")(answer, [""], rows=asked) == 0.5
    assert math.isnan(bind("faithfulness")(["nothing of the kind"], [""], rows=asked))


@pytest.mark.parametrize("name", ["length_ratio", "repetition", "copying", "longest_copy", "faithfulness"])
def test_an_empty_answer_can_be_measured(name: str) -> None:
    value = bind(name)([""], ["one"], rows=rows("one"))

    assert value == 0 or math.isnan(value)
