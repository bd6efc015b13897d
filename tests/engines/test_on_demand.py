"""Adapters that are loaded when they are named: the budget, pins, failures and threads."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import topic_recipe

from vertical_sdk import VerticalModel, train
from vertical_sdk.adapters.folder import Adapter, read_adapter
from vertical_sdk.bases.base import pull_base
from vertical_sdk.engines import OnDemandEngine
from vertical_sdk.engines.torch import TorchEngine
from vertical_sdk.errors import AdapterError, CorruptAdapter
from vertical_sdk.types import Example

ROWS = [Example(id=text, text=text) for text in ("red itch", "cough and lung wheeze", "pulse", "skin")]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> dict[str, Path]:
    """Four adapters of the same size that answer differently."""
    found = {}
    for seed, name in enumerate("abcd"):
        folder = tmp_path_factory.mktemp(name)
        settings = {"train__max_steps": 3, "train__learning_rate": 0.05, "train__seed": seed, "evaluate__gate": False}
        recipe = topic_recipe(folder, encoder, ensemble=[], **settings)
        found[name] = train(recipe, out=folder / "run").path / "adapter"
    return found


@pytest.fixture(scope="module")
def alone(folders: dict[str, Path], encoder: Path) -> dict[str, Any]:
    """What each adapter answers on an engine of its own."""
    answers = {}
    for name, folder in folders.items():
        engine = TorchEngine(pull_base(str(encoder)))
        engine.load(read_adapter(folder), name)
        answers[name] = np.stack([raw.values for raw in engine.outputs(ROWS, [name] * 4)])
    return answers


class Loads(TorchEngine):
    """Counts what is loaded."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.names: list[str] = []

    def load(self, adapter: Adapter, name: str = "") -> str:
        self.names.append(name)
        return super().load(adapter, name)


def weigh(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def create_engine(folders: dict[str, Path], encoder: Path, resident: float) -> tuple[OnDemandEngine, Loads]:
    """An engine with room for so many adapters."""
    inner = Loads(pull_base(str(encoder)))
    memory = int(resident * max(map(weigh, folders.values())))
    return OnDemandEngine(inner, lambda name: read_adapter(folders[name]), memory=memory), inner


def test_the_least_recently_used_adapter_is_unloaded(folders: dict[str, Path], alone: Any, encoder: Path) -> None:
    engine, inner = create_engine(folders, encoder, 2.5)

    for name in "abacab":
        raw = engine.outputs(ROWS, [name] * 4)
        np.testing.assert_array_equal(np.stack([one.values for one in raw]), alone[name])

    assert inner.names == ["a", "b", "c", "b"]
    assert set(engine.adapters) == {"a", "b"}
    assert engine._users == {}


def test_a_batch_for_more_adapters_than_fit_runs_in_parts(folders: dict[str, Path], alone: Any, encoder: Path) -> None:
    engine, _ = create_engine(folders, encoder, 2.5)

    raw = engine.outputs(ROWS, ["d", "a", "c", "b"])

    for n, name in enumerate("dacb"):
        np.testing.assert_allclose(raw[n].values, alone[name][n], atol=1e-5)
    assert len(engine.adapters) == 2
    assert engine.outputs([], []) == []


def test_a_card_is_read_without_loading_the_weights(folders: dict[str, Path], encoder: Path) -> None:
    engine, inner = create_engine(folders, encoder, 1)

    assert engine.adapter("c").card.name == "topics"

    assert inner.names == []


def test_a_model_answers_with_all_adapters_that_are_found(folders: dict[str, Path], encoder: Path) -> None:
    engine, _ = create_engine(folders, encoder, 1.5)
    model = VerticalModel(engine, "a")
    texts = [row.text for row in ROWS]

    mixed = model.predict(texts, adapters=["a", "b", "c", "d"])

    for n, name in enumerate("abcd"):
        own = VerticalModel.from_pretrained(folders[name]).predict(texts)[n]
        assert (mixed[n].label, mixed[n].probabilities) == (own.label, pytest.approx(own.probabilities, abs=1e-5))
    assert model.predict_proba(texts).shape == (4, 3)


def test_a_pinned_adapter_stays(folders: dict[str, Path], encoder: Path) -> None:
    engine, inner = create_engine(folders, encoder, 2.5)

    engine.pin("a")
    for name in "bcdb":
        engine.outputs(ROWS, [name] * 4)

    assert inner.names == ["a", "b", "c", "d", "b"]
    assert set(engine.adapters) == {"a", "b"}
    engine.unpin("a")
    engine.outputs(ROWS[:2], ["c", "d"])
    assert set(engine.adapters) == {"c", "d"}


def test_an_adapter_that_cannot_fit_is_refused(folders: dict[str, Path], alone: Any, encoder: Path) -> None:
    small, _ = create_engine(folders, encoder, 0.5)
    with pytest.raises(AdapterError, match=r"c needs [\d,]+ bytes, and [\d,]+ of [\d,]+ are left beside pinned adapters"):
        small.outputs(ROWS, ["c"] * 4)

    engine, _ = create_engine(folders, encoder, 1.5)
    engine.pin("b")
    with pytest.raises(AdapterError, match="unpin others"):
        engine.outputs(ROWS, ["b", "c", "b", "b"])
    np.testing.assert_allclose(engine.outputs(ROWS[:1], ["b"])[0].values, alone["b"][0], atol=1e-5)


def test_an_adapter_that_fails_to_load_leaves_the_others(folders: dict[str, Path], tmp_path: Path, encoder: Path) -> None:
    shutil.copytree(folders["b"], tmp_path / "broken")
    path = tmp_path / "broken" / "head.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\7")
    engine, _ = create_engine(folders | {"broken": tmp_path / "broken"}, encoder, 2.5)
    engine.outputs(ROWS, ["a"] * 4)

    for _ in range(2):
        with pytest.raises(CorruptAdapter, match="changed or cut"):
            engine.outputs(ROWS, ["broken"] * 4)

    assert engine.adapters == ("a",)
    assert engine._sizes.keys() == {"a"}
    with pytest.raises(KeyError):
        engine.outputs(ROWS, ["unknown"] * 4)


