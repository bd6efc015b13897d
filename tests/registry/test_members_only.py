"""A version without an adapter: its members answer alone, without a base, as the evaluation measured them."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import write_csv

from vertical_sdk import VerticalModel, evaluate, train
from vertical_sdk.bases import base as bases
from vertical_sdk.card import read_card, write_card
from vertical_sdk.cli import main
from vertical_sdk.data.prepare import prepare
from vertical_sdk.errors import AdapterError, CorruptAdapter, GateFailed, IdleAdapter, RegistryError
from vertical_sdk.registry import Registry


def applicants(n: int) -> list[tuple[str, ...]]:
    """Debt decides, with noise."""
    rng = random.Random(0)
    rows = []
    for _ in range(n):
        debt, age = rng.gauss(5, 2), rng.randint(18, 80)
        rows.append((f"{debt:.2f}", str(age), "bad" if debt + rng.gauss(0, 0.7) > 5.5 else "good"))
    return rows


def recipe(folder: Path, base: Path, ensemble: list[object]) -> dict[str, object]:
    data = write_csv(folder / "applicants.csv", applicants(400), ("debt", "age", "risk"))
    return {
        "name": "risk",
        "task": "classification",
        "base": str(base),
        "labels": ["good", "bad"],
        "data": {
            "source": str(data),
            "columns": {"label": "risk"},
            "reader": {"use": "table", "record": {"debt": "debt", "age": "age"}},
            "decontaminate": None,
            "max_length": 48,
            "limits": {"unknown": 1.0},
        },
        "ensemble": ensemble,
        "adapter": {"r": 4},
        "train": {"max_steps": 3, "per_device_train_batch_size": 16, "bf16": False},
        "evaluate": {"metrics": ["auc", "accuracy"], "baselines": ["majority"], "resamples": 100},
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    folder = tmp_path_factory.mktemp("members")
    members: list[object] = [{"use": "boosted_trees", "n_estimators": 60}, "tfidf"]
    path = train(recipe(folder, encoder, members), out=folder / "run").path
    evaluate(path)
    return path


def test_members_answer_without_a_base_as_the_evaluation_measured_them(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = prepare(VerticalModel.from_pretrained(run).adapter.recipe).test
    expected = VerticalModel.from_pretrained(run).answer(rows).without_adapter.probabilities
    registry = Registry(tmp_path / "registry")

    version = registry.publish(run, members_only=True)
    monkeypatch.setattr(bases, "pull_base", lambda *_, **__: pytest.fail("a base was loaded"))
    model = VerticalModel.from_registry("risk@1", registry)
    found = model.predict([dict(row.record) for row in rows])

    assert version.gate == "passed"
    assert expected is not None
    np.testing.assert_allclose([p.probabilities["bad"] for p in found], expected[:, 1], atol=1e-12)
    assert sorted(path.name for path in version.path.iterdir()) == ["README.md", "ensemble.safetensors", "vertical.json"]
    measured = evaluate(run).systems["members"].metrics["auc"]
    assert version.card.metrics["systems"]["adapter"]["metrics"]["auc"]["value"] == measured.value
    readme = (version.path / "README.md").read_text(encoding="utf-8")
    assert "It has no adapter and needs no base" in readme
    assert "base_model" not in readme
    assert repr(model) == "<VerticalModel members without a base: 'risk@1' (in use)>"
    with pytest.raises(AdapterError, match="has no adapter and needs no base"):
        _ = model.base


def test_the_command_publishes_members_that_the_command_asks(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--registry", str(tmp_path / "registry")]

    assert main(["registry", "publish", str(run), "--members-only", *where]) == 0
    assert main(["predict", "risk@1", '{"debt": 9.5, "age": 30}', *where]) == 0

    assert "bad" in capsys.readouterr().out


def test_changed_members_are_found_by_their_self_tests(run: Path, tmp_path: Path) -> None:
    version = Registry(tmp_path / "registry").publish(run, members_only=True)
    shutil.copytree(version.path, tmp_path / "adapter")
    card = read_card(tmp_path / "adapter")
    changed = card.self_tests[0].model_copy(update={"members": tuple(x + 0.1 for x in card.self_tests[0].members)})
    write_card(tmp_path / "adapter", card.model_copy(update={"self_tests": (changed, *card.self_tests[1:])}))

    with pytest.raises(IdleAdapter, match="the members give another answer"):
        VerticalModel.from_pretrained(tmp_path / "adapter")

    write_card(tmp_path / "adapter", card.model_copy(update={"self_tests": ()}))
    with pytest.raises(CorruptAdapter, match="no members or no self-tests"):
        VerticalModel.from_pretrained(tmp_path / "adapter")


def test_a_version_without_an_adapter_is_not_evaluated_or_put_on_a_base(run: Path, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    registry.publish(run, members_only=True)

    with pytest.raises(AdapterError, match="it has no adapter, so there is nothing to compare"):
        evaluate("risk@1", registry=registry)
    with pytest.raises(AdapterError, match="it has no adapter: its members answer alone"):
        VerticalModel.from_pretrained(run).add("risk@1", registry)
    with pytest.raises(AdapterError, match="has an adapter, which needs a base"):
        VerticalModel.from_registry("risk@1", registry).add(run)


def test_members_that_were_not_evaluated_are_refused(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "adapter", tmp_path / "adapter")

    with pytest.raises(GateFailed, match="has not been evaluated"):
        Registry(tmp_path / "registry").publish(tmp_path / "adapter", members_only=True)


@pytest.mark.parametrize(("ensemble", "said"), [([], "there are no members to publish"), (["probe"], "probe reads the base")])
def test_a_run_without_members_that_answer_alone_is_refused(
    ensemble: list[object], said: str, tmp_path: Path, encoder: Path
) -> None:
    path = train(recipe(tmp_path, encoder, ensemble), out=tmp_path / "run").path

    with pytest.raises(RegistryError, match=said):
        Registry(tmp_path / "registry").publish(path, members_only=True)
