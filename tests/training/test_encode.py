"""Rows that the base cannot read, or not to their end, are refused before any weights train."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import topic_recipe, topic_rows, write_csv

from vertical_sdk import train
from vertical_sdk.bases.base import Base, load_text_tokenizer, pull_base
from vertical_sdk.errors import DataError
from vertical_sdk.evaluation.record import describe_provenance
from vertical_sdk.families.specialist import Specialist, create_specialist
from vertical_sdk.families.windows import Windows
from vertical_sdk.recipe import Limits, load_recipe
from vertical_sdk.training.encode import encode_rows
from vertical_sdk.types import Example, LabelSpace

THAI = "ผิดช่วยเมื่อวานคืนเงิน"


@pytest.fixture
def base(encoder: Path) -> Base:
    return pull_base(str(encoder))


@pytest.fixture
def specialist(base: Base, encoder: Path, tmp_path: Path) -> Specialist:
    """It reads 16 tokens, [CLS] and [SEP] among them; its base reads 64."""
    recipe = load_recipe(topic_recipe(tmp_path, encoder, data__max_length=16))
    return create_specialist(base, recipe, LabelSpace(("skin", "lung")))


def rows(*texts: str) -> list[Example]:
    return [Example(str(number), text, "skin") for number, text in enumerate(texts)]


def test_unknown_tokens_up_to_the_limit_are_accepted(base: Base, specialist: Specialist) -> None:
    texts = rows("rash 7", "skin itch", "red spot", "scale red", "itch")  # 1 of 2 tokens, then none: 0.1 on average

    encoded = encode_rows(specialist, texts, learn=True, limits=Limits(unknown=0.1), base=base)

    assert [row.unknown_share for row in encoded] == [0.5, 0, 0, 0, 0]
    with pytest.raises(DataError, match=r"does not know 10% of the tokens of the rows.*limits\.unknown allows 9%"):
        encode_rows(specialist, texts, learn=True, limits=Limits(unknown=0.09), base=base)


def test_a_few_rows_in_another_language_count_as_much_as_long_ones(base: Base, specialist: Specialist) -> None:
    english = ["rash on the red skin with pain and fever"] * 3

    with pytest.raises(DataError, match=r"25% of the tokens of the training rows.*row 3: '" + THAI) as caught:
        encode_rows(specialist, rows(*english, THAI), learn=True, limits=Limits(), base=base, what="training rows")

    assert "smollm2-135m" in caught.value.message
    assert "vertical base list" in caught.value.message


def test_the_message_about_long_rows_has_the_limit_that_fits(base: Base, specialist: Specialist) -> None:
    texts = rows(*["rash"] * 18, "rash " * 30, "rash " * 40)  # 3, 32 and 42 tokens

    with pytest.raises(DataError, match=r"2 of 20 rows are longer than 16 tokens \(the longest has 42\)") as caught:
        encode_rows(specialist, texts, learn=True, limits=Limits(truncated=0.05), base=base)

    assert "Set data.max_length: 32;" in caught.value.message  # one of 20 may be cut
    assert "reads at most 64." in caught.value.message
    limits = Limits(truncated=0.05)
    specialist.max_length = 32
    assert [row.cut for row in encode_rows(specialist, texts, learn=True, limits=limits, base=base)] == [0] * 19 + [10]


def test_the_message_about_rows_longer_than_the_base_reads_says_what_to_do(base: Base, specialist: Specialist) -> None:
    texts = rows("rash", "rash", "rash " * 50, "rash " * 100)

    with pytest.raises(DataError) as caught:
        encode_rows(specialist, texts, learn=True, limits=Limits(), base=base)
    said = caught.value.message
    assert "Set data.max_length: 64, the most that" in said
    assert "1 rows are longer even so" in said
    assert "data.limits.truncated: 0.25." in said

    specialist.windows = Windows(64, extra=2)
    specialist.max_length = 64
    with pytest.raises(
        DataError, match=r"reads no more than 64\. So read long texts in windows \(data\.windows: 2\), choose a base"
    ):
        encode_rows(specialist, texts, learn=True, limits=Limits(), base=base)
    assert encode_rows(specialist, texts, learn=True, limits=Limits(truncated=0.25), base=base)[-1].cut == 38


def test_the_message_without_a_limit_of_the_base_has_the_length_alone(base: Base, specialist: Specialist) -> None:
    with pytest.raises(DataError, match=r"Set data\.max_length: 104\.$"):
        encode_rows(specialist, rows("rash " * 100), learn=True, limits=Limits(), base=replace(base, max_length=None))


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_training_stops_before_it_begins_if_a_split_cannot_be_read(split: str, encoder: Path, tmp_path: Path) -> None:
    parts = ["train"] * 60 + ["validation"] * 30 + ["test"] * 30
    table = [
        (f"{THAI}{number}" if part == split else text, label, part)
        for number, ((text, label), part) in enumerate(zip(topic_rows(120), parts, strict=True))
    ]
    data = write_csv(tmp_path / "rows.csv", table, ("text", "label", "split"))
    recipe = topic_recipe(tmp_path, encoder)
    keys = {"data.source": str(data), "data.split": {"use": "given"}, "data.columns.split": "split"}

    what = "training" if split == "train" else split
    with pytest.raises(DataError, match=f"does not know 100% of the tokens of the {what} rows"):
        train(recipe, settings=keys, out=tmp_path / "run")

    assert not (tmp_path / "run" / "adapter").exists()
    assert not list((tmp_path / "run").glob("checkpoints/*"))


def test_the_card_and_the_report_say_what_was_not_read(encoder: Path, tmp_path: Path) -> None:
    table = [(f"{text} [SEP]" if number < 4 else text, label) for number, (text, label) in enumerate(topic_rows(120))]
    data = write_csv(tmp_path / "rows.csv", table)
    recipe = topic_recipe(tmp_path, encoder)

    told: list[str] = []
    keys = {"data.source": str(data), "train.max_steps": 1}
    run = train(recipe, settings=keys, out=tmp_path / "run", progress=lambda what, _: told.append(what))

    training = run.card.training
    assert training["control_rows"] == 4
    # seven words, of which one is a number, which the base does not know; in four rows also [, sep and ]
    split = training["unknown_share"]
    sizes = {"train": 90, "validation": 12, "test": 18}
    total = sum(split[name] * size for name, size in sizes.items())
    assert total == pytest.approx((116 / 7 + 4 * 4 / 10), abs=0.01)
    assert "warning: 4 rows contain control tokens, which are read as characters" in told
    most = max(split.values())
    assert any(line.endswith(f"does not know {most:.1%} of the tokens of these texts") for line in told)
    provenance = describe_provenance(run.card, None)
    assert provenance["rows_with_control_tokens"] == 4
    assert provenance["unknown_tokens"] == {name: f"{share:.1%}" for name, share in split.items()}
    specialist = SimpleNamespace(text_tokenizer=load_text_tokenizer(pull_base(str(encoder))))
    other = describe_provenance(run.card, Path("other.csv"), specialist, rows("rash zzz", "itch"))
    assert other["unknown_tokens"]["rows evaluated"] == "25.0%"
