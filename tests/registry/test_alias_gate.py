"""What may carry an alias: a version that passed its gate. Everything else needs force and a reason, which are recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vertical_sdk.card import Verdict
from vertical_sdk.cli import main
from vertical_sdk.errors import GateFailed, RegistryError
from vertical_sdk.registry import Registry
from vertical_sdk.registry.aliases import rollback
from vertical_sdk.registry.bundle import bundle, unbundle
from vertical_sdk.registry.copying import copy_versions
from vertical_sdk.registry.policy import Policy

NAME = "medical/triage"
FAILED = Verdict(passed=False, reasons=("worse",))


@pytest.fixture
def registry(tmp_path: Path, make_adapter: Any) -> Registry:
    """Version 1 passed its gate, 2 failed it, 3 has none, 4 was never evaluated."""
    registry = Registry(tmp_path / "registry")
    registry.publish(make_adapter(1))
    registry.publish(make_adapter(2, verdict=FAILED), force=True, reason="a demonstration")
    registry.publish(make_adapter(3, verdict=None, gate=False))
    registry.publish(make_adapter(4, verdict=None, gate=None), force=True, reason="a trial")
    return registry


def test_versions_say_how_they_came_past_their_gate(registry: Registry) -> None:
    versions = [(v.gate, v.forced, v.card.forced) for v in registry.versions(NAME)]

    assert versions == [
        ("passed", False, None),
        ("failed", True, "a demonstration"),
        ("ungated", False, None),
        ("not evaluated", True, "a trial"),
    ]


@pytest.mark.parametrize(
    ("number", "problem"),
    [(2, "failed its gate"), (3, r"has no gate \(ungated\)"), (4, "was not evaluated by its gate")],
)
def test_an_alias_moves_to_a_version_that_did_not_pass_only_by_force(registry: Registry, number: int, problem: str) -> None:
    registry.set_alias(NAME, "production", 1)

    with pytest.raises(GateFailed, match=rf"{NAME}@{number} {problem}, so the alias 'production' does not move to it"):
        registry.set_alias(NAME, "production", number, why="it is urgent")
    with pytest.raises(RegistryError, match="moving an alias by force needs a reason"):
        registry.set_alias(NAME, "production", number, force=True, why="  ")
    assert registry.resolve(f"{NAME}@production").number == 1

    registry.set_alias(NAME, "production", number, force=True, why="it is urgent")

    event = registry.history(NAME)[-1]
    assert (event.action, event.after, event.why) == ("alias by force", number, "it is urgent")


def test_force_is_recorded_only_if_it_was_needed(registry: Registry) -> None:
    registry.set_alias(NAME, "production", 1, force=True, why="to be sure")

    assert registry.history(NAME)[-1].action == "alias"


def test_an_alias_of_a_version_on_trial_is_free(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.set_alias(NAME, "candidate", 2)
    with pytest.raises(GateFailed):
        registry.set_alias(NAME, "qa", 2)

    monkeypatch.setenv("VERTICAL_FREE_ALIASES", "qa, demo")
    other = Registry(registry.location)
    other.set_alias(NAME, "qa", 2)
    with pytest.raises(GateFailed):
        other.set_alias(NAME, "candidate", 3)
    monkeypatch.setenv("VERTICAL_FREE_ALIASES", "")
    assert Policy.from_environment().free_aliases == ()


def test_force_without_a_reason_publishes_nothing(tmp_path: Path, make_adapter: Any) -> None:
    registry = Registry(tmp_path / "empty")

    for reason in ("", " \n"):
        with pytest.raises(RegistryError, match=r"publishing by force needs a reason.*--reason TEXT"):
            registry.publish(make_adapter(1, verdict=FAILED, folder=tmp_path / repr(reason)), force=True, reason=reason)

    assert registry.list_adapters() == []


def test_publishing_with_an_alias_that_may_not_move_publishes_nothing(tmp_path: Path, make_adapter: Any) -> None:
    registry = Registry(tmp_path / "empty")
    adapter = make_adapter(1, verdict=None, gate=False)

    with pytest.raises(GateFailed, match="so the alias 'production' does not move to it"):
        registry.publish(adapter, alias="production")
    assert registry.list_adapters() == []

    assert registry.publish(adapter, alias="candidate").aliases == ("candidate",)
    forced = registry.publish(adapter, alias="production", force=True, reason="a pilot")
    assert (forced.number, forced.aliases, forced.forced) == (1, ("candidate", "production"), False)
    assert registry.history(NAME)[-1].action == "alias by force"


def test_a_rollback_to_a_version_that_did_not_pass_needs_force(registry: Registry) -> None:
    registry.set_alias(NAME, "production", 2, force=True, why="a pilot")
    registry.set_alias(NAME, "production", 1)

    with pytest.raises(GateFailed, match=f"{NAME}@2 failed its gate"):
        rollback(registry, NAME, "production", why="it is slow")
    assert registry.resolve(f"{NAME}@production").number == 1

    assert rollback(registry, NAME, "production", force=True, why="it is slow").after == 2
    assert registry.history(NAME)[-1].action == "rollback by force"
    with pytest.raises(RegistryError, match="cannot be rolled back"):  # never forward to the version rolled back from
        rollback(registry, NAME, "production", force=True, why="again")


def test_a_copy_carries_a_forced_alias_and_says_so(registry: Registry, tmp_path: Path) -> None:
    registry.set_alias(NAME, "production", 2, force=True, why="a pilot")
    target, unbundled = Registry(tmp_path / "copy"), Registry(tmp_path / "unbundled")

    copy_versions(registry, target)
    bundle(registry, [f"{NAME}@production", f"{NAME}@3"], tmp_path / "all.zip")
    unbundle(tmp_path / "all.zip", unbundled, trust_notes=True)

    event = next(event for event in target.history(NAME) if event.alias == "production")
    assert (event.action, event.after) == ("alias by force", 2)
    assert event.why.startswith("copied from ")
    assert [version.gate for version in target.versions(NAME)] == ["passed", "failed", "ungated", "not evaluated"]
    assert [version.gate for version in unbundled.versions(NAME)] == ["failed", "ungated"]


def test_lists_mark_forced_and_ungated_versions(
    registry: Registry, make_adapter: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    registry.publish(make_adapter(5, name="legal/notes", verdict=None, gate=False))
    at = ["--registry", registry.location]

    assert main(["registry", "list", *at]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if NAME in line).rstrip().endswith("not evaluated, forced")
    assert next(line for line in lines if "legal/notes" in line).rstrip().endswith("ungated")
    assert main(["registry", "list", "--json", *at]) == 0
    assert [(row["gate"], row["forced"]) for row in json.loads(capsys.readouterr().out)] == [
        ("ungated", False),
        ("not evaluated", True),
    ]
    assert main(["registry", "show", f"{NAME}@2", *at]) == 0
    shown = capsys.readouterr().out
    assert "failed, forced" in shown
    assert "a demonstration" in shown


def test_the_command_refuses_and_forces_like_the_registry(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["registry", "alias", NAME, "production", "2", "--registry", registry.location]

    assert main(words) == 8
    assert "--force --reason TEXT" in capsys.readouterr().err
    assert main([*words, "--force"]) == 7
    assert "needs a reason" in capsys.readouterr().err
    assert main([*words, "--force", "--reason", "a pilot"]) == 0
    assert registry.resolve(f"{NAME}@production").number == 2
