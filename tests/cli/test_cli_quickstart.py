"""The quickstart, on a base and rows of a second or two instead of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import topic_recipe

from vertical_sdk.checking import check_recipe
from vertical_sdk.cli import main, quickstart
from vertical_sdk.recipe import load_recipe
from vertical_sdk.registry import Registry


def document(capsys: pytest.CaptureFixture[str]) -> Any:
    """The one JSON document on stdout."""
    return json.loads(capsys.readouterr().out)


def use(monkeypatch: pytest.MonkeyPatch, recipe: Path) -> None:
    monkeypatch.setattr(quickstart, "RECIPE", str(recipe))


def test_the_quickstart_trains_evaluates_publishes_and_predicts(
    tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    use(monkeypatch, topic_recipe(tmp_path, encoder))

    assert main(["quickstart", "--json"]) == 0

    result = document(capsys)
    assert result["gate"]["passed"]
    assert result["reference"] == "topics@production"
    assert [answer["text"] for answer in result["predictions"]] == list(quickstart.TEXTS)
    assert Path(result["report"]).is_file()
    assert Registry().resolve("topics@production").number == 1
    assert result["registry"] == str(home / "registry")


def test_the_quickstart_prints_each_step_and_all_paths(
    tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(monkeypatch, topic_recipe(tmp_path, encoder))

    assert main(["quickstart"]) == 0

    said = capsys.readouterr()
    assert all(f"\n{number}. " in "\n" + said.err for number in range(1, 7))
    assert all(text in said.out for text in quickstart.TEXTS)
    assert "Published: topics@1" in said.out
    assert "report.html" in said.out


def test_a_quickstart_whose_gate_fails_publishes_nothing(
    tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(monkeypatch, topic_recipe(tmp_path, encoder, evaluate__gate__margin=1.0, train__max_steps=3))

    assert main(["quickstart"]) == 8

    shown = capsys.readouterr().out
    assert "Gate: FAILED" in shown
    assert "nothing was published" in shown
    assert list(Registry().list_adapters()) == []


def test_the_recipe_of_the_quickstart_is_valid() -> None:
    check_recipe(load_recipe(quickstart.RECIPE))
