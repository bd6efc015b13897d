"""Answers without a model that writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import topic_rows, write_csv

from vertical_sdk import catalog, evaluate, train
from vertical_sdk.errors import DataError
from vertical_sdk.recipe import load_recipe
from vertical_sdk.types import Example, Message


def row(source: str, answer: str = "") -> Example:
    turns = [Message("system", "Answer shortly."), Message("user", source)]
    return Example(source, messages=(*turns, Message("assistant", answer)) if answer else tuple(turns))


def predict(name: str, known: list[Example], new: list[Example], **options: object) -> list[str]:
    fitted = catalog.baselines.get(name)(known, None, "generation", 0, None, **options)
    texts: list[str] = fitted.predict(new, None).texts
    return texts


def test_lead_is_as_many_words_as_answers_have_on_average() -> None:
    known = [row("one two three four five. Six seven.", "one two"), row("a b c d e", "a b c d")]  # 3 words on average

    assert predict("lead", known, [row("What, then? Nothing at all."), row("no"), row("")]) == ["What, then? Nothing", "no", ""]


def test_lead_is_the_first_sentence_if_that_is_nearer_to_the_answers() -> None:
    known = [row("It hurts a lot here. My father paid.", "It hurts a lot here."), row("Why? I ask.", "Why?")]

    assert predict("lead", known, [row("It stopped. I am well now."), row("no end")]) == ["It stopped.", "no end"]


def test_lead_counts_characters_of_scripts_without_spaces() -> None:
    assert predict("lead", [row("病人咳嗽发烧。", "病人咳嗽")], [row("今天早上一辆卡车")]) == ["今天早上"]


def test_nearest_answer_copies_the_answer_to_the_most_similar_text(encoder: Path) -> None:
    known = [row("pain pain", "about pain"), row("cough cough", "about a cough"), row("rash rash", "about a rash")]

    said = predict("nearest_answer", known, [row("rash rash"), row("pain pain pain")], encoder=str(encoder))

    assert said == ["about a rash", "about pain"]


@pytest.mark.parametrize("name", ["lead", "nearest_answer"])
def test_nothing_to_learn_from_is_an_error(name: str) -> None:
    with pytest.raises(DataError, match="there are no training rows"):
        predict(name, [], [row("x")])


def test_the_gate_compares_with_the_best_of_them_on_the_validation_rows(tmp_path: Path, causal: Path, encoder: Path) -> None:
    rows = [(f"{text} ({n})", f"{text.split()[0]} {label}") for n, (text, label) in enumerate(topic_rows(40))]
    recipe = {
        "name": "notes",
        "task": "generation",
        "base": str(causal),
        "data": {"source": str(write_csv(tmp_path / "rows.csv", rows)), "columns": {"text": "text", "label": "label"}},
        "adapter": {"r": 2},
        "train": {"max_steps": 2, "learning_rate": 0.01, "warmup_steps": 0, "bf16": False},
        "evaluate": {
            "metrics": ["rouge_l", {"use": "bert_score", "encoder": str(encoder)}, "copying"],
            "baselines": ["lead", {"use": "nearest_answer", "encoder": str(encoder)}],
            "resamples": 100,
        },
    }
    recipe["data"] |= {"max_length": 200, "decontaminate": None}  # type: ignore[operator]

    evaluation = evaluate(train(load_recipe(recipe), out=tmp_path / "run").path)

    scores = evaluation.validation
    assert set(scores) == {"lead", "nearest_answer"}
    assert evaluation.gate is not None
    assert f"Compared with {max(scores, key=scores.__getitem__)}, the best system" in evaluation.gate.reasons[0]
    assert {"rouge_l", "bert_score", "copying"} <= set(evaluation.systems["lead"].metrics)
