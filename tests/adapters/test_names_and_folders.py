"""A text names a folder or a version in the registry; one never hides the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vertical_sdk.adapters.folder import find_adapter
from vertical_sdk.errors import AdapterError, OfflineError, RegistryError


class OneVersion:
    """A registry in which only "my-team" is published, as version 1."""

    def __init__(self, place: Path, *, offline: bool = False) -> None:
        self.path, self.store, self.offline = place, self, offline

    def find(self, reference: Any) -> list[str]:
        if self.offline:
            raise OfflineError("cannot be reached.")
        return ["entry"] if reference.name == "my-team" and reference.version in {None, 1} else []

    def resolve(self, reference: str, *, allow_revoked: Any = ()) -> OneVersion:
        if not reference.startswith("my-team"):
            raise RegistryError(f"no adapter is called {reference!r}.")
        return self


@pytest.fixture
def registry(tmp_path: Path) -> OneVersion:
    return OneVersion(tmp_path / "published")


def make_run(folder: Path) -> Path:
    (folder / "adapter").mkdir(parents=True)
    (folder / "adapter" / "vertical.json").write_text("{}")
    return folder / "adapter"


@pytest.mark.parametrize("name", ["my-team", "my-team@1"])
def test_a_folder_of_other_things_does_not_hide_a_version(registry: Any, name: str) -> None:
    Path(name).mkdir()

    assert find_adapter(name, registry) == registry.path


def test_a_file_does_not_hide_a_version(registry: Any) -> None:
    Path("my-team").write_text("notes")

    assert find_adapter("my-team", registry) == registry.path


def test_a_run_of_the_same_name_is_refused_with_both_ways_to_write_it(registry: Any) -> None:
    adapter = make_run(Path("my-team"))

    with pytest.raises(AdapterError, match=r"'my-team' is a folder here and a name in the registry\. Write \./my-team"):
        find_adapter("my-team", registry)
    assert find_adapter("./my-team", registry) == adapter
    assert find_adapter(Path("my-team"), registry) == adapter
    assert find_adapter(str(Path("my-team").absolute()), registry) == adapter.absolute()


def test_a_run_that_the_registry_does_not_name_is_found(registry: Any) -> None:
    adapter = make_run(Path("runs/my-team-1"))

    assert find_adapter("runs/my-team-1", registry) == adapter
    assert find_adapter("runs/my-team-1/adapter", registry) == adapter


def test_a_run_is_found_while_the_registry_cannot_be_reached(tmp_path: Path) -> None:
    adapter = make_run(Path("my-team"))
    away: Any = OneVersion(tmp_path, offline=True)

    assert find_adapter("my-team", away) == adapter


def test_a_folder_that_is_neither_is_refused(registry: Any) -> None:
    Path("other").mkdir()

    with pytest.raises(AdapterError, match="other: this folder is neither a run nor an adapter"):
        find_adapter("other", registry)
    with pytest.raises(AdapterError, match="this folder does not exist"):
        find_adapter("./gone", registry)
    with pytest.raises(RegistryError, match="'gone'"):
        find_adapter("gone", registry)


def test_a_path_may_begin_at_the_home_folder(registry: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    adapter = make_run(tmp_path / "runs" / "first")

    assert find_adapter("~/runs/first", registry) == adapter
