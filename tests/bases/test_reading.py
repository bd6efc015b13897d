from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from vertical_sdk.bases.base import list_reading_anything
from vertical_sdk.bases.embedded import EMBEDDED
from vertical_sdk.bases.reading import (
    SENTENCES,
    LanguageReading,
    fitting_length,
    group_languages,
    read_languages,
    read_texts,
    share_above,
)
from vertical_sdk.bases.text_tokenizer import TextTokenizer


@pytest.fixture
def tokenizer() -> TextTokenizer:
    """It knows the words a and b, and puts [CLS] and [SEP] around a text."""
    raw = Tokenizer(models.WordLevel({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "b": 4}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    return TextTokenizer(PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"))


def test_unknown_tokens_are_a_share_of_each_text(tokenizer: TextTokenizer) -> None:
    reading = read_texts(tokenizer, ["a b a b", "a x b y", "z", "", "a [SEP] a"])

    assert reading.lengths == (6, 6, 3, 2, 5)
    assert reading.unknown == (0, 0.5, 1, 0, pytest.approx(1 / 3))
    assert reading.unknown_share == pytest.approx((0.5 + 1 + 1 / 3) / 5)
    assert (reading.worst, reading.control) == (2, 1)


def test_a_share_that_is_the_limit_is_not_above_it(tokenizer: TextTokenizer) -> None:
    assert read_texts(tokenizer, ["a b a b x"] * 18).unknown_share == 0.2


def test_texts_that_are_known_have_no_worst(tokenizer: TextTokenizer) -> None:
    assert read_texts(tokenizer, ["a", "b"]).worst is None
    assert read_texts(tokenizer, []).unknown_share == 0


@pytest.mark.parametrize(
    ("cut", "expected"),
    [(0.0, 104), (0.09, 104), (0.1, 96), (0.2, 88), (0.89, 24), (0.9, 16), (1.0, 16)],
)
def test_a_limit_leaves_no_more_cut_than_allowed(cut: float, expected: int) -> None:
    lengths = [10, 20, 30, 40, 50, 60, 70, 85, 90, 100]

    limit = fitting_length(lengths, cut)

    assert limit == expected
    assert sum(length > limit for length in lengths) <= cut * len(lengths)


def test_the_share_above_a_limit_is_rounded_up() -> None:
    assert share_above([1, 2, 3], 2) == 0.34
    assert share_above([1, 2, 3], 3) == 0
    assert share_above([4] * 5, 3) == 1


def test_a_language_is_measured_against_english(tokenizer: TextTokenizer) -> None:
    reads = read_languages(tokenizer)

    english = sum(len(sentence.split()) for sentence in SENTENCES["en"])
    french = sum(len(sentence.split()) for sentence in SENTENCES["fr"])
    assert reads["fr"].tokens == round(french / english, 2)
    known = sum(sentence.split().count("a") for sentence in SENTENCES["fr"])
    assert reads["fr"].unknown == round(1 - known / french, 3)
    assert reads["th"].unknown == 1


def test_languages_are_grouped_by_how_they_are_read() -> None:
    reads = {
        "en": LanguageReading(0.02, 1.0),
        "fr": LanguageReading(0.0, 1.99),
        "ru": LanguageReading(0.0, 2.0),
        "ko": LanguageReading(0.021, 1.5),
        "th": LanguageReading(1.0, 0.1),
    }

    assert group_languages(reads) == (["en", "fr"], ["ru"], ["ko", "th"])


def test_every_base_of_texts_says_what_it_reads() -> None:
    reading = {name: entry for name, entry in EMBEDDED.items() if entry.family != "vision"}

    assert all(list(entry.reads) == list(SENTENCES) and entry.max_length for entry in reading.values())
    assert group_languages(EMBEDDED["minilm-l6"].reads)[2] == ["zh", "ja", "ko", "th"]
    assert list_reading_anything() == ["me5-small", "smollm2-135m", "qwen2.5-coder-0.5b"]  # the smallest first
