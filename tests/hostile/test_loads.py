"""What is loaded is what was named and checked: folders named like references, policies, and files that change after a check."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import topic_recipe

from vertical_sdk import VerticalModel, train
from vertical_sdk.adapters.folder import open_adapter, read_adapter
from vertical_sdk.cli.app import main
from vertical_sdk.errors import AdapterError, CorruptAdapter, RegistryError
from vertical_sdk.evaluation import evaluate
from vertical_sdk.inference import load
from vertical_sdk.registry import Registry, Version
from vertical_sdk.registry.keys import create_key_pair
from vertical_sdk.registry.policy import Policy
from vertical_sdk.registry.signature_check import check_signature, trusted_signers
from vertical_sdk.registry.signing import sign

TEXTS = ["red itch rash", "cough and lung wheeze", "pulse"]
NAME = "medical/topics"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> dict[str, Path]:
    """Two adapters on one base that answer differently, with members."""
    found = {}
    for seed, name in enumerate(("good", "enemy")):
        folder = tmp_path_factory.mktemp(name)
        settings = {"train__max_steps": 6, "train__learning_rate": 0.05, "train__seed": seed, "evaluate__gate": False}
        recipe = topic_recipe(folder, encoder, ensemble=["probe"], **settings)
        found[name] = train(recipe, out=folder / "run").path
    return found


@pytest.fixture
def registry(runs: dict[str, Path], tmp_path: Path) -> Registry:
    """A registry with the good adapter as version 1 and the enemy's as version 2."""
    store = Registry(tmp_path / "registry")
    for path in runs.values():
        store.publish(path, NAME)
    return store


@pytest.fixture(scope="module")
def good(runs: dict[str, Path]) -> np.ndarray[Any, Any]:
    return VerticalModel.from_pretrained(runs["good"]).predict_proba(TEXTS)


class Swap:
    """Replaces the files of a folder when one of them is opened: the worst moment between a check and a use."""

    def __init__(self) -> None:
        self.trigger, self.folder, self.other = "", Path(), Path()
        self.happened = False
        sys.addaudithook(self._on_event)  # cannot be removed, so `trigger` is emptied

    def _on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if (
            event == "open"
            and self.trigger
            and isinstance(arguments[0], str | Path)
            and str(arguments[0]).endswith(self.trigger)
        ):
            self.trigger, self.happened = "", True
            replace_files(self.folder, self.other)

    def arm(self, trigger: str, folder: Path, other: Path) -> None:
        """Put the files of `other` into `folder` when the file is opened the next time."""
        self.trigger, self.folder, self.other, self.happened = f"/{folder.name}/{trigger}", folder, other, False


SWAP = Swap()


@pytest.fixture
def swap() -> Iterator[Swap]:
    yield SWAP
    SWAP.trigger = ""


def replace_files(folder: Path, other: Path) -> None:
    folder.chmod(0o755)
    for path in list(other.iterdir()):
        target = folder / path.name
        target.unlink(missing_ok=True)
        shutil.copyfile(path, target)


FILES = ("vertical.json", "adapter_config.json", "adapter_model.safetensors", "head.safetensors", "ensemble.safetensors")


@pytest.mark.parametrize("trigger", FILES)
def test_files_that_are_swapped_after_the_check_are_not_loaded(
    registry: Registry, swap: Swap, good: np.ndarray[Any, Any], trigger: str
) -> None:
    first, second = registry.resolve(f"{NAME}@1"), registry.resolve(f"{NAME}@2")
    swap.arm(trigger, first.path, second.path)

    with pytest.raises(CorruptAdapter, match="this file was changed or cut"):
        VerticalModel.from_adapter(read_adapter(first))
    assert swap.happened

    replace_files(first.path, registry.resolve(f"{NAME}@2").path)
    with pytest.raises(CorruptAdapter, match="has changed"):
        VerticalModel.from_registry(f"{NAME}@1", registry)


def test_files_that_are_swapped_again_and_again_never_answer(
    registry: Registry, good: np.ndarray[Any, Any], runs: dict[str, Path]
) -> None:
    version = registry.resolve(f"{NAME}@1")
    sides = [runs["good"] / "adapter", runs["enemy"] / "adapter"]
    over = threading.Event()

    def flip() -> None:
        turn = 0
        while not over.wait(0.003):
            replace_files(version.path, sides[turn := 1 - turn])

    thread = threading.Thread(target=flip)
    thread.start()
    outcomes = []
    try:
        for _ in range(10):
            with contextlib.suppress(AdapterError, RegistryError):
                model = VerticalModel.from_registry(f"{NAME}@1", registry)
                outcomes.append(np.array_equal(model.predict_proba(TEXTS), good))
    finally:
        over.set()
        thread.join()
    assert all(outcomes)


