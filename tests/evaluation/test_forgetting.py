from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import WORDS

from vertical_sdk.bases.base import pull_base
from vertical_sdk.card import Verdict
from vertical_sdk.data.texts import split_paragraph
from vertical_sdk.errors import DataError
from vertical_sdk.evaluation.base_ability import FILE
from vertical_sdk.evaluation.forgetting import (
    Forgot,
    measure_forgetting,
    read_general,
    verdict,
    with_forgetting,
)
from vertical_sdk.evaluation.report import render
from vertical_sdk.evaluation.result import Evaluation
from vertical_sdk.families.specialist import Specialist, create_specialist
from vertical_sdk.paths import cache_home
from vertical_sdk.recipe import Forgetting, Recipe
from vertical_sdk.types import LabelSpace

FORGOT = Forgot("recall@1", 0.8, 0.7, 0.1, "share", 240)


def paragraphs(n: int, seed: int = 0) -> list[str]:
    """Write paragraphs of two sentences; the second has the words of the first in another order."""
    rng = random.Random(seed)
    texts = []
    for _ in range(n):
        words = rng.sample(sorted(set(WORDS)), 8)
        texts.append(f"{' '.join(words).capitalize()}. {' '.join(rng.sample(words, 8)).capitalize()}.")
    return texts


def specialist(base: Path, task: str = "classification") -> Specialist:
    recipe = Recipe.model_validate(
        {"name": "x", "task": task, "data": {"source": "x.csv", "max_length": 48}, "adapter": {"r": 4, "lora_alpha": 8}}
    )
    return create_specialist(pull_base(str(base)), recipe, LabelSpace(("a", "b")) if task == "classification" else None)


def bend(model: Specialist, scale: float) -> None:
    """Give the adapter random weights, so that it changes the features."""
    torch.manual_seed(0)
    for name, weight in model.backbone.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=scale)


def test_built_in_text_has_distinct_paragraphs_that_can_be_split() -> None:
    texts = read_general(Forgetting(budget=0.1))

    assert len(texts) == len(set(texts)) == 240
    assert all(15 <= len(text.split()) <= 60 and split_paragraph(text) for text in texts)
    assert not [text for text in texts if re.search(r"[^\x20-\x7eéè’–]", text)]
    assert len({text.split()[0] + text.split()[1] for text in texts}) > 200


def test_paragraph_is_split_at_the_sentence_end_nearest_its_middle() -> None:
    assert split_paragraph("One. Two three four five. Six seven eight nine.") == (
        "One. Two three four five.",
        "Six seven eight nine.",
    )
    assert split_paragraph("It was ( he said ) late . So they left . ") == ("It was ( he said ) late .", "So they left .")
    assert split_paragraph('"Is it?" he said. "Yes."') == ('"Is it?" he said.', '"Yes."')
    assert split_paragraph("No end here, e.g. a small letter goes on.") is None
    assert split_paragraph("") is None


def test_untrained_adapter_forgets_nothing(encoder: Path, causal: Path) -> None:
    for base in (encoder, causal):
        forgot = measure_forgetting(specialist(base), paragraphs(24))

        assert forgot.before == forgot.after
        assert forgot.cost == 0
        assert forgot.rows == 24


def test_recall_equals_the_share_of_halves_that_find_each_other(encoder: Path) -> None:
    model = specialist(encoder)
    bend(model, 3.0)
    texts = paragraphs(30)

    forgot = measure_forgetting(model, texts)

    def measure_recall() -> float:
        """Compute recall one text at a time, with the plain transformers model."""

        def vector(text: str) -> torch.Tensor:
            with torch.inference_mode():
                hidden = model.backbone(**model.tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0)
            return hidden / hidden.norm()

        pairs = [tuple(f"{half}." for half in text.rstrip(".").split(". ")) for text in texts]
        seconds = [vector(second) for _, second in pairs]
        hits = 0
        for number, (first, _) in enumerate(pairs):
            near = [float(vector(first) @ second) for second in seconds]
            hits += near.index(max(near)) == number
        return hits / len(pairs)

    after = measure_recall()
    with model.backbone.disable_adapter():
        before = measure_recall()
    assert (forgot.before, forgot.after) == pytest.approx((before, after))
    assert forgot.before > forgot.after
    assert forgot.cost == pytest.approx(before - after)


