"""A new recipe's base and length are those that its own texts need."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import write_csv

from vertical_sdk.card import read_card
from vertical_sdk.cli import choose_base as module
from vertical_sdk.cli import main
from vertical_sdk.cli.choose_base import choose_base
from vertical_sdk.errors import BaseModelError
from vertical_sdk.types import silent

CHINESE = "我的发票有误"


@pytest.fixture
def bases(encoder: Path, causal: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """The first choice, which reads 64 tokens and knows English words, and a base of bytes, which reads 256."""
    monkeypatch.setattr(module, "FIRST", str(encoder))
    monkeypatch.setattr("vertical_sdk.bases.base.list_reading_anything", lambda: [str(causal)])
    return str(encoder), str(causal)


def test_the_length_covers_all_but_one_text_in_a_hundred(bases: tuple[str, str]) -> None:
    texts = ["rash"] * 198 + ["rash " * 30, "rash " * 60]  # 3 tokens, 32 and 62

    choice = choose_base(texts, None, silent)

    assert (choice.base, choice.max_length, choice.truncated, choice.notes) == (bases[0], 16, None, ())
    assert choose_base(texts[2:], None, silent).max_length == 32  # one of 198 may be cut


def test_texts_that_the_first_base_does_not_know_get_one_that_reads_them(bases: tuple[str, str]) -> None:
    choice = choose_base([CHINESE] * 3, None, silent)

    assert choice.base == bases[1]
    prompt = len("<|user|>") - 7 + len(CHINESE.encode()) + 1 + 1  # control tokens are one token, each byte of the text is one
    assert choice.max_length == -(-prompt // 8) * 8 == 24
    assert "does not know 100% of the tokens of these texts" in choice.notes[0]
    assert "training takes longer" in choice.notes[1]


def test_texts_longer_than_the_base_reads_set_the_limit_that_training_needs(bases: tuple[str, str]) -> None:
    choice = choose_base(["rash " * 10] * 9 + ["rash " * 70], None, silent)

    assert (choice.max_length, choice.truncated) == (64, 0.15)  # a tenth, and a margin for the split
    assert "10% of the texts are longer than the 64 tokens" in choice.notes[0]
    assert "set data.windows to 2" in choice.notes[0]  # 72 tokens: 62 of the text, then 8 of them again with the last 8


def test_a_named_base_is_kept_even_if_it_cannot_read_the_texts(bases: tuple[str, str]) -> None:
    choice = choose_base([CHINESE], bases[0], silent)

    assert choice.base == bases[0]
    assert "training will refuse it" in choice.notes[1]
    with pytest.raises(BaseModelError):
        choose_base([CHINESE], "no-such-base", silent)


def test_without_a_tokenizer_the_length_is_estimated(bases: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST", "no-such-base")

    choice = choose_base(["a" * 300, CHINESE * 20], None, silent)

    assert choice.max_length == 128  # 102 and 122 tokens, rounded up to 32
    assert "max_length is an estimate" in choice.notes[0]


def test_a_large_file_is_read_in_part(bases: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOKED_AT", 10)

    assert choose_base(["rash " * 20] * 10 + ["rash " * 60] * 990, None, silent).max_length == 64


@pytest.mark.parametrize(("kind", "number"), [("chinese", 1), ("long", 0)])
def test_a_new_recipe_trains_on_texts_that_the_first_base_reads_badly(
    kind: str, number: int, bases: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {"chinese": ("退款发票账单", "包裹快递物流"), "long": ("rash skin " * 40, "cough lung " * 40)}[kind]
    rows = [(f"{words[n % 2]} {n}", "ab"[n % 2]) for n in range(60)]
    data = write_csv(tmp_path / "rows.csv", rows)

    assert main(["recipe", "new", "mine", "--data", str(data), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    code = main(["train", "mine.yaml", "--set", "train.max_steps=3", "--set", "evaluate.resamples=100", "--out", "run"])

    assert code == 0
    assert (told["base"], len(told["notes"])) == (bases[number], 2 - (kind == "long"))
    assert read_card(Path("run/adapter")).training["unknown_share"]["train"] <= 0.2