def test_a_loaded_adapter_is_saved_as_it_was_loaded(registry: Registry, tmp_path: Path) -> None:
    model = VerticalModel.from_registry(f"{NAME}@1", registry)
    version = registry.resolve(f"{NAME}@1")
    model.save_pretrained(tmp_path / "copy")
    assert {path.name for path in (tmp_path / "copy").iterdir()} == set(version.manifest)

    replace_files(version.path, registry.resolve(f"{NAME}@2").path)

    with pytest.raises(CorruptAdapter, match="was changed or cut"):
        model.save_pretrained(tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_link_or_pipe_in_place_of_a_file_is_refused(runs: dict[str, Path], tmp_path: Path, kind: str) -> None:
    import os

    folder = tmp_path / "adapter"
    shutil.copytree(runs["good"] / "adapter", folder)
    weights = folder / "adapter_model.safetensors"
    weights.rename(tmp_path / "weights")
    {"link": lambda: weights.symlink_to(tmp_path / "weights"), "pipe": lambda: os.mkfifo(weights), "folder": weights.mkdir}[
        kind
    ]()

    with pytest.raises(CorruptAdapter, match=r"adapter_model\.safetensors"):
        VerticalModel.from_pretrained(folder)


def test_a_signature_is_compared_with_the_files_that_are_loaded(registry: Registry, tmp_path: Path) -> None:
    pytest.importorskip("model_signing")
    create_key_pair(tmp_path / "key")
    signed = sign(registry, f"{NAME}@1", tmp_path / "key")
    (signer,) = trusted_signers(Policy(trusted_keys=(tmp_path / "key.pub",))).values()
    check_signature(signed, signer)
    other = registry.resolve(f"{NAME}@2")

    with pytest.raises(RegistryError, match=r"is not valid: .* was changed"):
        check_signature(dataclasses.replace(signed, read_manifest=lambda: other.manifest), signer)


def place_enemy(runs: dict[str, Path], text: str) -> None:
    shutil.copytree(runs["enemy"], Path(text), dirs_exist_ok=True)


@pytest.mark.parametrize("text", [f"{NAME}@1", f"{NAME}@production", "medical/topics"])
def test_a_folder_named_like_a_reference_is_not_loaded(
    registry: Registry, runs: dict[str, Path], good: np.ndarray[Any, Any], text: str
) -> None:
    registry.set_alias(NAME, "production", 1, force=True, why="a test")
    registry.revoke(f"{NAME}@2", "it is the enemy's")
    place_enemy(runs, text)

    if text == NAME:  # the newest version, which was revoked: its folder does not come in its place
        for call in openers(registry, text):
            with pytest.raises(RegistryError, match="was revoked") as caught:
                call()
            assert "./" not in str(caught.value)
    else:
        for call in openers(registry, text):
            np.testing.assert_array_equal(call().predict_proba(TEXTS), good)


def openers(registry: Registry, text: str) -> list[Callable[[], VerticalModel]]:
    return [
        lambda: load(text, registry),
        lambda: VerticalModel.from_registry(text, registry),
        lambda: VerticalModel.from_adapter(open_adapter(text, registry)),
    ]


@pytest.mark.parametrize("text", ["medical/gone", "medical/topics@9", "medical/topics@latest", "Medical/Gone", "a/b/c"])
def test_a_folder_is_not_loaded_in_place_of_a_missing_reference(
    registry: Registry, runs: dict[str, Path], tmp_path: Path, encoder: Path, text: str
) -> None:
    place_enemy(runs, text)
    model = load(runs["good"], registry)
    told = rf"write \./{text}"

    for call in (
        lambda: load(text, registry),
        lambda: model.add(text, registry),
        lambda: evaluate(text, registry=registry),
        lambda: train(topic_recipe(tmp_path, encoder), out=tmp_path / "run", start=text),
    ):
        with pytest.raises(RegistryError, match=told):
            call()
    assert load(f"./{text}", registry).predict(TEXTS)


@pytest.mark.parametrize("verb", ["predict", "evaluate"])
def test_the_command_takes_a_folder_only_as_a_path(
    registry: Registry, runs: dict[str, Path], capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    place_enemy(runs, "medical/gone")
    more = ["red rash"] if verb == "predict" else []

    assert main([verb, "medical/gone", *more, "--registry", registry.location]) != 0
    assert "write ./medical/gone" in capsys.readouterr().err
    place_enemy(runs, "runs/mine")
    for text in ("./medical/gone", "runs/mine"):
        assert main([verb, text, *more, "--registry", registry.location]) == 0


def test_nothing_is_published_under_the_name_of_a_folder(registry: Registry, runs: dict[str, Path]) -> None:
    with pytest.raises(RegistryError, match="'runs/topics' cannot be published"):
        registry.publish(runs["good"], "runs/topics")


def test_a_policy_that_requires_signatures_refuses_folders(
    registry: Registry, runs: dict[str, Path], tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_key_pair(tmp_path / "key")
    strict = Registry(registry.location, Policy(trusted_keys=(tmp_path / "key.pub",)))
    with pytest.raises(RegistryError, match="a folder has no signature"):
        load(runs["good"], strict)
    model = VerticalModel.from_pretrained(runs["good"])
    with pytest.raises(RegistryError, match="a folder has no signature"):
        model.add(runs["good"], strict, name="again")

    monkeypatch.setenv("VERTICAL_TRUSTED_KEYS", str(tmp_path / "key.pub"))
    start = runs["good"]
    for call in (
        lambda: VerticalModel.from_pretrained(runs["good"]),
        lambda: load(f"{runs['good']}"),
        lambda: evaluate(runs["good"]),
        lambda: train(topic_recipe(tmp_path, encoder), out=tmp_path / "run", start=start),
        lambda: VerticalModel.from_pretrained(registry.resolve(f"{NAME}@1").path),
    ):
        with pytest.raises(RegistryError, match=r"a folder has no signature.*If you trust the folder, unset these variables"):
            call()
    with pytest.raises(RegistryError, match="not signed"):
        VerticalModel.from_registry(f"{NAME}@1", Registry(registry.location))


def test_a_signed_version_is_loaded_under_a_policy(registry: Registry, tmp_path: Path, good: np.ndarray[Any, Any]) -> None:
    pytest.importorskip("model_signing")
    create_key_pair(tmp_path / "key")
    signed: Version = sign(registry, f"{NAME}@1", tmp_path / "key")

    strict = Registry(registry.location, Policy(trusted_keys=(tmp_path / "key.pub",)))

    np.testing.assert_array_equal(VerticalModel.from_registry(str(signed), strict).predict_proba(TEXTS), good)
