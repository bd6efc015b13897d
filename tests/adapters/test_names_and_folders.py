"""A text names a folder or a version in the registry by how it is written, whatever the working folder contains."""

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
        return ["entry"] if reference.name == "my-team" else []

    def resolve(self, reference: str, *, allow_revoked: Any = ()) -> OneVersion:
        if self.offline:
            raise OfflineError("cannot be reached.")
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
def test_a_folder_of_the_same_name_does_not_hide_a_version(registry: Any, name: str) -> None:
    make_run(Path(name))

    assert find_adapter(name, registry) == registry.path


def test_a_path_names_a_folder_although_a_version_has_its_name(registry: Any) -> None:
    adapter = make_run(Path("my-team"))

    assert find_adapter("./my-team", registry) == adapter
    assert find_adapter(Path("my-team"), registry) == adapter
    assert find_adapter(str(Path("my-team").absolute()), registry) == adapter.absolute()


def test_a_run_in_runs_is_found_without_a_dot(registry: Any) -> None:
    adapter = make_run(Path("runs/my-team-1"))

    assert find_adapter("runs/my-team-1", registry) == adapter
    assert find_adapter("runs/my-team-1/adapter", registry) == adapter


@pytest.mark.parametrize("name", ["other", "out/other", "Out/Other/run", "other@latest"])
def test_a_folder_without_a_dot_is_refused_with_how_to_write_it(registry: Any, name: str) -> None:
    make_run(Path(name))

    with pytest.raises(RegistryError, match=rf"A folder of this name is here; to load it, write \./{name}\."):
        find_adapter(name, registry)


def test_a_registry_that_cannot_be_reached_is_not_replaced_by_a_folder(tmp_path: Path) -> None:
    make_run(Path("my-team"))
    away: Any = OneVersion(tmp_path, offline=True)

    with pytest.raises(OfflineError, match="cannot be reached"):
        find_adapter("my-team", away)


def test_a_folder_without_an_adapter_is_refused(registry: Any) -> None:
    Path("other").mkdir()

    with pytest.raises(AdapterError, match="other: this folder is neither a run nor an adapter"):
        find_adapter("./other", registry)
    with pytest.raises(AdapterError, match="this folder does not exist"):
        find_adapter("./gone", registry)
    with pytest.raises(RegistryError, match="'gone'"):
        find_adapter("gone", registry)


def test_a_path_may_begin_at_the_home_folder(registry: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    adapter = make_run(tmp_path / "runs" / "first")

    assert find_adapter("~/runs/first", registry) == adapter
