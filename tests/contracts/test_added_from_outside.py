"""A package adds a task or a base family with one line; training, evaluation and prediction then know it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import save_encoder, topic_recipe, write_csv

from vertical_sdk import VerticalModel, evaluate, train
from vertical_sdk.bases.base import pull_base
from vertical_sdk.errors import RecipeError, UnknownName
from vertical_sdk.recipe import load_recipe
from vertical_sdk.tables import FAMILIES, TASKS
from vertical_sdk.tasks import get_task

TASK = """
from dataclasses import dataclass

from vertical_sdk.tasks.regression import Regression


@dataclass(frozen=True, kw_only=True)
class Count(Regression):
    '''A number that is never below 0.'''

    def predictions(self, outputs):
        return super().predictions(outputs).clip(0)


COUNT = Count(name="count", default_loss="squared_error", default_metrics=("mae",), like=("regression",))
"""
FAMILY = """
import torch.nn.functional as F

from vertical_sdk.bases.config import architectures
from vertical_sdk.families.encoder import EncoderSpecialist


def is_max_pool(config):
    return architectures(config) == ("BertForMaxPool",)


class MaxPool(EncoderSpecialist):
    '''An encoder that takes the largest value over the tokens.'''

    bases = ("max_pool",)

    def features(self, batch):
        hidden = self.backbone(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
        return F.normalize(hidden.float().amax(1), dim=-1)
"""


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An importable module `outside`, and the two lines that add what it holds."""
    folder = tmp_path / "packages"
    folder.mkdir()
    (folder / "outside_task.py").write_text(TASK)
    (folder / "outside_family.py").write_text(FAMILY)
    monkeypatch.syspath_prepend(folder)
    TASKS["count"] = "outside_task:COUNT"
    FAMILIES["max_pool"] = ("outside_family:MaxPool", "outside_family:is_max_pool")
    yield
    del TASKS["count"], FAMILIES["max_pool"]


def test_a_task_from_outside_trains_evaluates_and_predicts(outside: None, encoder: Path, tmp_path: Path) -> None:
    words = ("rash", "cough", "heart", "pulse")
    rows = [(" ".join(words[: n % 4 + 1]) + f" {n}", str(n % 4)) for n in range(60)]
    data = write_csv(tmp_path / "counts.csv", rows, ("text", "count"))
    recipe = topic_recipe(
        tmp_path,
        encoder,
        task="count",
        data__source=str(data),
        data__columns={"text": "text", "label": "count"},
        data__limits={"unknown": 0.5},  # the tiny base knows the words, not the numbers
        evaluate={"baselines": ["tfidf", "majority"], "resamples": 100},
        train__max_steps=4,
    )

    run = train(recipe, out=tmp_path / "run")
    evaluation = evaluate(run.path)
    predictions = VerticalModel.from_pretrained(run.path).predict(["rash cough"])

    assert run.card.task == "count"
    assert evaluation.task == "count"
    assert evaluation.gate is not None
    assert {"tfidf", "majority"} == {
        name for reason in evaluation.gate.reasons for name in ("tfidf", "majority") if name in reason
    }
    assert set(evaluation.systems["adapter"].metrics) == {"mae"}
    assert isinstance(predictions[0].label, float)
    assert predictions[0].label >= 0


def test_a_family_from_outside_is_recognized_and_trained(outside: None, tmp_path: Path) -> None:
    base = save_encoder(tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "architectures": ["BertForMaxPool"]}))

    run = train(topic_recipe(tmp_path, base, train__max_steps=4), out=tmp_path / "run")

    assert pull_base(str(base)).family == "max_pool"
    assert run.card.family == "max_pool"
    model = VerticalModel.from_pretrained(run.path, name="one")
    model.add(run.path, name="two")
    texts = ["rash skin itch", "cough lung"]
    alone = [model.predict([text])[0].probabilities for text in texts]
    mixed = [p.probabilities for p in model.predict(texts, adapters=["one", "two"])]
    assert mixed[0] == pytest.approx(alone[0], abs=1e-5)
    assert mixed[1] == pytest.approx(alone[1], abs=1e-5)


def test_a_task_that_no_line_adds_is_refused_with_the_known_ones(encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="task = 'count' is wrong: it should be one of 'classification'"):
        load_recipe(topic_recipe(tmp_path, encoder, task="count"))
    with pytest.raises(UnknownName, match=r"no task is called 'regresion'\. Did you mean 'regression'"):
        get_task("regresion")


def test_a_name_is_given_only_once() -> None:
    with pytest.raises(ValueError, match="the task 'regression' is defined twice"):
        TASKS["regression"] = "elsewhere:REGRESSION"
