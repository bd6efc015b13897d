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
    """A registry with three versions that were in production one after the other."""
    registry = Registry(tmp_path / "store")
    for seed in range(3):
        registry.set_alias(NAME, "production", registry.publish(make_adapter(seed)).number)
    return registry


def current_version(registry: Registry) -> int:
    return registry.resolve(f"{NAME}@production", check=False).number


def test_each_rollback_goes_one_version_back_and_is_logged(registry: Registry) -> None:
    assert rollback(registry, NAME, "production", why="it raves") == Move(NAME, "production", 3, 2)

    event = registry.history(NAME)[-1]
    assert (event.action, event.before, event.after, event.why) == ("rollback", 3, 2, "it raves")
    assert json.loads(event.evidence) == {"from": 3, "to": 2, "skipped_as_revoked": []}
    assert rollback(registry, NAME, "production").after == current_version(registry) == 1
    with pytest.raises(RegistryError, match="cannot be rolled back: it pointed at no version before 1"):
        rollback(registry, NAME, "production")
    assert registry.verify() == []


def test_a_version_promoted_after_a_rollback_rolls_back_to_its_target(registry: Registry) -> None:
    rollback(registry, NAME, "production")
    registry.set_alias(NAME, "production", 1)

    assert [rollback(registry, NAME, "production").after for _ in range(2)] == [2, 1]


def test_a_rollback_skips_revoked_versions(registry: Registry) -> None:
    registry.revoke(f"{NAME}@2", "it raves")

    assert rollback(registry, NAME, "production") == Move(NAME, "production", 3, 1, (2,))


def test_an_alias_is_not_moved_if_all_earlier_versions_are_revoked(registry: Registry) -> None:
    registry.revoke(f"{NAME}@1", "it raves")
    registry.revoke(f"{NAME}@2", "it raves too")

    with pytest.raises(RegistryError, match="it pointed at no version before 3 except 2, 1, which were revoked"):
        rollback(registry, NAME, "production")
    assert current_version(registry) == 3


def test_a_rollback_refuses_a_version_with_changed_files(registry: Registry) -> None:
    file = registry.resolve(f"{NAME}@2").path / "adapter_model.safetensors"
    file.chmod(0o644)
    file.write_bytes(file.read_bytes() + b"?")

    with pytest.raises(CorruptAdapter, match="adapter_model"):
        rollback(registry, NAME, "production")
    assert current_version(registry) == 3


def test_a_rollback_ignores_that_the_alias_was_deleted_in_between(registry: Registry) -> None:
    registry.delete_alias(NAME, "production")
    with pytest.raises(RegistryError, match="no such alias"):
        rollback(registry, NAME, "production")
    registry.set_alias(NAME, "production", 1)

    assert rollback(registry, NAME, "production").after == 3


def test_a_rollback_leaves_other_aliases_unchanged(registry: Registry) -> None:
    registry.set_alias(NAME, "canary", 3)

    rollback(registry, NAME, "production")

    assert registry.resolve(f"{NAME}@canary").number == 3
    with pytest.raises(RegistryError, match="cannot be rolled back"):
        rollback(registry, NAME, "canary")
