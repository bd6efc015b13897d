"""Features of the base that the next run on the same rows does not compute again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import topic_recipe
from safetensors.torch import load_file

from vertical_sdk import evaluate, train
from vertical_sdk.baselines import kept_features
from vertical_sdk.baselines.frozen_base import FrozenBase, content_of
from vertical_sdk.baselines.kept_features import load_features, save_features
from vertical_sdk.bases.base import Base, pull_base
from vertical_sdk.data.prepare import Prepared, prepare
from vertical_sdk.families.specialist import Specialist, create_specialist
from vertical_sdk.paths import cache_home
from vertical_sdk.recipe import Recipe, load_recipe
from vertical_sdk.sources import OTHERWISE, SCHEMES

READS = "reading with the base"


def files() -> list[Path]:
    return sorted((cache_home() / "features").glob("*"))


def fetched_recipe(folder: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """A recipe whose rows count as fetched ones."""
    measured = {"baselines": ["probe"], "resamples": 100, "gate": {"metric": "macro_f1", "beats": ["probe"]}}
    recipe = load_recipe(topic_recipe(folder, encoder, train__num_train_epochs=1, evaluate=measured))
    monkeypatch.setitem(SCHEMES, str(recipe.data.source).partition(":")[0], OTHERWISE)
    return recipe


@pytest.fixture
def job(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Base, Recipe, Specialist, Prepared]:
    recipe = fetched_recipe(tmp_path, encoder, monkeypatch)
    prepared, base = prepare(recipe), pull_base(str(encoder))
    return base, recipe, create_specialist(base, recipe, prepared.labels), prepared


def test_kept_features_are_those_that_were_computed(job: tuple[Base, Recipe, Specialist, Prepared]) -> None:
    base, _, specialist, prepared = job
    frozen = FrozenBase(specialist)
    features = frozen.features(prepared.train)
    save_features(specialist, base.fingerprint, prepared, frozen.known)

    kept = load_features(specialist, base.fingerprint, prepared)

    assert torch.equal(torch.stack([kept[content_of(row)] for row in prepared.train]), features)
    assert not any(content_of(row) in kept for row in prepared.test)


def test_a_second_run_reads_no_row_with_the_base_and_trains_the_same_weights(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = fetched_recipe(tmp_path, encoder, monkeypatch)
    first: list[str] = []
    run = train(recipe, out=tmp_path / "one", progress=lambda what, _=None: first.append(what))
    evaluate(run.path, memory=run.memory)
    again: list[str] = []

    def progress(what: str, _: float | None = None) -> None:
        again.append(what)

    second = train(recipe, out=tmp_path / "two", progress=progress)
    evaluate(second.path, progress=progress)

    assert READS in first
    assert READS not in again
    one, two = (load_file(path / "adapter" / "adapter_model.safetensors") for path in (run.path, second.path))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_nothing_is_kept_of_rows_from_a_users_own_file(encoder: Path, tmp_path: Path) -> None:
    run = train(topic_recipe(tmp_path, encoder, train__num_train_epochs=1), out=tmp_path / "run")
    evaluate(run.path, memory=run.memory)

    assert files() == []


def test_another_base_another_length_and_other_rows_have_features_of_their_own(
    job: tuple[Base, Recipe, Specialist, Prepared],
) -> None:
    base, recipe, specialist, prepared = job
    frozen = FrozenBase(specialist)
    frozen.features(prepared.train)
    save_features(specialist, base.fingerprint, prepared, frozen.known)
    shorter = create_specialist(base, recipe.replace({"data.max_length": 8}), prepared.labels)
    fewer = replace(prepared, train=prepared.train[1:])
    other = base.fingerprint.model_copy(update={"weights": "0" * 64})

    assert load_features(specialist, base.fingerprint, prepared)
    assert not load_features(shorter, base.fingerprint, prepared)
    assert not load_features(specialist, base.fingerprint, fewer)
    assert not load_features(specialist, other, prepared)


def test_another_prompt_of_a_causal_base_has_features_of_its_own(
    causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = fetched_recipe(tmp_path, causal, monkeypatch)
    prepared, base = prepare(recipe), pull_base(str(causal))
    one, other = (
        create_specialist(base, recipe.replace({"prompt.system": system}), prepared.labels)
        for system in ("Name it.", "Say it.")
    )
    frozen = FrozenBase(one)
    frozen.features(prepared.test)
    save_features(one, base.fingerprint, prepared, frozen.known)

    assert load_features(one, base.fingerprint, prepared)
    assert not load_features(other, base.fingerprint, prepared)


@pytest.mark.parametrize("content", [b"", b"no tensors", None], ids=["empty", "no tensors", "cut"])
def test_a_damaged_file_is_written_again(job: tuple[Base, Recipe, Specialist, Prepared], content: bytes | None) -> None:
    base, _, specialist, prepared = job
    frozen = FrozenBase(specialist)
    frozen.features(prepared.train)
    save_features(specialist, base.fingerprint, prepared, frozen.known)
    (file,) = files()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if content is None else content)

    assert load_features(specialist, base.fingerprint, prepared) == {}
    save_features(specialist, base.fingerprint, prepared, frozen.known)
    assert file.read_bytes() == whole


def test_only_the_newest_files_are_kept_and_none_that_is_too_large(
    job: tuple[Base, Recipe, Specialist, Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, _, specialist, prepared = job
    frozen = FrozenBase(specialist)
    frozen.features(prepared.train)
    for count in range(kept_features.MOST + 2):
        save_features(specialist, base.fingerprint, replace(prepared, train=prepared.train[count:]), frozen.known)
    assert len(files()) == kept_features.MOST

    monkeypatch.setattr(kept_features, "LARGEST", 100)
    save_features(specialist, base.fingerprint, prepared, frozen.known)
    assert not load_features(specialist, base.fingerprint, prepared)
