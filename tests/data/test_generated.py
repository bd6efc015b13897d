from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from vertical_sdk.data.generated import build_once
from vertical_sdk.data.settings import read_settings
from vertical_sdk.errors import DataError


class Wanted(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    cars: int
    names: tuple[str, ...] = ()


def test_files_are_built_once_for_equal_settings(home: Path) -> None:
    calls: list[int] = []

    def make(folder: Path) -> None:
        calls.append(1)
        (folder / "a.txt").write_text(f"{len(calls)}")

    first = build_once("toys", {"a": 1, "b": 2}, make)
    again = build_once("toys", {"b": 2, "a": 1}, make)
    other = build_once("toys", {"a": 2, "b": 2}, make)

    assert first == again != other
    assert ((first / "a.txt").read_text(), (other / "a.txt").read_text()) == ("1", "2")
    assert first.is_relative_to(home / "cache" / "toys")


def test_a_failed_build_is_not_cached(home: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half.txt").write_text("half")
        raise DataError("no")

    with pytest.raises(DataError):
        build_once("toys", {}, fail)

    assert [path for path in (home / "cache" / "toys").iterdir() if not path.name.endswith(".lock")] == []


def test_a_file_that_was_cut_is_made_again() -> None:
    folder = build_once("toys", {}, lambda target: (target / "a.txt").write_text("whole") and None)
    (folder / "a.txt").write_text("wh")

    again = build_once("toys", {}, lambda target: (target / "a.txt").write_text("whole") and None)

    assert (again / "a.txt").read_text() == "whole"


def test_settings_are_read_by_their_schema(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("cars: 3\nnames: [no, on]\n")

    assert read_settings(path, Wanted) == Wanted(cars=3, names=("no", "on"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cars: many", "cars = 'many' is wrong"),
        ("carz: 3\ncars: 3", "unknown key 'carz'"),
        ("names: []", "cars is missing"),
        ("- cars", "Write a YAML mapping with cars, names"),
        ("cars: [", "not plain YAML"),
        ("", "Write a YAML mapping"),
    ],
)
def test_settings_that_are_wrong_are_refused_with_file_and_key(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text)

    with pytest.raises(DataError, match=r"s\.yaml") as caught:
        read_settings(path, Wanted)

    assert says in str(caught.value)


def test_settings_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(DataError, match="cannot be read"):
        read_settings(tmp_path / "s.yaml", Wanted)
