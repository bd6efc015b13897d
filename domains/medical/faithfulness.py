"""Find drugs and diseases in a text, and the tokens of an answer that would write one that the question does not contain."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

from vertical_sdk.metrics.facts import find_numbers

from .terms import COMMON, DISEASE_ENDINGS, DISEASES, DRUG_ENDINGS, DRUGS

TELLING = 5
"""The fewest letters of a first token that identify a drug."""
WORDS = re.compile(r"[^\W\d_]+")


@functools.lru_cache(maxsize=4096)
def find_drugs(text: str) -> frozenset[str]:
    """The drugs of a text in small letters: those of our list, and words with the ending of a class of drugs."""
    return frozenset(word for word in _split_words(text) if word in _DRUGS or (_is_long(word) and word.endswith(DRUG_ENDINGS)))


@functools.lru_cache(maxsize=4096)
def find_entities(text: str) -> frozenset[str]:
    """The drugs and diseases of a text in small letters, by list and by ending; without a plural -s or -es."""
    entities = set(find_drugs(text))
    for word in _split_words(text):
        single = word[:-1] if word.endswith("s") and word[:-1] in _DISEASES else word
        single = word[:-2] if word.endswith("es") and word[:-2] in _DISEASES else single
        if single in _DISEASES or (_is_long(word) and word.endswith(DISEASE_ENDINGS)):
            entities.add(single)
    return frozenset(entities)


_DRUGS, _DISEASES = frozenset(DRUGS), frozenset(DISEASES)


def _split_words(text: str) -> list[str]:
    return [word.lower() for word in WORDS.findall(text)]


def _is_long(word: str) -> bool:
    return len(word) >= 6 and word not in COMMON


def make_unsupported_token_finder(tokenizer: Any) -> Callable[[str, Sequence[int]], list[tuple[int, ...]]]:
    """Make the token finder of a loss that avoids tokens: a function of the question's text and the answer's tokens.

    For each token of the answer it returns the ids of the tokens that would, in its place, start or continue

    - a number: digits that do not begin any number of the question,
    - a drug of our list that the question does not name, if the answer so far has written its beginning, and only by
      tokens that neither question nor answer contain. The first token of a name counts only if it is long enough to identify the name:
      " well" begins more than Wellbutrin.

    The answer's own token is never among them, whatever it writes: it is learned unchanged.
    """
    texts: list[str] = tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
    digit_tokens = {token: text for token, text in enumerate(texts) if text.strip().isdigit() and text.strip().isascii()}
    spelled = [
        (drug, tuple(tokenizer(f" {name}", add_special_tokens=False)["input_ids"]))
        for drug in DRUGS
        for name in (drug, drug.capitalize())
    ]

    def find_tokens(question: str, answer: Sequence[int]) -> list[tuple[int, ...]]:
        stated = find_numbers(question)
        own = {*tokenizer(question, add_special_tokens=False)["input_ids"], *answer}
        named = find_drugs(question)
        after: dict[tuple[int, ...], set[int]] = {}
        for drug, ids in spelled:
            if drug not in named:
                for at, token in enumerate(ids):
                    if token not in own and (at or len(texts[token].strip()) >= TELLING):
                        after.setdefault(ids[:at], set()).add(token)
        starts = after.pop((), set())
        longest = max(map(len, after), default=0)
        digits: dict[str, frozenset[int]] = {}
        same: dict[frozenset[int], tuple[int, ...]] = {}  # most tokens of an answer have the same ones to avoid
        avoid = []
        run = ""
        for at, token in enumerate(answer):
            if run not in digits:
                digits[run] = _find_wrong_digits(run, digit_tokens, stated)
            wrong: frozenset[int] | set[int] = digits[run] | starts
            for length in range(1, min(longest, at) + 1):
                wrong = wrong | after.get(tuple(answer[at - length : at]), set())
            wrong = frozenset(wrong - {token})
            avoid.append(same.setdefault(wrong, tuple(sorted(wrong))))
            text = digit_tokens.get(token)
            run = "" if text is None else text.strip() if text != text.lstrip() else run + text
        return avoid

    return find_tokens


def _find_wrong_digits(run: str, digit_tokens: dict[int, str], stated: frozenset[str]) -> frozenset[int]:
    """Find the digit tokens that, after the digits `run`, do not continue a number of the question."""

    def continues_a_number(text: str) -> bool:
        digits = text.strip() if text != text.lstrip() else run + text
        bare = digits.lstrip("0")
        return not bare or any(number.startswith(bare) for number in stated)

    return frozenset(token for token, text in digit_tokens.items() if not continues_a_number(text))