def test_files_that_changed_while_an_adapter_was_not_resident_are_found(
    folders: dict[str, Path], tmp_path: Path, encoder: Path
) -> None:
    shutil.copytree(folders["b"], tmp_path / "b")
    engine, _ = create_engine(folders | {"b": tmp_path / "b"}, encoder, 1.5)
    engine.outputs(ROWS, ["b"] * 4)
    engine.outputs(ROWS, ["a"] * 4)
    shutil.copy(folders["c"] / "adapter_model.safetensors", tmp_path / "b")

    with pytest.raises(CorruptAdapter, match="changed or cut"):
        engine.outputs(ROWS, ["b"] * 4)


def test_an_adapter_is_found_again_after_it_was_forgotten(folders: dict[str, Path], alone: Any, encoder: Path) -> None:
    aliases = {"production": "a"}
    inner = TorchEngine(pull_base(str(encoder)))
    engine = OnDemandEngine(inner, lambda name: read_adapter(folders[aliases[name]]), memory=10**9)
    engine.outputs(ROWS, ["production"] * 4)

    aliases["production"] = "b"
    engine.forget("production")

    again = np.stack([raw.values for raw in engine.outputs(ROWS, ["production"] * 4)])
    np.testing.assert_array_equal(again, alone["b"])


def test_threads_that_name_the_same_adapter_load_it_once(folders: dict[str, Path], alone: Any, encoder: Path) -> None:
    engine, inner = create_engine(folders, encoder, 4)
    start = threading.Barrier(8)

    def call(_: int) -> Any:
        start.wait()
        return engine.outputs(ROWS, ["a"] * 4)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(call, range(8)))

    assert inner.names == ["a"]
    for raw in results:
        np.testing.assert_array_equal(np.stack([one.values for one in raw]), alone["a"])


def test_an_adapter_in_use_stays_until_its_call_ends(folders: dict[str, Path], encoder: Path) -> None:
    """A call for another adapter, for which there is no room, waits."""
    engine, inner = create_engine(folders, encoder, 1.5)
    entered, leave, done = threading.Event(), threading.Event(), threading.Event()

    def wait(_: str, __: float) -> None:
        entered.set()
        assert leave.wait(60)

    def other() -> None:
        engine.outputs(ROWS, ["b"] * 4)
        done.set()

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(engine.outputs, ROWS, ["a"] * 4, progress=wait)
        assert entered.wait(60)
        second = pool.submit(other)
        assert not done.wait(0.3)
        assert engine.adapters == ("a",)
        leave.set()
        first.result(60)
        second.result(60)

    assert engine.adapters == ("b",)
    assert inner.names == ["a", "b"]


def test_many_threads_within_a_small_budget_answer_as_alone(folders: dict[str, Path], alone: Any, encoder: Path) -> None:
    engine, _ = create_engine(folders, encoder, 2.5)
    limit = engine._memory
    rng = np.random.default_rng(0)
    asked = [list(rng.choice(list("abcd"), 4)) for _ in range(40)]
    most = []

    def call(names: list[str]) -> Any:
        raw = engine.outputs(ROWS, names)
        most.append(sum(engine._sizes.copy().values()))
        return raw

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(call, asked))

    for names, raw in zip(asked, results, strict=True):
        for n, name in enumerate(names):
            np.testing.assert_allclose(raw[n].values, alone[name][n], atol=1e-5)
    assert max(most) <= limit
    assert engine._users == {}
