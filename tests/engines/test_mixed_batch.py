"""Rows of several specialists in one pass through their base answer as each specialist alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import topic_recipe, topic_rows, write_csv

from vertical_sdk import VerticalModel, train
from vertical_sdk.adapters.folder import Adapter, read_adapter
from vertical_sdk.bases.base import layer_width, pull_base
from vertical_sdk.engines.torch import TorchEngine
from vertical_sdk.errors import AdapterError
from vertical_sdk.kernels.encoder import Encoder
from vertical_sdk.kernels.rates import measure_rates
from vertical_sdk.types import Example

ROWS = [Example(id=str(n), text=text) for n, (text, _) in enumerate(topic_rows(20))]
SHORT = {"train__max_steps": 4, "train__learning_rate": 0.05, "evaluate__gate": False}


def train_adapter(
    folder: Path,
    base: Path,
    name: str,
    words: dict[str, str] | None = None,
    reads: dict[str, int] | None = None,
    **settings: Any,
) -> Adapter:
    """Train a specialist of topics; `words` replaces labels, `reads` is how long its texts are."""
    (folder / name).mkdir()
    rows = [(text, (words or {}).get(label, label)) for text, label in topic_rows(60)]
    data = {"source": str(write_csv(folder / f"{name}.csv", rows)), "columns": {"text": "text", "label": "label"}}
    length = reads or {"max_length": 300}
    own = {"data": {**data, **length, "decontaminate": None}, "ensemble": [], **settings}
    return read_adapter(
        train(topic_recipe(folder / name, base, name=name, **SHORT, **own), out=folder / name / "run").path / "adapter"
    )


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> TorchEngine:
    """Specialists on an encoder; they differ in rank, layers, pooling and windows, and one is DoRA, which PEFT computes."""
    folder = tmp_path_factory.mktemp("encoders")
    engine = TorchEngine(pull_base(str(encoder)))
    for name, settings in {
        "plain": {},
        "narrow": {"adapter": {"r": 2, "target_modules": ["query"]}},
        "first": {"head": {"pooling": "cls"}},
        "stable": {"adapter": {"r": 6, "use_rslora": True}},
        "dora": {"adapter": {"r": 4, "use_dora": True}},
        "wide": {"adapter": {"r": 9, "rank_pattern": {"value": 3}}},
        "seed": {"train__seed": 5},
        "windows": {"reads": {"max_length": 12, "windows": 9}},
    }.items():
        engine.load(train_adapter(folder, encoder, name, **settings))
    return engine


@pytest.fixture(scope="module")
def choosing(tmp_path_factory: pytest.TempPathFactory, causal: Path) -> TorchEngine:
    """Specialists on a causal base that compare words: trees of several sizes, words of one token, and one with a head."""
    folder = tmp_path_factory.mktemp("causal")
    engine = TorchEngine(pull_base(str(causal)))
    longer = {"skin": "a very long word", "lung": "a very short word", "heart": "a very odd word"}
    engine.load(train_adapter(folder, causal, "words"))
    engine.load(train_adapter(folder, causal, "tree", longer))
    engine.load(train_adapter(folder, causal, "many", {label: f"{word} of it" for label, word in longer.items()}))
    numbers = [(text, str(len(label))) for text, label in topic_rows(60)]
    data = {
        "source": str(write_csv(folder / "n.csv", numbers)),
        "columns": {"text": "text", "label": "label"},
        "max_length": 300,
    }
    (folder / "length").mkdir()
    recipe = topic_recipe(
        folder / "length", causal, name="length", task="regression", data=data | {"decontaminate": None}, **SHORT
    )
    engine.load(read_adapter(train(recipe, out=folder / "run").path / "adapter"))
    return engine


@pytest.mark.parametrize("fixture", ["reading", "choosing"])
@pytest.mark.parametrize("batch_size", [None, 1, 7])
def test_mixed_rows_are_answered_as_alone(request: pytest.FixtureRequest, fixture: str, batch_size: int | None) -> None:
    engine: TorchEngine = request.getfixturevalue(fixture)
    rng = np.random.default_rng(0)
    names = [*engine.adapters, *rng.choice(engine.adapters, len(ROWS) - len(engine.adapters))]

    mixed = engine.outputs(ROWS, names, batch_size=batch_size)

    for row, name, raw in zip(ROWS, names, mixed, strict=True):
        alone = engine.outputs([row], [name])[0]
        np.testing.assert_allclose(raw.values, alone.values, atol=1e-5, rtol=1e-5)
        assert raw.values.argmax() == alone.values.argmax()


def test_one_pass_through_the_base_serves_all_adapters(reading: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = [name for name in reading.adapters if name != "dora"]
    reading.outputs(ROWS[: len(plain)], plain)
    passes: list[int] = []
    forward = Encoder.__call__
    monkeypatch.setattr(Encoder, "__call__", lambda *given: passes.append(1) or forward(*given))

    reading.outputs(ROWS[: len(plain)], plain)

    assert len(passes) == 1


def test_progress_ends_with_all_rows(reading: TorchEngine) -> None:
    shares: list[float] = []

    reading.outputs(ROWS, [reading.adapters[n % 7] for n in range(len(ROWS))], progress=lambda _, share: shares.append(share))

    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert shares[0] > 0


def test_a_base_that_joins_the_rows_of_a_batch_runs_each_adapter_alone(
    reading: TorchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a layer of experts does: it reads the tokens of all rows in one list."""
    from vertical_sdk.families import low_rank

    names = ["plain", "seed", "wide", "plain"]
    before = reading.outputs(ROWS[:4], names)
    forward = low_rank._Mixture.add_to
    monkeypatch.setattr(
        low_rank._Mixture, "add_to", lambda self, out, x, name: forward(self, out.flatten(0, 1), x.flatten(0, 1), name)
    )

    after = reading.outputs(ROWS[:4], names)

    for one, other in zip(after, before, strict=True):
        np.testing.assert_allclose(one.values, other.values, atol=1e-5)


