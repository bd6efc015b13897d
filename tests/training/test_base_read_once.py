"""How often the frozen base reads each row of a run: once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from conftest import topic_recipe
from torch import Tensor

from vertical_sdk import evaluate, train
from vertical_sdk.data.texts import split_paragraph
from vertical_sdk.evaluation.forgetting import OWN
from vertical_sdk.families.encoder import EncoderSpecialist
from vertical_sdk.families.shared_base import _BASE_ONLY
from vertical_sdk.training import Run

SETTINGS = {"ensemble": [{"use": "probe"}], "evaluate__baselines": ["base", "probe"], "evaluate__forgetting": {"budget": 1.0}}


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[int, ...]]:
    """How often the base without an adapter has read each row, given by its tokens."""
    counts: Counter[tuple[int, ...]] = Counter()
    features = EncoderSpecialist.features

    def count(self: EncoderSpecialist, batch: dict[str, Tensor]) -> Tensor:
        if _BASE_ONLY.get():
            for ids, mask in zip(batch["input_ids"].tolist(), batch["attention_mask"].tolist(), strict=True):
                counts[tuple(ids[: sum(mask)])] += 1
        return features(self, batch)

    monkeypatch.setattr(EncoderSpecialist, "features", count)
    return counts


def read_tokens(run: Run, texts: list[str]) -> set[tuple[int, ...]]:
    from vertical_sdk.inference import VerticalModel

    specialist = VerticalModel.from_pretrained(run.path).specialist()
    return {specialist.encode(specialist.self_test_row(text), learn=False).ids for text in texts}


def test_base_reads_each_row_of_a_run_once(encoder: Path, tmp_path: Path, passes: Counter[tuple[int, ...]]) -> None:
    run = train(topic_recipe(tmp_path, encoder, **SETTINGS), out=tmp_path / "run")
    assert run.memory is not None
    prepared = run.memory.prepared
    self_tests = dict(passes)
    tokens = read_tokens(run, [row.text for row in (*prepared.train, *prepared.validation)])
    general = [half for text in OWN.read_text(encoding="utf-8").strip().split("\n\n") for half in split_paragraph(text) or ()]
    general_tokens = read_tokens(run, general)
    assert {ids: count for ids, count in self_tests.items() if ids in tokens} == dict.fromkeys(tokens, 1)

    passes.clear()
    evaluate(run.path, memory=run.memory, progress=lambda *_: None)

    assert not [ids for ids in passes if ids in tokens]
    test = read_tokens(run, [row.text for row in prepared.test]) - tokens
    assert {passes[ids] for ids in test} == {1}
    assert sum(passes[ids] for ids in general_tokens) == len(general)

    passes.clear()
    evaluate(run.path, memory=run.memory, progress=lambda *_: None)

    assert sum(passes[ids] for ids in general_tokens) == 0


def test_evaluation_is_the_same_with_and_without_the_memory_of_the_training(encoder: Path, tmp_path: Path) -> None:
    run = train(topic_recipe(tmp_path, encoder, **SETTINGS), out=tmp_path / "run")

    first = evaluate(run.path, memory=run.memory).to_dict()
    again = evaluate(run.path).to_dict()

    for part in ("rows", "forgetting", "gate", "per_label", "right", "tests"):
        assert first[part] == again[part], part


def test_memory_of_another_recipe_is_not_used(encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    run = train(topic_recipe(tmp_path, encoder), out=tmp_path / "run")
    other = train(topic_recipe(tmp_path / "other", encoder, data__split={"use": "stratified", "test": 0.4}), out=tmp_path / "o")
    assert other.memory is not None
    assert run.memory is not None
    assert len(other.memory.prepared.test) > len(run.memory.prepared.test)

    assert evaluate(run.path, memory=other.memory).rows == len(run.memory.prepared.test)
