"""What an enemy's bundle says besides its files: revocations, aliases, tags and users of a registry that it does not know."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from registry.conftest import write_adapter

from vertical_sdk.cli import main
from vertical_sdk.errors import RegistryError
from vertical_sdk.registry import Registry
from vertical_sdk.registry.bundle import bundle, unbundle
from vertical_sdk.registry.copying import copy_versions

ESCAPE = "\x1b]52;c;cm0gLXJm\x07"


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """A registry with version 1 of medical/triage in production."""
    registry = Registry(tmp_path / "registry")
    registry.publish(write_adapter(tmp_path / "good"), alias="production")
    return registry


@pytest.fixture
def hostile(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle that revokes the version in production, and brings another one that claims its alias."""
    enemy = Registry(tmp_path / "enemy")
    monkeypatch.setenv("VERTICAL_USER", "root")
    copy_versions(registry, enemy)
    enemy.tag("medical/triage", 1, {"stage": f"withdrawn{ESCAPE}"})
    enemy.revoke("medical/triage@1", f"kills patients{ESCAPE}")
    enemy.publish(write_adapter(tmp_path / "bad", 2), alias="production", tags={"approved": "by the board"})
    monkeypatch.setenv("VERTICAL_USER", "ada")
    file = tmp_path / "bundle.zip"
    bundle(enemy, ["medical/triage@1", "medical/triage@2"], file, allow_revoked=["medical/triage@1"])
    return file


def test_only_files_reasons_and_numbers_of_a_bundle_are_taken(registry: Registry, hostile: Path) -> None:
    report = unbundle(hostile, registry)

    live = registry.resolve("medical/triage@production")
    assert (live.number, live.revoked, live.tags) == (1, None, {})
    new = registry.resolve("medical/triage@2")
    assert (new.who, new.tags, new.aliases) == ("ada", {}, ())
    event = registry.history("medical/triage")[-1]
    assert (event.who, event.action) == ("ada", "publish")
    assert "copied from the bundle bundle.zip (medical/triage@2), which says: published by root" in event.why
    assert report.aliases == ()
    said = " ".join(report.notes)
    for note in ("revoked: kills patients", "the tag stage=withdrawn", "the alias production", "the tag approved=by the board"):
        assert note in said
    with pytest.raises(RegistryError, match="--trust-notes"):
        unbundle(hostile, registry, overwrite_aliases=True)


def test_notes_are_listed_without_control_characters(
    registry: Registry, hostile: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["registry", "unbundle", str(hostile), "--registry", registry.location]) == 0
    shown = capsys.readouterr()
    assert "it was not taken: revoked: kills patients\\x1b]52" in shown.err
    assert "\x1b" not in shown.out + shown.err

    assert main(["registry", "unbundle", str(hostile), "--registry", registry.location, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["notes"]) == 2


def test_notes_of_a_trusted_bundle_are_taken_on_request(registry: Registry, hostile: Path) -> None:
    report = unbundle(hostile, registry, trust_notes=True, overwrite_aliases=True)

    assert report.notes == ()
    assert registry.resolve("medical/triage@production").number == 2
    assert registry.resolve("medical/triage@2").who == "root"
    assert registry.resolve("medical/triage@1", check=False).revoked == f"kills patients{ESCAPE}"
