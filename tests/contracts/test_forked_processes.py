"""A process that is forked from one with a loaded model answers as its parent does, or refuses; it never waits for ever."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import topic_recipe

from vertical_sdk import VerticalModel, train
from vertical_sdk.engines import torch as engine
from vertical_sdk.errors import AdapterError

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]
TEXTS = ["red itch on skin", "cough and lung wheeze", "heart beat fast " * 12] * 8


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> VerticalModel:
    """A specialist with two members."""
    folder = tmp_path_factory.mktemp("run")
    recipe = topic_recipe(folder, encoder, ensemble=["probe", "tfidf"], train__max_steps=3)
    return VerticalModel.from_pretrained(train(recipe, out=folder / "run").path)


def run_in_fork(call: Callable[[], Any], seconds: int = 60) -> Any:
    """Fork, call a function in the child, and return what it returned there."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(seconds)  # a child that waits for ever ends here, without an answer
        try:
            os.write(writing, pickle.dumps(call()))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return pickle.loads(answer) if answer else "no answer"


def test_a_forked_process_answers_as_its_parent(model: VerticalModel) -> None:
    torch.set_num_threads(2)
    before = [answer.probabilities for answer in model.predict(TEXTS)]

    forked = run_in_fork(lambda: [answer.probabilities for answer in model.predict(TEXTS)])

    assert forked == [pytest.approx(probabilities, abs=1e-6) for probabilities in before]
    assert torch.get_num_threads() == 2


def test_a_process_forked_while_another_thread_loads_can_load(model: VerticalModel) -> None:
    folder = model.adapter.folder
    held, done = threading.Event(), threading.Event()

    def load_slowly() -> None:
        with engine._LOADING:
            held.set()
            done.wait(60)

    thread = threading.Thread(target=load_slowly)
    thread.start()
    held.wait(60)
    try:
        label = run_in_fork(lambda: VerticalModel.from_pretrained(folder).predict(TEXTS[:1])[0].label)
    finally:
        done.set()
        thread.join()

    assert label == model.predict(TEXTS[:1])[0].label


def test_a_model_on_a_gpu_is_refused_in_a_forked_process(model: VerticalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask() -> str:
        monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda _: True))
        try:
            model.predict(TEXTS[:1])
        except AdapterError as error:
            return str(error)
        return "answered"

    assert "is on a GPU, which a forked process cannot use" in run_in_fork(ask)
