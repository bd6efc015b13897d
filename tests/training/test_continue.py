from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
import torch
from conftest import save_causal, save_encoder, topic_recipe, topic_rows, write_csv
from safetensors.torch import load_file

from vertical_sdk import Registry, VerticalModel, train
from vertical_sdk.card import read_card, write_card
from vertical_sdk.errors import AdapterError, BaseMismatch, CorruptAdapter, RunError
from vertical_sdk.families.lora import ADAPTER_WEIGHTS
from vertical_sdk.paths import file_digest

SHORT = {"train__num_train_epochs": 1}
STILL = {"train.learning_rate": 1e-12, "train.num_train_epochs": 1}
"""Steps that change nothing, so that the initial weights can be compared at the end."""


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base, and the run of an adapter on it."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("first")
    base = save_encoder(folder / "base")
    return base, train(topic_recipe(folder, base), out=folder / "run").path


def tensors(run: Path) -> dict[str, torch.Tensor]:
    return {f"{f}:{k}": v for f in (ADAPTER_WEIGHTS, "head.safetensors") for k, v in load_file(run / "adapter" / f).items()}


def test_training_starts_from_weights_of_another_adapter(first: tuple[Path, Path], tmp_path: Path) -> None:
    base, parent = first

    run = train(topic_recipe(tmp_path, base), out=tmp_path / "run", start=parent, settings=STILL)

    before, after = tensors(parent), tensors(run.path)
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[k], after[k], atol=1e-6) for k in before)
    assert run.card.parent is not None
    assert run.card.parent.weights == file_digest(parent / "adapter" / ADAPTER_WEIGHTS)
    assert (run.card.parent.reference, run.card.parent.version) == ("topics", None)
    assert "started from `topics`" in (run.adapter / "README.md").read_text()


def test_warm_start_ends_with_other_weights_than_fresh_start(first: tuple[Path, Path], tmp_path: Path) -> None:
    base, parent = first
    recipe = topic_recipe(tmp_path, base, **SHORT)

    fresh = tensors(train(recipe, out=tmp_path / "fresh").path)
    warm = tensors(train(recipe, out=tmp_path / "warm", start=parent).path)

    assert not all(torch.equal(fresh[k], warm[k]) for k in fresh)


def test_parent_from_registry_is_recorded_with_its_version(first: tuple[Path, Path], tmp_path: Path) -> None:
    base, parent = first
    shutil.copytree(parent, tmp_path / "parent")
    version = Registry().publish(tmp_path / "parent", "medical/topics", force=True, reason="a test")

    run = train(topic_recipe(tmp_path, base, **SHORT), out=tmp_path / "run", start="medical/topics")

    recorded = run.card.parent
    assert recorded is not None
    assert (recorded.reference, recorded.version) == ("medical/topics@1", version.digest)
    assert VerticalModel.from_pretrained(run.path).predict(["red rash"])[0].label


def test_stopped_warm_start_resumes_to_same_weights(first: tuple[Path, Path], tmp_path: Path) -> None:
    base, parent = first
    recipe = topic_recipe(tmp_path, base, train__save_steps=3)
    whole = tensors(train(recipe, out=tmp_path / "whole", start=parent).path)

    def interrupt(what: str, share: float | None = None) -> None:
        if what == "training" and share is not None and share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, out=tmp_path / "run", start=parent, progress=interrupt)
    with pytest.raises(RunError, match="This run started from topics"):
        train(recipe, out=tmp_path / "run", resume=True)
    resumed = train(recipe, out=tmp_path / "run", start=parent, resume=True)

    assert resumed.resumed_from is not None
    after = tensors(resumed.path)
    assert all(torch.equal(whole[k], after[k]) for k in whole)


def test_fresh_run_is_not_resumed_from_an_adapter(first: tuple[Path, Path], tmp_path: Path) -> None:
    base, parent = first
    recipe = topic_recipe(tmp_path, base, **SHORT)
    train(recipe, out=tmp_path / "run")

    with pytest.raises(RunError, match="started from no other adapter"):
        train(recipe, out=tmp_path / "run", start=parent, resume=True)


