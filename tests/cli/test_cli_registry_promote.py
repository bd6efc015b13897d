"""A challenger against the champion on the command line, and back again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import topic_recipe, topic_rows, write_csv

from vertical_sdk import evaluate, load_recipe, train
from vertical_sdk.cli import main
from vertical_sdk.registry import Registry

SHORT = {"train.max_steps": 3, "train.learning_rate": 1e-4, "head.init": "random"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> tuple[Path, Path]:
    """A run that was trained for three steps, and one that was trained completely."""
    folder = tmp_path_factory.mktemp("promote")
    recipe = topic_recipe(folder, encoder, evaluate__baselines=["base"])
    paths = [
        train(load_recipe(recipe, settings), out=folder / name).path for name, settings in (("weak", SHORT), ("strong", {}))
    ]
    for run in paths:
        evaluate(run)
    return paths[0], paths[1]


@pytest.fixture(autouse=True)
def registry(runs: tuple[Path, Path]) -> Registry:
    """Version 1 is weak and in production, version 2 strong and the candidate."""
    registry = Registry()
    for run, alias in zip(runs, ("production", "candidate"), strict=True):
        number = registry.publish(run, force=True, reason="a test").number
        registry.set_alias("topics", alias, number, force=True, why="a test")
    return registry


def document(capsys: pytest.CaptureFixture[str]) -> Any:
    """The one JSON document on stdout."""
    return json.loads(capsys.readouterr().out)


def test_a_better_candidate_is_promoted_and_rolled_back(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["registry", "promote", "topics", "--from", "candidate", "--to", "production", "--why", "better", "--json"]) == 0
    )

    result = document(capsys)
    assert (result["champion"], result["challenger"], result["moved"]) == (1, 2, True)
    assert result["difference"]["low"] > 0
    assert registry.resolve("topics@production").number == 2
    assert main(["registry", "rollback", "topics", "--alias", "production", "--force", "--reason", "it raves", "--json"]) == 0
    assert document(capsys) == {"name": "topics", "alias": "production", "before": 2, "after": 1, "skipped": []}
    assert main(["registry", "history", "topics", "--json"]) == 0
    shown = [(event["action"], event["after"], event["why"]) for event in document(capsys)[-2:]]
    assert shown == [("promote", 2, "better"), ("rollback by force", 1, "it raves")]


def test_promoting_prints_both_values_the_verdict_and_the_move(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["registry", "promote", "topics", "--from", "2", "--to", "production"]) == 0

    shown = " ".join(capsys.readouterr().out.split())
    assert "On 18 rows (the test rows of the challenger's recipe), with 95% intervals" in shown
    assert "challenger topics@2" in shown
    assert "champion topics@1" in shown
    assert "Verdict: passed" in shown
    assert "topics@production: 1 → 2" in shown
    assert main(["registry", "rollback", "topics", "--alias", "production", "--force", "--reason", "it raves"]) == 0
    assert "topics@production: 2 → 1" in capsys.readouterr().out


def test_a_worse_challenger_exits_with_the_code_of_a_failed_gate(
    registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.set_alias("topics", "production", 2)

    assert main(["registry", "promote", "topics", "--from", "1", "--to", "production"]) == 8
    shown = capsys.readouterr().out
    assert "Verdict: FAILED" in shown
    assert "topics@production stays at 2." in shown
    assert main(["registry", "promote", "topics", "--from", "1", "--to", "production", "--json"]) == 8
    assert document(capsys)["moved"] is False
    assert registry.resolve("topics@production").number == 2
    assert main(["registry", "promote", "topics", "--from", "1", "--to", "production", "--force", "--reason", "a trial"]) == 0
    assert "topics@production: 2 → 1 by force" in capsys.readouterr().out
    assert registry.resolve("topics@production").number == 1


def test_rows_and_margin_may_be_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(write_csv(tmp_path / "new.csv", topic_rows(30, seed=5)))
    words = ["registry", "promote", "topics", "--from", "candidate", "--to", "production", "--data", data, "--json"]

    assert main([*words, "--margin", "0.999"]) == 8
    assert main([*words, "--margin", "-0.01"]) == 0

    result = document_last(capsys)
    assert (result["rows"], result["rows_from"], result["margin"]) == (30, data, -0.01)


def test_a_new_alias_accepts_a_version_that_passed_its_own_gate(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["registry", "promote", "topics", "--from", "1", "--to", "canary"]) == 8
    assert "topics@canary was not created." in capsys.readouterr().out
    assert main(["registry", "promote", "topics", "--from", "2", "--to", "canary"]) == 0
    assert "topics@canary: new → 2" in capsys.readouterr().out


def test_a_missing_alias_or_history_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["registry", "promote", "topics", "--from", "shadow", "--to", "production", "--json"]) == 7
    assert "no such alias" in document(capsys)["error"]["message"]
    assert main(["registry", "rollback", "topics", "--alias", "production", "--json"]) == 7
    assert "cannot be rolled back" in document(capsys)["error"]["message"]


def document_last(capsys: pytest.CaptureFixture[str]) -> Any:
    """The last of several JSON documents on stdout."""
    return json.loads("{" + capsys.readouterr().out.rpartition("\n{")[2])