ROUNDING = 0.02
"""bfloat16 keeps 8 bits: an error of .4% a product."""


def read_in(dtype: str, reading: TorchEngine) -> TorchEngine:
    """An engine with the same specialists that reads rows in another type of number."""
    engine = TorchEngine(reading.base, device="cpu", dtype=dtype)
    for name in ("plain", "seed", "dora"):
        engine.load(reading.adapter(name))
    return engine


@pytest.mark.parametrize("names", [["plain"], ["seed", "plain"], ["dora"]], ids=["alone", "mixed", "computed by PEFT"])
def test_bfloat16_differs_from_float32_by_its_rounding(reading: TorchEngine, names: list[str]) -> None:
    owners = [names[n % len(names)] for n in range(len(ROWS))]

    exact, rounded = (
        np.array([raw.values for raw in engine.outputs(ROWS, owners)]) for engine in (reading, read_in("bfloat16", reading))
    )

    assert 1e-6 < np.abs(exact - rounded).max() / np.abs(exact).max() < ROUNDING
    assert rounded.dtype == np.float32


def test_mixed_rows_in_bfloat16_are_answered_as_alone(reading: TorchEngine) -> None:
    engine = read_in("bfloat16", reading)
    owners = [engine.adapters[n % 3] for n in range(len(ROWS))]

    mixed = engine.outputs(ROWS, owners)

    for row, owner, raw in zip(ROWS, owners, mixed, strict=True):
        alone = engine.outputs([row], [owner])[0].values
        np.testing.assert_allclose(raw.values, alone, atol=ROUNDING * np.abs(alone).max())
    assert {weight.dtype for weight in engine.specialist("plain").backbone.parameters()} == {torch.float32}


def test_auto_is_the_type_that_was_measured_as_faster(reading: TorchEngine) -> None:
    faster = "bfloat16" if measure_rates(layer_width(reading.base)).prefers_bf16 else "float32"
    values = [
        np.array([raw.values for raw in read_in(dtype, reading).outputs(ROWS, ["plain"] * len(ROWS))])
        for dtype in ("auto", faster)
    ]
    np.testing.assert_array_equal(*values)


def test_a_model_reads_in_the_type_that_it_is_given(reading: TorchEngine) -> None:
    plain, text = reading.adapter("plain"), ROWS[0].text
    exact, rounded = (
        VerticalModel.from_adapter(plain, dtype=dtype).predict_proba([text])[0] for dtype in ("float32", "bfloat16")
    )
    assert 0 < np.abs(exact - rounded).max() < ROUNDING

    with pytest.raises(AdapterError, match="dtype = 'half' is wrong: it should be one of float32, bfloat16, auto"):
        VerticalModel.from_adapter(plain, dtype="half")