@pytest.mark.parametrize("task", ["classification", "generation", "regression"])
def test_bits_equal_the_loss_of_the_language_model(causal: Path, task: str) -> None:
    model = specialist(causal, task)
    bend(model, 1.0)
    texts = paragraphs(3)

    forgot = measure_forgetting(model, texts)

    bits, characters = 0.0, 0
    for text in texts:
        ids = model.tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            bits += float(model.backbone(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1) / math.log(2)
        characters += len(text) - 1  # the tiny model has a token for each byte, and nothing before the first one
    assert forgot.measure == "bits per character"
    assert forgot.after == pytest.approx(bits / characters, rel=1e-4)
    assert forgot.cost == pytest.approx(forgot.after - forgot.before)


def test_every_token_of_a_long_text_is_predicted_once(causal: Path) -> None:
    model = specialist(causal)
    seen: list[int] = []
    forward = model.forward

    def watched(batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
        outputs, tokens = forward(batch)
        seen.append(len(outputs))
        return outputs, tokens

    model.forward = watched  # type: ignore[method-assign]

    measure_forgetting(model, ["pulse " * 110])

    assert sum(seen) == 2 * (110 * 6 - 1)  # once with the adapter off, once on
    assert max(seen) <= 512


def test_measure_limits_paragraphs_and_characters(encoder: Path, causal: Path) -> None:
    texts = paragraphs(64)

    assert measure_forgetting(specialist(encoder), texts, most=8).rows == 8
    assert measure_forgetting(specialist(causal), [text * 20 for text in texts]).rows < 20


def test_text_that_cannot_be_split_is_refused(encoder: Path) -> None:
    with pytest.raises(DataError, match="0 of 2 paragraphs have two sentences or more"):
        measure_forgetting(specialist(encoder), ["one", "two"])


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


LONG = [f"Number {n} " + "and so on " * 15 + "to the end." for n in range(25)]


def _wikitext(folder: Path) -> Path:
    return write(folder / "a.txt", "".join(f" \n = Title {n} = \n \n {one} \n Short line . \n" for n, one in enumerate(LONG)))


def _wrapped(folder: Path) -> Path:
    return write(folder / "a.txt", "\n\n".join(re.sub(r"(.{60}) ", r"\1\n", one) for one in LONG))


def _one_a_line(folder: Path) -> Path:
    return write(folder / "a.txt", "\n".join([*LONG, LONG[0]]))


def _jsonl(folder: Path) -> Path:
    return write(folder / "a.jsonl", "".join(json.dumps({"id": n, "text": one}) + "\n" for n, one in enumerate(LONG)))


def _parquet(folder: Path) -> Path:
    pq.write_table(pa.table({"text": [*LONG, None, "short"]}), folder / "a.parquet")
    return folder / "a.parquet"


@pytest.mark.parametrize("make", [_wikitext, _wrapped, _one_a_line, _jsonl, _parquet])
def test_general_text_is_read_from_several_file_formats(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    assert read_general(Forgetting(source=str(make(tmp_path)), budget=0.1)) == LONG


def test_folder_with_several_files_needs_the_file_key(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    _one_a_line(folder)
    assert read_general(Forgetting(source=str(folder), budget=0.1)) == LONG
    write(folder / "b.txt", "x")

    with pytest.raises(DataError, match=r"several files; set evaluate\.forgetting\.file to one of: a\.txt, b\.txt"):
        read_general(Forgetting(source=str(folder), budget=0.1))
    assert read_general(Forgetting(source=str(folder), file="a.txt", budget=0.1)) == LONG


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "too short\n\nby far\n", "0 of its 2 paragraphs have 40 words or more; at least 20 are needed"),
        ("a.txt", b"caf\xe9", "the file is not UTF-8 text"),
        ("a.csv", "body,label\nx,y\n", "the file has no column 'text'; it has body, label"),
    ],
)
def test_source_without_prose_is_refused(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_general(Forgetting(source=str(write(tmp_path / name, content)), budget=0.1))


@pytest.mark.parametrize(
    ("forgot", "budget", "passed", "sentence"),
    [
        (FORGOT, 0.15, True, "recall@1 is 0.700 with the adapter and 0.800 without. The cost is 0.100 of a budget of 0.15."),
        (FORGOT, 0.05, False, "The cost is 0.100, more than the budget of 0.05."),
        (replace(FORGOT, after=0.9, cost=-0.1), 0.05, True, "Nothing was forgotten."),
        (replace(FORGOT, after=math.nan, cost=math.nan), 9.0, False, "The cost is not a finite number."),
    ],
)
def test_verdict_gives_its_reason(forgot: Forgot, budget: float, passed: bool, sentence: str) -> None:
    passes, reason = verdict(forgot, budget)

    assert passes is passed
    assert reason.startswith("Passes: " if passed else "Fails: ")
    assert reason.endswith(sentence)


def test_gate_passes_only_if_both_pass() -> None:
    beaten = Verdict(passed=True, reasons=("Passes: it is better than all.",))

    assert with_forgetting(beaten, FORGOT, 0.2).passed
    assert not with_forgetting(beaten, FORGOT, 0.05).passed
    assert not with_forgetting(Verdict(passed=False, reasons=("Fails: x.",)), FORGOT, 0.2).passed
    assert with_forgetting(None, FORGOT, 0.2).passed
    assert with_forgetting(None, FORGOT, 0.2).reasons[0].startswith("The recipe has no gate")
    assert len(with_forgetting(beaten, FORGOT, 0.2).reasons) == 2


@pytest.mark.parametrize("forgot", [FORGOT, Forgot("bits per character", 1.0, math.nan, math.nan, "bits", 100)])
def test_json_and_report_contain_the_forgetting(forgot: Forgot) -> None:
    evaluation = Evaluation("x", "classification", 1, forgetting=forgot.to_dict(0.05))

    plain = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    page = render(Evaluation.from_dict(plain))

    assert plain["forgetting"]["passed"] is False
    assert "What was forgotten" in page
    assert "over the budget" in page
    assert "What was forgotten" not in render(replace(evaluation, forgetting=None))


@pytest.mark.parametrize("kind", ["encoder", "causal"])
def test_another_adapter_on_the_same_base_reads_the_text_once(kind: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(kind)
    fingerprint, texts = pull_base(str(folder)).fingerprint, paragraphs(20)
    first, second = specialist(folder), specialist(folder)
    bend(second, 3.0)
    steps: list[str] = []

    def measure(model: Specialist) -> Forgot:
        steps.clear()
        return measure_forgetting(model, texts, base=fingerprint, progress=lambda what, _: steps.append(what))

    plain = measure_forgetting(second, texts)
    one = measure(first)
    assert {*steps} == {"reading general text without the adapter", "reading general text with the adapter"}
    other = measure(second)
    assert {*steps} == {"reading general text with the adapter"}
    assert (one.before, other) == (plain.before, plain)


def test_each_text_and_each_longest_text_has_its_own_measurement(encoder: Path) -> None:
    fingerprint, model = pull_base(str(encoder)).fingerprint, specialist(encoder)

    for texts in (paragraphs(20), paragraphs(20, seed=1)):
        measure_forgetting(model, texts, base=fingerprint)
    model.max_length = 8
    short = measure_forgetting(model, paragraphs(20), base=fingerprint)

    kept = json.loads((cache_home() / FILE).read_text())
    assert len(kept) == 3
    assert short.before == measure_forgetting(model, paragraphs(20)).before
