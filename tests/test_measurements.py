"""What is measured once is kept, and a file of kept results that is damaged or cannot be written stops nothing."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from vertical_sdk.measurements import measure_once
from vertical_sdk.paths import cache_home


def _never() -> float:
    pytest.fail("measured again")


def test_a_measurement_is_made_once() -> None:
    assert measure_once("speeds.json", "a", lambda: 1.5, float) == 1.5

    assert measure_once("speeds.json", "a", _never, float) == 1.5
    assert measure_once("speeds.json", "b", lambda: 2.5, float) == 2.5
    assert json.loads((cache_home() / "speeds.json").read_text()) == {"a": 1.5, "b": 2.5}


@pytest.mark.parametrize("content", ["{", "[1]", "3", '{"a": "fast"}', '{"a": null}', "\x00\xff"])
def test_a_damaged_file_is_written_again(content: str) -> None:
    file = cache_home() / "speeds.json"
    file.parent.mkdir(parents=True)
    file.write_text(content)

    assert measure_once("speeds.json", "a", lambda: 1.5, float) == 1.5
    assert json.loads(file.read_text()) == {"a": 1.5}


def test_the_newest_are_kept() -> None:
    for number in range(5):
        measure_once("speeds.json", str(number), lambda number=number: number, float, most=3)  # type: ignore[misc]

    assert json.loads((cache_home() / "speeds.json").read_text()) == {"2": 2, "3": 3, "4": 4}


def test_a_folder_that_cannot_be_written_stops_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VERTICAL_HOME", str(tmp_path / "file"))

    assert measure_once("speeds.json", "a", lambda: 1.5, float) == 1.5


def test_a_full_disk_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    fsync: Callable[[int], None] = os.fsync
    monkeypatch.setattr(os, "fsync", full)
    assert measure_once("speeds.json", "a", lambda: 1.5, float) == 1.5
    monkeypatch.setattr(os, "fsync", fsync)

    assert measure_once("speeds.json", "a", lambda: 2.5, float) == 2.5
