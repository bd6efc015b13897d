"""What a refusal is: the exit code of its kind, one message, no traceback, and nothing left behind."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from vertical_sdk.cli.app import main
from vertical_sdk.paths import file_digest

__all__ = ["Opened", "Refused", "asked", "contents", "refused"]

Refused = Callable[[Sequence[str], int], str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs a command line that must end with a code, and gives its message; it leaves no run behind."""

    def run(words: Sequence[str], code: int) -> str:
        capsys.readouterr()
        ended = main([*words, "--json"])
        said = capsys.readouterr()
        assert ended == code, said
        error = json.loads(said.out)["error"]
        assert error["exit_code"] == code
        assert error["message"] in said.err
        assert "Traceback" not in said.err
        assert not list(Path.cwd().glob("runs/*"))
        return str(error["message"])

    return run


def asked(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> object:
    """The document that a command line which must succeed writes."""
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def contents(folder: Path) -> dict[str, str]:
    """Path → digest of every file below, but for locks."""
    return {
        path.relative_to(folder).as_posix(): file_digest(path)
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock" and path.name != ".lock"
    }


class Opened:
    """What a pickle can do: it makes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)
