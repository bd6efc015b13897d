"""What every engine must do. To hold another engine to it, add its name to ENGINE_NAMES."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import topic_recipe, topic_rows, write_csv

from vertical_sdk import VerticalModel, train
from vertical_sdk.adapters.folder import Adapter, read_adapter
from vertical_sdk.bases.base import pull_base
from vertical_sdk.data.texts import format_prompt
from vertical_sdk.engines import Engine
from vertical_sdk.engines.torch import TorchEngine
from vertical_sdk.errors import AdapterError, CorruptAdapter, DataError
from vertical_sdk.families.continuation import Decoding
from vertical_sdk.inference.answer import answer
from vertical_sdk.tables import ENGINES
from vertical_sdk.types import Example, Message

ENGINE_NAMES = ("torch",)
ROWS = [Example(id=text, text=text) for text in ("red itch", "cough and lung wheeze", "pulse " * 60, "skin")]
SHORT = {"train__max_steps": 6, "train__learning_rate": 0.05}


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory, encoder: Path, causal: Path) -> dict[str, Adapter]:
    """Two classifiers on an encoder, the first with members, and a generation specialist on a causal base."""
    folder = tmp_path_factory.mktemp("runs")
    parity = [(text, "even" if n % 2 else "odd") for n, (text, _) in enumerate(topic_rows(60))]
    data = {"source": str(write_csv(folder / "parity.csv", parity)), "decontaminate": None}
    answers = {
        "source": str(write_csv(folder / "answers.csv", topic_rows(60), ("prompt", "completion"))),
        "decontaminate": None,
    }
    settings = {
        "topics": (encoder, {"ensemble": ["probe", "tfidf"]}),
        "parity": (encoder, {"data": {**data, "columns": {"text": "text", "label": "label"}}}),
        "writer": (causal, {"task": "generation", "data": answers, "evaluate": {"baselines": ["base"]}}),
    }
    found = {}
    for name, (base, more) in settings.items():
        (folder / name).mkdir()
        run = train(topic_recipe(folder / name, base, name=name, **SHORT, **more), out=folder / name / "run").path
        found[name] = read_adapter(run / "adapter")
    return found


@pytest.fixture(params=ENGINE_NAMES)
def reading(request: pytest.FixtureRequest, adapters: dict[str, Adapter], encoder: Path) -> Engine:
    """An engine with the two classifiers."""
    engine: Engine = ENGINES.load(request.param)(pull_base(str(encoder)))
    engine.load(adapters["topics"])
    engine.load(adapters["parity"], "even-or-odd")
    return engine


@pytest.fixture(params=ENGINE_NAMES)
def writing(request: pytest.FixtureRequest, adapters: dict[str, Adapter], causal: Path) -> Engine:
    """An engine with the generation specialist."""
    engine: Engine = ENGINES.load(request.param)(pull_base(str(causal)))
    engine.load(adapters["writer"])
    return engine


def test_an_adapter_is_called_by_its_card_or_by_the_given_name(reading: Engine, adapters: dict[str, Adapter]) -> None:
    assert reading.adapters == ("topics", "even-or-odd")
    assert reading.adapter("topics") is adapters["topics"]
    assert reading.base.fingerprint == adapters["topics"].card.base
    with pytest.raises(AdapterError, match="already called 'topics'"):
        reading.load(adapters["parity"], "topics")


def test_an_unknown_adapter_is_refused_with_the_loaded_ones(reading: Engine) -> None:
    for call in (
        lambda: reading.adapter("other"),
        lambda: reading.unload("other"),
        lambda: reading.outputs(ROWS[:1], ["other"]),
        lambda: reading.general("other"),
        lambda: reading.generate([[]], ["other"]),
    ):
        with pytest.raises(AdapterError, match="Loaded: topics, even-or-odd"):
            call()


def test_a_mixed_batch_gives_what_each_adapter_gives_alone(reading: Engine) -> None:
    names = ["even-or-odd", "topics", "topics", "even-or-odd"]

    mixed = reading.outputs(ROWS, names)

    for name in ("topics", "even-or-odd"):
        positions = [n for n, owner in enumerate(names) if owner == name]
        alone = reading.outputs([ROWS[n] for n in positions], [name] * len(positions))
        for position, raw in zip(positions, alone, strict=True):
            np.testing.assert_allclose(mixed[position].values, raw.values, atol=1e-5)
            assert mixed[position].values.argmax() == raw.values.argmax()
            assert (mixed[position].cut, mixed[position].unknown) == (raw.cut, raw.unknown)
    assert [raw.values.shape for raw in mixed] == [(2,), (3,), (3,), (2,)]
    assert mixed[2].cut > 0
    assert reading.outputs([], []) == []


def test_batches_of_one_row_give_the_same_numbers(reading: Engine) -> None:
    whole = reading.outputs(ROWS, ["topics"] * 4)
    single = reading.outputs(ROWS, ["topics"] * 4, batch_size=1)

    np.testing.assert_allclose([raw.values for raw in single], [raw.values for raw in whole], atol=1e-4)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_without_rows_is_refused(reading: Engine, batch_size: int) -> None:
    name = reading.adapters[0]

    with pytest.raises(DataError, match=f"batch_size = {batch_size} is wrong"):
        reading.outputs([Example("1", "rash")], [name], batch_size=batch_size)
    with pytest.raises(DataError, match=f"batch_size = {batch_size} is wrong"):
        reading.generate([(Message("user", "rash"),)], [name], batch_size=batch_size)


def test_an_unloaded_adapter_is_gone_and_the_others_answer_as_before(reading: Engine, adapters: dict[str, Adapter]) -> None:
    before = reading.outputs(ROWS, ["topics"] * 4)

    reading.unload("even-or-odd")

    assert reading.adapters == ("topics",)
    after = reading.outputs(ROWS, ["topics"] * 4)
    np.testing.assert_array_equal([raw.values for raw in after], [raw.values for raw in before])
    assert reading.load(adapters["parity"], "even-or-odd") == "even-or-odd"


def test_a_damaged_adapter_is_refused_and_the_engine_stays_as_it_was(
    reading: Engine, adapters: dict[str, Adapter], tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(adapters["topics"].folder, tmp_path / "adapter")
    path = tmp_path / "adapter" / "head.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    before = reading.outputs(ROWS, ["topics"] * 4)

    with pytest.raises(CorruptAdapter, match=r"head\.safetensors: this file was changed or cut"):
        reading.load(read_adapter(tmp_path / "adapter"), "damaged")

    assert reading.adapters == ("topics", "even-or-odd")
    after = reading.outputs(ROWS, ["topics"] * 4)
    np.testing.assert_array_equal([raw.values for raw in after], [raw.values for raw in before])


def test_text_is_generated_and_its_streamed_pieces_add_up(writing: Engine) -> None:
    prompts = [format_prompt(writing.adapter("writer").recipe.prompt, text) for text in ("cough", "red itch on skin", "pulse")]
    pieces = ["", "", ""]

    def collect(row: int, piece: str) -> None:
        pieces[row] += piece

    answers = writing.generate(prompts, ["writer"] * 3, decoding=Decoding(max_new_tokens=6), batch_size=2)
    streamed = writing.generate(prompts, ["writer"] * 3, decoding=Decoding(max_new_tokens=6), batch_size=2, stream=collect)

    assert streamed == answers
    assert pieces == [answer.text for answer in answers]
    assert any(pieces)
    short = writing.generate(prompts, ["writer"] * 3, decoding=Decoding(max_new_tokens=1))
    assert [written.new_tokens for written in short] == [1] * 3
    for written in (*answers, *short):  # an answer that has ended its turn has a token for that, which writes nothing
        assert written.finish_reason == ("stop" if written.new_tokens > len(written.text) else "length")


def test_a_base_that_cannot_write_refuses_to_generate(reading: Engine) -> None:
    with pytest.raises(AdapterError, match=r"cannot write text\. Call predict\(\)"):
        reading.generate([[]], ["topics"])


def test_a_prompt_that_is_too_long_is_refused(writing: Engine) -> None:
    prompt = format_prompt(writing.adapter("writer").recipe.prompt, "long " * 400)

    with pytest.raises(DataError, match="tokens"):
        writing.generate([prompt], ["writer"])


def test_members_read_the_base_without_the_adapter(reading: Engine) -> None:
    first = reading.general("topics").features(ROWS[:2])
    second = reading.general("even-or-odd").features(ROWS[:2])

    np.testing.assert_array_equal(first.numpy(), second.numpy())


def test_answers_read_the_rows_once_and_include_members(reading: Engine) -> None:
    result = answer(reading, ROWS, "topics")["topics"]

    own = np.stack([raw.values for raw in reading.outputs(ROWS, ["topics"] * 4)])
    np.testing.assert_array_equal(result.own_raw, own)
    assert result.outputs.probabilities is not None
    assert result.alone.probabilities is not None
    assert np.abs(result.raw - own).max() > 1e-3
    np.testing.assert_allclose(result.outputs.probabilities.sum(axis=1), 1.0)


class CountingEngine(TorchEngine):
    """An engine of somebody else, which counts its calls."""

    calls = 0

    def outputs(self, *arguments, **options):  # type: ignore[no-untyped-def]
        type(self).calls += 1
        return super().outputs(*arguments, **options)


def test_an_engine_from_outside_is_one_line(
    adapters: dict[str, Adapter], encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys
    import types

    module = types.ModuleType("their_package")
    module.CountingEngine = CountingEngine  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "their_package", module)
    try:
        ENGINES["counting"] = "their_package:CountingEngine"  # the one line

        engine: Engine = ENGINES.load("counting")(pull_base(str(encoder)))
        model = VerticalModel(engine, engine.load(adapters["topics"]))

        assert model.predict(["red itch"])[0].label in model.labels
        assert CountingEngine.calls == 1
    finally:
        del ENGINES["counting"]
