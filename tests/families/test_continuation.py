from __future__ import annotations

from typing import Any

import pytest
import torch

from vertical_sdk.errors import AdapterError, DataError
from vertical_sdk.families.continuation import Continuation, Decoding, TokenTree


class Letters:
    """A tokenizer with a token for each letter; token 0 ends a turn."""

    def decode(self, tokens: list[int], **_: Any) -> str:
        return "".join(chr(token) for token in tokens if token)

    def encode(self, text: str) -> Any:
        class Encoding:
            ids = tuple(map(ord, text))

        return Encoding


def write(text: str, **decoding: Any) -> tuple[Continuation, list[str]]:
    """Add the letters of a text until the answer ends, and list the pieces."""
    answer = Continuation(Letters(), 0, Decoding(**decoding), streamed=True)
    pieces = []
    for letter in text:
        if not answer.finished:
            answer.add(ord(letter))
            pieces.append(answer.take_piece())
    return answer, pieces


def scores_for(text: str) -> torch.Tensor:
    """Scores that prefer these letters, the first one most."""
    scores = torch.zeros(128)
    for place, letter in enumerate(text):
        scores[ord(letter)] = 10.0 - place
    return scores


def test_an_answer_ends_before_the_first_stop_text() -> None:
    answer, pieces = write("  one, two\n\nUser: three", stop=("User:", "\n\n"))

    assert answer.text == "one, two" == "".join(pieces)
    assert answer.finished


def test_a_piece_that_may_become_a_stop_text_is_held_back() -> None:
    answer, pieces = write("a STAR a STOP b", stop=("STOP",))

    assert answer.text == "a STAR a" == "".join(pieces)
    assert pieces == ["a", "", "", "", " STA", "R", "", " a", "", "", "", "", ""]


def test_an_answer_without_a_stop_text_ends_at_its_limit_or_its_turn() -> None:
    assert write("abcdef", max_new_tokens=3)[0].text == "abc"
    answer, pieces = write("ab \0cd", stop=("ba",))
    assert answer.text == "ab" == "".join(pieces)
    assert answer.finished


def test_a_choice_is_written_as_soon_as_no_other_is_left() -> None:
    texts = ("yes", "yesterday", "no")
    tree = TokenTree(texts, Letters().encode, 0)

    def choose(*preferred: str) -> tuple[str, int]:
        answer = Continuation(Letters(), 0, Decoding(choices=texts), tree=tree)
        for scores in map(scores_for, preferred):
            answer.add(answer.choose(scores))
        assert answer.finished
        return answer.text, len(answer.tokens)

    assert choose("xn") == ("no", 1)
    assert choose("xy", "", "", "t\0") == ("yesterday", 4)
    assert choose("xy", "", "", "\0t") == ("yes", 4)
    assert Continuation(Letters(), 0, Decoding(choices=("no",)), tree=TokenTree(("no",), Letters().encode, 0)).text == "no"


def test_scores_that_are_not_numbers_are_refused() -> None:
    answer = Continuation(Letters(), 0, Decoding())

    with pytest.raises(AdapterError, match="not a number"):
        answer.choose(torch.tensor([1.0, torch.nan]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens = 0 is wrong"),
        ({"temperature": -0.1}, r"temperature = -0\.1 is wrong: it should be 0 or more"),
        ({"temperature": float("nan")}, "temperature = nan"),
        ({"temperature": "hot"}, "temperature = 'hot'"),
        ({"top_p": 0.0}, r"top_p = 0\.0 is wrong: it should be above 0 and at most 1"),
        ({"top_k": 0}, "top_k = 0"),
        ({"repetition_penalty": 0.0}, r"repetition_penalty = 0\.0 is wrong: it should be above 0"),
        ({"repetition_penalty": "high"}, "repetition_penalty = 'high'"),
        ({"seed": 1.5}, r"seed = 1\.5"),
        ({"stop": ("",)}, "stop: '' is wrong"),
        ({"stop": tuple("abcdefghijklmnopq")}, "stop has 17 texts"),
        ({"choices": ()}, "choices is empty"),
        ({"choices": ("yes", 3)}, "choices: 3 is wrong"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Decoding(**settings)
