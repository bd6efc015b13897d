from __future__ import annotations

from pathlib import Path

import pytest
from conftest import topic_recipe

pytest.importorskip("optuna")

from vertical_sdk import load_recipe, tune

QUICK = {"train__num_train_epochs": 1, "train__eval_steps": 0.5}


def test_first(encoder: Path, tmp_path: Path) -> None:
    path = topic_recipe(tmp_path, encoder, **QUICK, tune={"train.learning_rate": {"low": 1e-4, "high": 3e-2, "log": True}, "adapter.r": [2, 4]})
    tuned = tune(path, budget=100, trials=4)
    print(tuned.text, tuned.trials, tuned.repeats)
    print(tuned.recipe and tuned.recipe.read_text())
    print(load_recipe(path).tune)
