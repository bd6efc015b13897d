"""The command line: one document on stdout, messages on stderr, and an exit code for each kind of error."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import pytest
from conftest import topic_rows, write_csv

from vertical_sdk import cli, errors
from vertical_sdk.bases.base import base_names
from vertical_sdk.cli import main
from vertical_sdk.cli.doctor import EXTRAS
from vertical_sdk.recipe import Gate, Recipe, load_recipe

HERE = [sys.executable, "-m", "vertical_sdk.cli"]


def document(capsys: pytest.CaptureFixture[str]) -> Any:
    """The one JSON document on stdout."""
    return json.loads(capsys.readouterr().out)


def test_help_lists_every_exit_code_of_the_error_tree(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0

    text = " ".join(capsys.readouterr().out.split())
    tree = {value.exit_code for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)}
    assert all(f" {code} " in text for code in tree | {0, 130})


@pytest.mark.parametrize(
    "verb", ["quickstart", "train", "evaluate", "predict", "serve", "recipe", "data", "base", "registry", "doctor"]
)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert f"vertical {verb}" in capsys.readouterr().out


def test_the_doctor_and_the_readmes_list_every_extra() -> None:
    declared = set(metadata("vertical_sdk").get_all("Provides-Extra") or ()) - {"dev"}

    assert set(EXTRAS) == declared
    for page in ("README.md", "README.zh-CN.md"):
        text = (Path(__file__).parents[2] / page).read_text(encoding="utf-8")
        assert set(re.findall(r"`([a-z0-9-]+)`", "".join(re.findall(r"^\| (`[^|]+) \|", text, re.M)))) >= declared


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("vertical_sdk ")


@pytest.mark.parametrize(
    ("words", "code", "kind"),
    [
        (["recipe", "show", "medical/nothing"], 2, "UnknownName"),
        (["train", "medical/icd-chapter", "--set", "train"], 2, "RecipeError"),
        (["train", "medical/icd-chapter", "--set", "trian.seed=1"], 2, "RecipeError"),
        (["data", "check", "gone.csv"], 3, "DataError"),
        (["base", "pull", "no-such-base"], 5, "BaseModelError"),
        (["predict", "./gone", "text"], 6, "AdapterError"),
        (["registry", "show", "medical/nothing@3"], 7, "RegistryError"),
        (["registry", "list", "--no-such-option"], 2, "NoSuchOption"),
        (["train"], 2, "MissingParameter"),
    ],
)
def test_an_error_is_a_message_an_exit_code_and_a_json_document(
    words: list[str], code: int, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--json"]) == code

    said = capsys.readouterr()
    error = json.loads(said.out)["error"]
    assert (error["type"], error["exit_code"]) == (kind, code)
    assert error["message"].splitlines()[0] in said.err
    assert "Traceback" not in said.err


def test_without_json_an_error_leaves_stdout_empty(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe", "show", "medical/icd-chaptr"]) == 2

    said = capsys.readouterr()
    assert said.out == ""
    assert "Did you mean 'medical/icd-chapter'?" in said.err


def test_a_bug_exits_with_1_and_shows_its_trace_only_with_debug(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("nothing to divide by")

    monkeypatch.setattr("vertical_sdk.recipe.recipe_names", broken)

    assert main(["recipe", "list"]) == 1
    said = capsys.readouterr().err
    assert "ZeroDivisionError: nothing to divide by" in said
    assert "--debug" in said
    assert "Traceback" not in said
    assert main(["recipe", "list", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_new_recipe_passes_its_check_and_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_csv(tmp_path / "it's: rows.csv", topic_rows(9), ("what happened", "kind"))
    words = ["recipe", "new", "own/my-task", "--data", str(data), "--text", "what happened", "--label", "kind", "--json"]

    assert main(words) == 0

    path = Path(document(capsys)["recipe"])
    recipe = load_recipe(path)
    assert recipe.name == "own/my-task"
    assert recipe.data.source == str(data)
    assert recipe.data.columns == {"text": "what happened", "label": "kind"}
    written = path.read_text()
    assert main(words) == 9
    assert "exists already" in document(capsys)["error"]["message"]
    assert path.read_text() == written


@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_a_new_recipe_has_the_default_gate_and_baselines_that_can_be_measured(
    task: str, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(text, str(len(text)) if task == "regression" else label) for text, label in topic_rows(9)]
    data = write_csv(tmp_path / "rows.csv", rows)

    assert main(["recipe", "new", "my-task", "--data", str(data), "--task", task, "--base", str(encoder), "--json"]) == 0

    evaluate = load_recipe(document(capsys)["recipe"]).evaluate
    assert isinstance(evaluate.gate, Gate)
    assert evaluate.gate.beats is None  # it compares with the best
    assert [part.use for part in evaluate.baselines] == ["base" if task == "classification" else "majority", "tfidf"]


def test_columns_with_common_names_are_detected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_csv(tmp_path / "rows.csv", topic_rows(9))

    assert main(["recipe", "new", "my-task", "--data", str(data), "--json"]) == 0
    assert document(capsys)["columns"] == {"text": "text", "label": "label"}


def test_a_recipe_is_shown_with_its_defaults_and_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe", "show", "medical/icd-chapter", "--set", "train.seed=7", "--json"]) == 0

    shown = document(capsys)
    digest = shown.pop("digest")
    assert shown["train"]["seed"] == 7
    assert Recipe.model_validate(shown).digest == digest


def test_a_shown_recipe_is_yaml_with_the_same_digest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe", "show", "medical/icd-chapter"]) == 0

    path = tmp_path / "again.yaml"
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    assert load_recipe(path).digest == load_recipe("medical/icd-chapter").digest


def test_checking_several_recipes_reports_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("nome: x\n", encoding="utf-8")

    assert main(["recipe", "check", "medical/icd-chapter", str(bad), "--json"]) == 2

    first, second = document(capsys)
    assert first["ok"]
    assert not second["ok"]
    assert "Did you mean 'name'?" in second["problem"]


def test_the_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe", "schema"]) == 0
    assert "extends" in document(capsys)["properties"]


def test_a_file_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_csv(tmp_path / "rows.csv", topic_rows(12))

    assert main(["data", "check", str(data), "--json"]) == 0
    result = document(capsys)
    assert result["rows"] == 12
    assert result["labels"] == {"skin": 4, "lung": 4, "heart": 4}
    assert main(["data", "check", str(data)]) == 0
    assert "skin 4" in capsys.readouterr().out


def test_the_first_rows_of_a_file_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_csv(tmp_path / "rows.csv", [("[red]spots[/red]", "skin"), ("cough", "lung")])

    assert main(["data", "show", str(data), "--rows", "1"]) == 0

    shown = capsys.readouterr().out
    assert "[red]spots[/red]" in shown
    assert "cough" not in shown


def test_bases_are_listed_without_a_download(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    assert main(["base", "list", "--json"]) == 0

    bases = {base["name"]: base for base in document(capsys)}
    assert bases["minilm-l6"]["family"] == "encoder"
    assert not (home / "cache").exists()


def test_the_doctor_reports_this_machine(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    assert main(["doctor", "--json"]) == 0

    result = document(capsys)
    assert result["python"] == sys.version.split()[0]
    assert result["packages"]["torch"]
    assert result["cache"]["folder"] == str(home / "cache")
    assert result["registry"]["writable"]
    assert {base["name"] for base in result["bases"]} == {*base_names()}
    assert not home.exists()


def test_the_doctor_reports_a_registry_that_is_not_writable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")

    assert main(["doctor", "--registry", str(blocked / "registry"), "--json"]) == 0

    result = document(capsys)
    assert not result["registry"]["writable"]
    assert any("registry" in problem for problem in result["problems"])


def test_an_empty_registry_lists_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["registry", "list", "--json"]) == 0
    assert document(capsys) == []


def test_output_of_libraries_goes_to_stderr(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def noisy() -> list[str]:
        print("a library that talks")
        return []

    monkeypatch.setattr("vertical_sdk.recipe.recipe_names", noisy)

    assert main(["recipe", "list", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == []
    assert "a library that talks" in said.err


def test_closing_the_output_early_is_not_an_error() -> None:
    command = subprocess.Popen([*HERE, "recipe", "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert command.stdout is not None
    command.stdout.close()

    _, said = command.communicate(timeout=60)

    assert said == ""
    assert command.returncode == 141


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_exits_with_130_and_shows_how_to_continue(tmp_path: Path) -> None:
    recipe = tmp_path / "waits.yaml"
    words = ["train", str(recipe), "--set", "train.seed=3"]
    with socket.create_server(("127.0.0.1", 0)) as server:  # takes the call and never answers
        server.settimeout(120)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/rows.csv"
        recipe.write_text(f"name: waits\ntask: classification\ndata: {{source: '{address}'}}\n", encoding="utf-8")
        command = subprocess.Popen([*HERE, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
        with server.accept()[0]:
            command.send_signal(signal.SIGINT)
            out, said = command.communicate(timeout=60)

    assert command.returncode == 130, said
    assert out == ""
    assert f"vertical train {recipe} --set=train.seed=3 --resume" in said


def test_only_main_is_public() -> None:
    assert cli.__all__ == ["main"]
