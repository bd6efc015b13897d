from __future__ import annotations

import copy
from pathlib import Path

import pytest
from conftest import TEMPLATE, save_causal

from vertical_sdk.bases.base import load_tokenizer, pull_base
from vertical_sdk.bases.text_tokenizer import TextTokenizer
from vertical_sdk.errors import BaseModelError, DataError
from vertical_sdk.families.chat import encode_conversation, encode_prompt, require_template
from vertical_sdk.recipe import Prompt
from vertical_sdk.types import Message

TALK = (
    Message("system", "be brief"),
    Message("user", "where"),
    Message("assistant", "lung"),
    Message("user", "sure"),
    Message("assistant", "yes"),
)


@pytest.fixture
def texts(causal: Path) -> TextTokenizer:
    return TextTokenizer(copy.deepcopy(load_tokenizer(pull_base(str(causal)))))  # one of the tests changes it


def test_only_the_answers_are_learned_and_each_with_its_end(texts: TextTokenizer) -> None:
    row = encode_conversation(texts, TALK, 200)

    learned = texts.tokenizer.decode([i for i, learn in zip(row.ids, row.learn, strict=True) if learn])
    assert learned == "lung<|end|>yes<|end|>"
    assert row.units == len("lung") + len("yes") + 2


def test_a_conversation_is_what_the_template_makes_of_it(texts: TextTokenizer) -> None:
    row = encode_conversation(texts, TALK, 200)

    turns = [{"role": m.role, "content": m.content} for m in TALK]
    assert texts.tokenizer.decode(row.ids) == texts.tokenizer.apply_chat_template(turns, tokenize=False)


def test_tokens_that_do_not_fit_are_counted(texts: TextTokenizer) -> None:
    whole = len(encode_conversation(texts, TALK, 200).ids)

    row = encode_conversation(texts, TALK, whole - 5)

    assert (len(row.ids), row.cut) == (whole - 5, 5)


def test_a_long_text_is_cut_and_never_the_template_around_it(texts: TextTokenizer) -> None:
    prompt = Prompt(system="sort", user="Text: {text}!")

    row = encode_prompt(texts, prompt, "abcdefghij" * 5, 40)

    assert (
        texts.tokenizer.decode(row.ids)
        == "<|system|>sort<|end|><|user|>Text: " + "abcdefghij" * 2 + "abcd" + "!<|end|><|assistant|>"
    )
    assert (len(row.ids), row.cut) == (40, 26)


def test_a_prompt_that_leaves_no_room_for_the_text_is_refused(texts: TextTokenizer) -> None:
    with pytest.raises(DataError, match=r"data\.max_length"):
        encode_prompt(texts, Prompt(system="a very long system prompt"), "text", 16)


def test_a_template_that_rewrites_earlier_turns_is_refused(texts: TextTokenizer) -> None:
    texts.tokenizer.chat_template = "{{ messages|length }}" + TEMPLATE

    with pytest.raises(DataError, match="changes earlier turns"):
        encode_conversation(texts, TALK, 200)


def test_a_base_without_chat_template_is_refused(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(pull_base(str(save_causal(tmp_path / "base", template=None))))

    with pytest.raises(BaseModelError, match="no chat template"):
        require_template(tokenizer, "base")
