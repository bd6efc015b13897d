from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import topic_recipe

from vertical_sdk import VerticalModel, evaluate, train

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.mark.parametrize("family", ["encoder", "causal"])
def test_the_same_recipe_trains_evaluates_and_answers_on_a_gpu(
    family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    recipe = topic_recipe(tmp_path, request.getfixturevalue(family), train__bf16=torch.cuda.is_bf16_supported())

    run = train(recipe, out=tmp_path / "run")

    assert evaluate(run.path).systems["adapter"].metrics
    model = VerticalModel.from_pretrained(run.path)
    assert next(model.specialist().backbone.parameters()).is_cuda
    assert model.predict(["red itch rash"])[0].label in {"skin", "lung", "heart"}
