"""The guide docs/write-a-vertical.md works as printed: its files are created, and its commands and code run."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import save_encoder

from vertical_sdk.cli import main

GUIDE = Path(__file__).parent.parent / "docs" / "write-a-vertical.md"
FILE = re.compile(r"^`([\w./-]+)`\n\n```\w+\n(.*?)^```", re.DOTALL | re.MULTILINE)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the guide. Its base is a tiny one on the disk that knows its words, instead of a download."""
    folder = tmp_path_factory.mktemp("telecom")
    text = GUIDE.read_text(encoding="utf-8")
    encoder = save_encoder(tmp_path_factory.mktemp("base"), vocabulary=sorted({",", *re.findall("[a-z]+", text.lower())}))
    for name, content in FILE.findall(text):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content.replace("base: minilm-l6", f"base: {encoder}"), encoding="utf-8")
    return folder


@pytest.fixture
def run_command(package: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """Run one command of the guide in its folder, and return what it prints.

    pip installs the package into a folder of the test, without asking a package index; `vertical` runs in this process, with that
    folder on its path.
    """
    site = package / "site"
    monkeypatch.chdir(package)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("COLUMNS", "200")

    def run(command: str) -> str:
        words = shlex.split(command)
        if words[0] == "vertical":
            importlib.invalidate_caches()
            assert main(words[1:]) == 0, command
        else:
            more = ["--quiet", "--no-deps", "--no-build-isolation", "--target", str(site)] if "pip" in words else []
            subprocess.run([sys.executable, *words[1:], *more], check=True, timeout=120)
        captured = capfd.readouterr()
        return captured.out + captured.err

    return run


def test_the_guide_runs_from_install_to_prediction(run_command: Callable[[str], str], package: Path) -> None:
    text = GUIDE.read_text(encoding="utf-8")
    commands = "".join(content for kind, content in BLOCK.findall(text) if kind == "console").splitlines()

    outputs = {command: run_command(command) for command in commands}

    assert [command.split()[:3] for command in outputs] == [
        ["python", "-m", "pip"],
        ["python", "make_tickets.py"],
        ["vertical", "recipe", "check"],
        ["vertical", "data", "show"],
        ["vertical", "train", "telecom/ticket-team"],
        ["vertical", "registry", "publish"],
        ["vertical", "predict", "telecom/ticket-team@1"],
    ]
    assert "signature removed" in outputs["vertical data show telecom/ticket-team"]
    assert any(team in list(outputs.values())[-1] for team in ("outage", "billing", "contract"))


def test_the_part_tests_of_the_guide_pass(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = [content for kind, content in BLOCK.findall(GUIDE.read_text(encoding="utf-8")) if kind == "python"][-1]
    monkeypatch.syspath_prepend(package)

    exec(compile(code, "write-a-vertical.md", "exec"), {})
