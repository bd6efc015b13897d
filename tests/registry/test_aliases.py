from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from vertical_sdk.errors import CorruptAdapter, RegistryError
from vertical_sdk.registry import Registry
from vertical_sdk.registry.aliases import Move, rollback

MakeAdapter = Callable[..., Path]
NAME = "medical/triage"


@pytest.fixture
def registry(tmp_path: Path, make_adapter: MakeAdapter) -> Registry:
    """Three versions, each of which was in production after the other."""
    registry = Registry(tmp_path / "store")
    for seed in range(3):
        registry.set_alias(NAME, "production", registry.publish(make_adapter(seed)).number)
    return registry


def stands(registry: Registry) -> int:
    return registry.resolve(f"{NAME}@production", check=False).number


def test_rolling_back_goes_one_back_each_time_and_says_so(registry: Registry) -> None:
    assert rollback(registry, NAME, "production", why="it raves") == Move(NAME, "production", 3, 2)

    event = registry.history(NAME)[-1]
    assert (event.action, event.before, event.after, event.why) == ("rollback", 3, 2, "it raves")
    assert json.loads(event.evidence) == {"from": 3, "to": 2, "skipped_as_revoked": []}
    assert rollback(registry, NAME, "production").after == stands(registry) == 1
    with pytest.raises(RegistryError, match="cannot go back: before version 1 it stood nowhere"):
        rollback(registry, NAME, "production")
    assert registry.verify() == []


def test_what_was_promoted_after_a_rollback_goes_back_to_where_that_led(registry: Registry) -> None:
    rollback(registry, NAME, "production")
    registry.set_alias(NAME, "production", 1)

    assert [rollback(registry, NAME, "production").after for _ in range(2)] == [2, 1]


def test_revoked_versions_are_passed_over(registry: Registry) -> None:
    registry.revoke(f"{NAME}@2", "it raves")

    assert rollback(registry, NAME, "production") == Move(NAME, "production", 3, 1, (2,))


def test_without_a_version_that_may_be_used_the_alias_stays(registry: Registry) -> None:
    registry.revoke(f"{NAME}@1", "it raves")
    registry.revoke(f"{NAME}@2", "it raves too")

    with pytest.raises(RegistryError, match="stood nowhere but at 2, 1, revoked since"):
        rollback(registry, NAME, "production")
    assert stands(registry) == 3


def test_a_version_that_has_changed_is_no_place_to_go_back_to(registry: Registry) -> None:
    file = registry.resolve(f"{NAME}@2").path / "adapter_model.safetensors"
    file.chmod(0o644)
    file.write_bytes(file.read_bytes() + b"?")

    with pytest.raises(CorruptAdapter, match="adapter_model"):
        rollback(registry, NAME, "production")
    assert stands(registry) == 3


def test_an_alias_that_was_taken_away_and_put_back_goes_back_past_that(registry: Registry) -> None:
    registry.delete_alias(NAME, "production")
    with pytest.raises(RegistryError, match="no such alias"):
        rollback(registry, NAME, "production")
    registry.set_alias(NAME, "production", 1)

    assert rollback(registry, NAME, "production").after == 3


def test_other_aliases_stay_where_they_are(registry: Registry) -> None:
    registry.set_alias(NAME, "canary", 3)

    rollback(registry, NAME, "production")

    assert registry.resolve(f"{NAME}@canary").number == 3
    with pytest.raises(RegistryError, match="cannot go back"):
        rollback(registry, NAME, "canary")
