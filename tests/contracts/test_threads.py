"""Calls from many threads, for several adapters at once, give bit for bit what the same calls give alone."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import topic_recipe, topic_rows, write_csv

from vertical_sdk import VerticalModel, train
from vertical_sdk.recipe import Recipe
from vertical_sdk.types import Example

Call = Callable[[], Any]
THREADS = 8
TEXTS = ["red itch on skin", "cough and lung wheeze", "heart beat fast " * 30, "pulse slow", "fever " * 60]
SHORT = {"train__max_steps": 8, "train__learning_rate": 0.05}


def train_forecaster(folder: Path, base: Path) -> Path:
    """A forecaster that runs the first layer of the base only."""
    folder.mkdir()
    hours = np.arange(240)
    values = 50 + 10 * np.sin(hours / 24 * 2 * np.pi) + np.random.default_rng(0).normal(0, 0.5, 240)
    lines = [f"{datetime(2024, 1, 1) + timedelta(hours=n)},{value:.2f}" for n, value in enumerate(values)]
    (folder / "rows.csv").write_text("\n".join(["time,north", *lines]) + "\n")
    recipe = {
        "name": "speeds",
        "task": "forecasting",
        "base": str(base),
        "data": {
            "source": str(folder / "rows.csv"),
            "modality": "series",
            "clean": [],
            "decontaminate": None,
            "reader": {"use": "series", "history": 6, "horizon": 3, "block": 3600},
            "split": {"use": "time", "test": 0.2, "validation": 0.2, "gap": 4},
        },
        "series": {"tokens": "channels", "quantiles": [], "layers": 1},
        "loss": "quantile",
        "ensemble": ["persistence", "linear"],
        "train": {"max_steps": 6, "learning_rate": 0.05, "per_device_train_batch_size": 8, "bf16": False},
        "evaluate": {"baselines": ["persistence"]},
    }
    return train(Recipe.model_validate(recipe), out=folder / "run").path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, encoder: Path, causal: Path) -> dict[str, Path]:
    """Five runs: three on an encoder, two on a causal base."""
    folder = tmp_path_factory.mktemp("runs")

    def trained(name: str, base: Path, **settings: Any) -> Path:
        (folder / name).mkdir()
        return train(topic_recipe(folder / name, base, name=name, **SHORT, **settings), out=folder / name / "run").path

    parity = [(text, "even" if n % 2 else "odd") for n, (text, _) in enumerate(topic_rows(60))]
    parity_data = {"source": str(write_csv(folder / "parity.csv", parity)), "decontaminate": None, "max_length": 16}
    answers = {
        "source": str(write_csv(folder / "answers.csv", topic_rows(60), ("prompt", "completion"))),
        "decontaminate": None,
    }
    return {
        "topics": trained("topics", encoder, ensemble=["probe", "tfidf"]),
        "parity": trained("parity", encoder, data={**parity_data, "columns": {"text": "text", "label": "label"}}),
        "speeds": train_forecaster(folder / "speeds", encoder),
        "words": trained("words", causal, data__max_length=200),
        "writer": trained("writer", causal, task="generation", data=answers, evaluate={"baselines": ["base"]}),
    }


@pytest.fixture
def models(runs: dict[str, Path]) -> tuple[VerticalModel, VerticalModel]:
    """An encoder with three adapters, a causal base with two."""
    reading = VerticalModel.from_pretrained(runs["topics"], name="topics")
    reading.add(runs["parity"], name="parity")
    reading.add(runs["speeds"], name="speeds")
    writing = VerticalModel.from_pretrained(runs["words"], name="words")
    writing.add(runs["writer"], name="writer")
    return reading, writing


def calls_on(reading: VerticalModel, writing: VerticalModel) -> list[Call]:
    """Calls of every kind, for every adapter."""
    rng = np.random.default_rng(1)
    times = pd.date_range("2024-02-01", periods=12, freq="h")
    histories = [pd.DataFrame({"north": 50 + rng.normal(0, 8, 12)}, index=times) for _ in range(3)]
    calls: list[Call] = []
    for size in (1, 2, 5):
        texts = TEXTS[:size]
        calls += [
            lambda texts=texts: reading.predict(texts, adapters=["topics"] * len(texts)),
            lambda texts=texts: reading.predict(texts, adapters=["parity"] * len(texts)),
            lambda texts=texts: reading.predict(
                texts, adapters=["topics", "parity", "topics", "parity", "parity"][: len(texts)]
            ),
            lambda texts=texts: writing.predict(texts, adapters=["words"] * len(texts)),
            lambda texts=texts: writing.generate([t[:60] for t in texts], adapters="writer", max_new_tokens=6),
        ]
    rows = [Example(id=text, text=text) for text in TEXTS]
    calls += [lambda name=name: reading.outputs(rows, fused=False, name=name).tolist() for name in ("topics", "parity")]
    calls += [
        lambda history=history: reading.forecast(history, adapter="speeds").mean.to_numpy().tolist() for history in histories
    ]
    return calls


def test_eight_threads_and_five_adapters_answer_as_alone(models: tuple[VerticalModel, VerticalModel]) -> None:
    calls = calls_on(*models)
    alone = [call() for call in calls]
    order = [number for number in range(len(calls)) for _ in range(12)]
    random.Random(0).shuffle(order)
    start = threading.Barrier(THREADS)

    def work(share: int) -> list[tuple[int, Any]]:
        start.wait()
        return [(number, calls[number]()) for number in order[share::THREADS]]

    with ThreadPoolExecutor(THREADS) as pool:
        results = [item for share in pool.map(work, range(THREADS)) for item in share]

    assert len(results) == 12 * len(calls) >= 200
    for number, result in results:
        assert result == alone[number]


def test_asyncio_tasks_answer_as_alone(models: tuple[VerticalModel, VerticalModel]) -> None:
    calls = calls_on(*models)
    alone = [call() for call in calls]

    async def all_at_once() -> list[Any]:
        return await asyncio.gather(*(asyncio.to_thread(call) for call in calls * 2))

    assert asyncio.run(all_at_once()) == alone * 2


def test_adapters_can_be_loaded_and_unloaded_while_others_answer(
    models: tuple[VerticalModel, VerticalModel], runs: dict[str, Path]
) -> None:
    calls = calls_on(*models)
    alone = [call() for call in calls]
    reading, writing = models
    loading = threading.Event()

    def load() -> list[Any]:
        answers = []
        for number in range(3):
            for model, name in ((reading, "topics"), (writing, "words")):
                added = model.add(runs[name], name=f"{name}-{number}")
                answers.append(model.predict(TEXTS, adapters=[added] * len(TEXTS)))
                model.engine.unload(added)
        loading.set()
        return answers

    def work(share: int) -> list[tuple[int, Any]]:
        done = []
        while not loading.is_set():
            number = random.Random(share).choice(range(len(calls)))
            done.append((number, calls[number]()))
            share += 1
        return done

    with ThreadPoolExecutor(THREADS) as pool:
        loader = pool.submit(load)
        workers = [pool.submit(work, 100 * share) for share in range(THREADS - 1)]
        added = loader.result()
        results = [item for worker in workers for item in worker.result()]

    assert results
    for number, result in results:
        assert result == alone[number]
    shown = [[p.probabilities for p in batch] for batch in added]
    plain = [
        [p.probabilities for p in m.predict(TEXTS, adapters=[n] * 5)] for m, n in ((reading, "topics"), (writing, "words"))
    ]
    assert shown == plain * 3
    assert (reading.adapters, writing.adapters) == (("topics", "parity", "speeds"), ("words", "writer"))


def test_the_adapters_of_the_test_differ_from_their_base(models: tuple[VerticalModel, VerticalModel]) -> None:
    """Otherwise an adapter that is off by mistake would go unnoticed."""
    from vertical_sdk.families.specialist import switched_off

    reading, writing = models
    for model, name in ((reading, "topics"), (reading, "parity"), (writing, "words")):
        rows = [Example(id=text, text=text) for text in TEXTS[:2]]
        before = model.outputs(rows, fused=False, name=name)
        with switched_off(model.specialist(name)):
            assert np.abs(model.outputs(rows, fused=False, name=name) - before).max() > 1e-3
        np.testing.assert_array_equal(model.outputs(rows, fused=False, name=name), before)


def test_sixty_four_clients_of_a_web_service_are_answered_as_alone(models: tuple[VerticalModel, VerticalModel]) -> None:
    """An ordinary FastAPI endpoint: a plain function, which FastAPI runs in threads of its own."""
    import fastapi
    from fastapi.testclient import TestClient

    reading, _ = models
    app = fastapi.FastAPI()

    @app.get("/{name}")
    def predict(name: str, text: str) -> dict[str, Any]:
        return reading.predict([text], adapters=name)[0].to_dict()

    asks = [(name, text[:200]) for name in ("topics", "parity") for text in TEXTS]
    alone = {ask: reading.predict([ask[1]], adapters=ask[0])[0].to_dict() for ask in asks}
    with TestClient(app) as client, ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda ask: client.get(f"/{ask[0]}", params={"text": ask[1]}).json(), asks * 13))

    assert len(answers) == 130
    assert [ask for ask, answer in zip(asks * 13, answers, strict=True) if answer != alone[ask]] == []