def test_adapter_of_another_base_is_refused(first: tuple[Path, Path], tmp_path: Path) -> None:
    other = save_encoder(tmp_path / "other", seed=7)

    with pytest.raises(BaseMismatch, match="another base or revision"):
        train(topic_recipe(tmp_path, other), out=tmp_path / "run", start=first[1])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"adapter.r": 8}, r"adapter\.r = 4, and topics has 8"),
        ({"adapter.target_modules": ["query"]}, "other layers"),
        ({"head.pooling": "cls"}, r"another head\.pooling"),
        (
            {"task": "ordinal", "labels": ["skin", "lung", "heart"], "evaluate.gate": None, "evaluate.baselines": ["majority"]},
            "trained for classification",
        ),
        ({"labels": {"skin": "a", "lung": "b", "heart": "c", "bone": "d"}}, "with 'bone'"),
    ],
)
def test_adapter_with_other_settings_is_refused_before_training(
    first: tuple[Path, Path], tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    with pytest.raises((AdapterError, BaseMismatch), match=message):
        train(topic_recipe(tmp_path, first[0]), out=tmp_path / "run", start=first[1], settings=settings)
    assert not (tmp_path / "run").exists()


def test_changed_parent_is_refused(first: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(first[1], tmp_path / "parent")
    with (tmp_path / "parent" / "adapter" / "head.safetensors").open("ab") as file:
        file.write(b"x")

    with pytest.raises(CorruptAdapter, match=r"head\.safetensors: this file was changed or cut"):
        train(topic_recipe(tmp_path, first[0]), out=tmp_path / "run", start=tmp_path / "parent")


def test_generation_adapter_starts_from_generation_adapter(tmp_path: Path) -> None:
    base = save_causal(tmp_path / "base")
    rows = write_csv(tmp_path / "qa.csv", [(f"what is {t}", label) for t, label in topic_rows(24)], ("prompt", "completion"))
    recipe = topic_recipe(
        tmp_path, base, task="generation", data__source=str(rows), data__columns={}, data__max_length=160,
        evaluate__gate=None, evaluate__baselines=["base"], **SHORT
    )  # fmt: skip
    first_run = train(recipe, out=tmp_path / "one")

    second_run = train(recipe, out=tmp_path / "two", start=first_run.path, settings=STILL)

    before, after = (load_file(run.adapter / ADAPTER_WEIGHTS) for run in (first_run, second_run))
    assert all(torch.allclose(before[k], after[k], atol=1e-6) for k in before)


def test_forecasting_adapter_starts_from_learned_weights(tmp_path: Path) -> None:
    base = save_encoder(tmp_path / "base")
    with (tmp_path / "series.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["time", "a", "b"])
        for step in range(24 * 12):
            wave = [5 + torch.sin(torch.tensor(step / 12 * 6.28 + k)).item() for k in range(2)]
            writer.writerow([f"2024-01-{1 + step // 24:02d}T{step % 24:02d}:00:00", *wave])
    recipe = topic_recipe(
        tmp_path, base, task="forecasting", data__source=str(tmp_path / "series.csv"), data__columns={}, data__modality="series",
        data__reader={"use": "series", "history": 6, "horizon": 2}, data__clean=[], data__split={"use": "time"},
        evaluate__gate=None, evaluate__baselines=["persistence"], **SHORT
    )  # fmt: skip
    first_run = train(recipe, out=tmp_path / "one")

    second_run = train(recipe, out=tmp_path / "two", start=first_run.path, settings=STILL)

    before, after = (load_file(run.adapter / "series.safetensors") for run in (first_run, second_run))
    assert all(torch.allclose(before[k], after[k], atol=1e-5) for k in before)
    assert not (second_run.adapter / "seen.safetensors").exists()  # its groups are blocks of time


def test_parent_whose_card_lists_no_weights_is_refused(first: tuple[Path, Path], tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    shutil.copytree(first[1] / "adapter", adapter)
    (adapter / ADAPTER_WEIGHTS).unlink()
    write_card(adapter, read_card(adapter))

    with pytest.raises(CorruptAdapter, match="lists no adapter_model"):
        train(topic_recipe(tmp_path, first[0]), out=tmp_path / "run", start=adapter)
