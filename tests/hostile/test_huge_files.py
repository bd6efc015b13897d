"""Files of an adapter that have no end, or are far larger than what they claim to hold, and names that cost more than they say."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import topic_recipe

from vertical_sdk import VerticalModel, train
from vertical_sdk.card import CARD, folder_digests
from vertical_sdk.errors import CorruptAdapter, RegistryError
from vertical_sdk.registry import Registry

TEXTS = ["red itch rash", "cough and lung wheeze"]
HUGE = 40 << 30
"""Bytes of a file with a hole, which takes no room on the disk."""
READ = ("vertical.json", "adapter_config.json", "adapter_model.safetensors", "head.safetensors", "tokenizer.json")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    folder = tmp_path_factory.mktemp("honest")
    recipe = topic_recipe(folder, encoder, train__max_steps=6, train__learning_rate=0.05, evaluate__gate=False)
    return train(recipe, out=folder / "run").path / "adapter"


@pytest.fixture(scope="module")
def model(adapter: Path) -> VerticalModel:
    return VerticalModel.from_pretrained(adapter)


@pytest.fixture
def copy(adapter: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(adapter, tmp_path / "copy"))


@pytest.mark.parametrize("name", READ)
def test_a_huge_file_is_not_read(copy: Path, model: VerticalModel, name: str) -> None:
    before = model.predict_proba(TEXTS)
    os.truncate(copy / name, HUGE)
    began = time.monotonic()

    with pytest.raises(CorruptAdapter, match=r"at most \d+ are read"):
        model.add(copy)
    with pytest.raises(RegistryError, match=r"at most \d+ are (published|accepted)"):
        Registry("memory://huge").publish(copy)

    assert time.monotonic() - began < 5
    np.testing.assert_array_equal(model.predict_proba(TEXTS), before)


@pytest.mark.parametrize("kind", ["pipe", "link to a device"])
def test_a_card_without_an_end_is_not_read(copy: Path, model: VerticalModel, kind: str) -> None:
    (copy / CARD).unlink()
    if kind == "pipe":
        os.mkfifo(copy / CARD)
    else:
        (copy / CARD).symlink_to("/dev/zero")

    with pytest.raises(CorruptAdapter, match=r"vertical\.json cannot be read"):
        model.add(copy)


def test_a_file_of_the_registry_that_was_made_huge_is_not_read(copy: Path, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    version = registry.publish(copy)
    file = version.path / "tokenizer.json"
    file.chmod(0o644)
    os.truncate(file, HUGE)
    began = time.monotonic()

    with pytest.raises(CorruptAdapter, match=r"tokenizer\.json has changed"):
        registry.resolve(str(version))
    assert any("tokenizer.json" in line for line in registry.verify())
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("kind", ["pipe", "huge", "deep"])
def test_an_evaluation_that_cannot_be_read_is_refused(copy: Path, tmp_path: Path, kind: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(copy, run / "adapter")
    (run / "recipe.json").write_text("{}")
    evaluation = run / "evaluation.json"
    if kind == "pipe":
        os.mkfifo(evaluation)
    else:
        evaluation.write_text("[" * 100_000)
    if kind == "huge":
        os.truncate(evaluation, HUGE)

    with pytest.raises(CorruptAdapter, match=r"evaluation\.json is malformed"):
        Registry(tmp_path / "registry").publish(run)


@pytest.mark.parametrize("key", ["target_modules", "exclude_modules", "rank_pattern", "alpha_pattern"])
def test_thousands_of_names_cost_no_time(copy: Path, model: VerticalModel, key: str) -> None:
    before, config = model.predict_proba(TEXTS), json.loads((copy / "adapter_config.json").read_text())
    names = [f"encoder.{n}" for n in range(4000)]
    own = config[key] or ([] if key.endswith("modules") else {})
    config[key] = [*own, *names] if key.endswith("modules") else own | dict.fromkeys(names, 4)
    (copy / "adapter_config.json").write_text(json.dumps(config))
    card = json.loads((copy / CARD).read_text()) | {"files": folder_digests(copy)}
    (copy / CARD).write_text(json.dumps(card))
    began = time.process_time()

    name = model.add(copy, name=key)

    assert time.process_time() - began < 2
    np.testing.assert_array_equal(model.predict_proba(TEXTS, adapter=name), before)
