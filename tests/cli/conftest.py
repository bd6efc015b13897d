"""One trained run for all tests of the command line that only read it."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import topic_recipe

from vertical_sdk.cli import main


@pytest.fixture(autouse=True)
def _no_index(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a package index, unless the test is marked `network`: a new recipe would fetch a base to read the texts with."""
    if request.node.get_closest_marker("network") is None:
        monkeypatch.setenv("PIP_NO_INDEX", "1")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """A run of `vertical train` whose gate passed."""
    folder = tmp_path_factory.mktemp("trained")
    assert main(["train", str(topic_recipe(folder, encoder)), "--out", str(folder / "run")]) == 0
    return folder / "run"
