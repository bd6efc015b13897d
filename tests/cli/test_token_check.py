"""`data check` says what a base can read of a file's texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import topic_recipe, write_csv

from vertical_sdk.cli.app import main


def check(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["data", "check", *words, "--json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Ten texts: one of 70 tokens and its [CLS] and [SEP], two with [SEP] in them, and one of words that no base of ours knows."""
    texts = ["rash on skin"] * 6 + ["fever [SEP] cough", "lung [SEP]", "rash " * 70, "痛み 発熱"]
    return write_csv(tmp_path / "rows.csv", [(text, "a" if n % 2 else "b") for n, text in enumerate(texts)])


def test_a_named_base_is_looked_at(file: Path, encoder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = check(capsys, str(file), "--base", str(encoder))

    assert result["tokens"] == {
        "base": str(encoder),
        "longest": 72,
        "max_length": 64,
        "longer": 1,
        "unknown": round((3 / 5 + 3 / 4 + 1) / 10, 4),  # [, sep and ] are three words that it does not know
        "control": 2,
        "least_known": "11",
    }
    problems = {problem["problem"]: problem["severity"] for problem in result["problems"]}
    unknown = next(text for text in problems if "does not know 24%" in text)
    longer = next(text for text in problems if "1 of 10 texts are longer than 64 tokens" in text)
    control = next(text for text in problems if "2 texts contain control tokens" in text)
    assert [problems[text] for text in (unknown, longer, control)] == ["error", "error", "note"]
    assert "data.limits.truncated: 0.1." in longer


def test_the_limits_of_a_recipe_apply(file: Path, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limits = {"unknown": 0.3, "truncated": 0.2}
    recipe = topic_recipe(tmp_path, encoder, data__max_length=16, data__limits=limits)

    result = check(capsys, str(file), "--recipe", str(recipe))

    assert (result["tokens"]["max_length"], result["tokens"]["longer"]) == (16, 1)
    problems = {problem["problem"]: problem["severity"] for problem in result["problems"]}
    assert [severity for text, severity in problems.items() if "does not know 23.5%" in text] == ["warning"]
    assert not any("longer than" in text for text in problems)


def test_a_recipe_s_base_is_not_downloaded_for_a_check(
    file: Path, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = topic_recipe(tmp_path, Path("minilm-l6"))

    result = check(capsys, str(file), "--recipe", str(recipe))

    assert result["tokens"] == "not checked: minilm-l6 is not on this machine. Run vertical base pull minilm-l6"
    assert not (home / "wheels").exists()


def test_without_a_base_no_tokens_are_counted(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(capsys, str(file))["tokens"] == {}


def test_bases_are_listed_with_what_they_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["base", "list"]) == 0

    lines = {line.split()[0]: " ".join(line.split()) for line in capsys.readouterr().out.splitlines() if "tokens" in line}
    assert lines["minilm-l6"] == "minilm-l6 512 tokens en es de fr ar ru hi zh ja ko th"
    assert lines["smollm2-135m"] == "smollm2-135m 8192 tokens en es de fr zh ar ru ja ko th hi"


def test_a_pulled_base_says_what_it_reads(causal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["base", "pull", str(causal), "--json"]) == 0

    reads = json.loads(capsys.readouterr().out)["reads"]
    assert reads["en"] == {"unknown": 0.0, "tokens": 1.0}
    assert all(item["unknown"] == 0 for item in reads.values())
    assert (
        reads["zh"]["tokens"] < 1 < reads["th"]["tokens"]
    )  # a token is a byte: Chinese has few characters of three bytes each
