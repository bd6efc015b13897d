"""What a refusal is: the exit code of its kind, one message, no traceback, and nothing left behind."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from vertical_sdk.cli.app import main
from vertical_sdk.paths import file_digest

__all__ = ["Opened", "Refused", "contents", "refused", "run_json"]

Refused = Callable[[Sequence[str], int], str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs a command line that must end with a code, and returns its message. No run may be left over."""

    def run(words: Sequence[str], code: int) -> str:
        capsys.readouterr()
        exit_code = main([*words, "--json"])
        output = capsys.readouterr()
        assert exit_code == code, output
        error = json.loads(output.out)["error"]
        assert error["exit_code"] == code
        assert error["message"] in output.err
        assert "Traceback" not in output.err
        assert not list(Path.cwd().glob("runs/*"))
        return str(error["message"])

    return run


def run_json(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> object:
    """Run a command line that must succeed, and return the document that it writes."""
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def contents(folder: Path) -> dict[str, str]:
    """Map the path of every file below to its digest, except locks."""
    return {
        path.relative_to(folder).as_posix(): file_digest(path)
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock" and path.name != ".lock"
    }


class Opened:
    """A pickle that creates a folder when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)
