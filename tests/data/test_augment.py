import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from vertical_sdk.catalog import augmentations
from vertical_sdk.data.augment import augment, drop_words, letter_case, shuffle_sentences, typos
from vertical_sdk.types import Example, Message

TEXT = "Patient denies chest pain. There is no fever above 38.5 degrees. Breathing is laboured."
ALL = [drop_words, typos, letter_case, shuffle_sentences]


@pytest.mark.parametrize("part", ALL)
@pytest.mark.parametrize("seed", range(10))
def test_only_the_text_changes_and_negations_and_numbers_stay(part: Callable[..., Example], seed: int) -> None:
    example = Example("1", TEXT, "label", group="g", only="train", split="train")

    made = part(example, random.Random(seed), p=0.9)

    assert (made.id, made.target, made.group, made.only, made.split) == ("1", "label", "g", "train", "train")
    for word in ("denies", "no", "38.5"):
        assert word in made.text.lower().split()


@pytest.mark.parametrize("part", ALL)
def test_the_same_seed_gives_the_same_text_and_probability_zero_the_old_one(part: Callable[..., Example]) -> None:
    example = Example("1", TEXT, "label")

    assert part(example, random.Random(3), p=0.5) == part(example, random.Random(3), p=0.5)
    assert part(example, random.Random(3), p=0.0) == example


@pytest.mark.parametrize("part", ALL)
@pytest.mark.parametrize("text", ["", "a", "word", "not", "  ", "words", "日本語テキスト"])
def test_short_texts_survive(part: Callable[..., Example], text: str) -> None:
    for seed in range(20):
        made = part(Example("1", text, "x"), random.Random(seed), p=0.99)
        assert bool(made.text.strip()) == bool(text.strip())


def test_only_what_the_user_says_is_changed() -> None:
    turns = (Message("system", "Be SHORT"), Message("user", "HELLO There"), Message("assistant", "GOOD Day"))

    made = letter_case(Example("1", messages=turns), random.Random(0), p=1.0)

    assert [t.content for t in made.messages] == ["Be SHORT", "hello there", "GOOD Day"]


def test_a_copy_that_is_only_said_to_be_of_another_time_is_a_copy() -> None:
    row = Example(id="a", time="2024-01-01T00:00:00")

    rows, account = augment([row], [lambda example, rng: replace(example, time="2024-01-02T00:00:00")], 1, seed=0)

    assert [r.time for r in rows] == ["2024-01-01T00:00:00", "2024-01-02T00:00:00"]
    assert account.notes == {}


def test_copies_follow_their_rows_and_unchanged_ones_are_not_added() -> None:
    train = [Example("1", TEXT, "x"), Example("2", "flu", "y")]

    rows, account = augment(train, [drop_words], copies=2, seed=0)

    assert [e.id for e in rows if "+" not in e.id] == ["1", "2"]
    assert {e.id for e in rows} <= {"1", "1+1", "1+2", "2"}
    assert len({e.text for e in rows}) == len(rows)
    assert account.added == {"augmented copy": len(rows) - 2}
    assert account.adds_up


def test_a_copy_depends_on_its_own_row_only() -> None:
    train = [Example(str(n), f"{TEXT} {n}", "x") for n in range(5)]

    alone, _ = augment(train[3:4], [typos, drop_words], copies=2, seed=7)
    together, _ = augment(train, [typos, drop_words], copies=2, seed=7)

    assert [e for e in together if e.id.startswith("3")] == alone


def test_general_augmentations_are_registered_with_a_probability() -> None:
    assert augmentations.check("typos", {"p": 0.1}) == {"p": 0.1}
    assert {"drop_words", "letter_case", "shuffle_sentences", "typos"} <= set(augmentations.names())


def test_everything_at_once_is_still_pure() -> None:
    example = Example("1", TEXT, "x")
    before: Any = repr(example)

    augment([example], ALL, copies=3, seed=1)

    assert repr(example) == before


def test_han_kana_and_hangul_lose_no_negation() -> None:
    example = Example("1", "患者没有发热 也不咳嗽 열이 없습니다", "x")

    for seed in range(50):
        rng = random.Random(seed)
        assert typos(example, rng, p=1.0).text == example.text
        assert drop_words(example, rng, p=0.9).text == example.text


def test_sentences_without_spaces_are_shuffled_and_kept_whole() -> None:
    sentences = ["患者发热三天。", "是否咳嗽？", "“不咳。”", "建议复查！"]
    texts = {shuffle_sentences(Example("1", "".join(sentences)), random.Random(seed), p=1.0).text for seed in range(30)}

    assert len(texts) > 5
    assert {"".join(order) for order in itertools.permutations(sentences)} >= texts
