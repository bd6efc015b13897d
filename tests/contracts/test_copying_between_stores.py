"""A copy into any store and back equals the original. (Through a server: tests/registry/test_copying.py.)"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from vertical_sdk.registry import Registry
from vertical_sdk.registry.copying import copy_versions
from vertical_sdk.registry.policy import Policy
from vertical_sdk.registry.registry import REVOKED, SIGNATURE
from vertical_sdk.registry.store import Event, Stored
from vertical_sdk.registry.stores import STORES

ADDRESSES: dict[str, Callable[[Path, pytest.FixtureRequest], str]] = {
    "file": lambda folder, _: f"file://{folder}/middle",
    "hf": lambda _, request: request.getfixturevalue("hub_owner"),
    "memory": lambda folder, _: f"memory://{folder.name}",
    "mlflow": lambda _, request: f"mlflow+{request.getfixturevalue('mlflow_address')}",
    "s3": lambda _, request: f"{request.getfixturevalue('bucket')}/adapters",
}


def publish_two_versions(registry: Registry, folder: Path) -> None:
    """Two versions with a file in a folder, an alias, a tag, a signature and a revocation."""
    for number, text in enumerate(("one", "two"), 1):
        file = folder / f"{text}.json"
        file.write_text(text)
        manifest = {"sub/x.json": Stored(hashlib.sha256(text.encode()).hexdigest(), len(text))}
        tags = {"team": "a", SIGNATURE + "ab" * 32: "x" * 20_000} if number == 2 else {REVOKED: "wrong labels"}
        event = Event(f"2026-01-0{number}T00:00:00+00:00", "ada", "a/b", "publish", why="a try")
        record = {"task": "classification", "base": "tiny", "metric": None, "value": None, "gate": "passed", "forced": False}
        record |= {"reason": "a try", "facts": {"task": ["classification"]}, "metrics": {"macro_f1": 0.5}}
        registry.store.put("a/b", {"sub/x.json": file}, manifest, record=record, tags=tags, event=event)
    registry.set_alias("a/b", "live", 1)


@pytest.mark.parametrize("kind", sorted(ADDRESSES))
def test_a_copy_into_a_store_and_back_equals_the_original(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if kind not in STORES:
        pytest.skip("there is no such store")
    first, middle, last = (
        Registry(place, Policy()) for place in (tmp_path / "first", ADDRESSES[kind](tmp_path, request), tmp_path / "last")
    )
    publish_two_versions(first, tmp_path)
    first.set_alias("a/b", "live", 2, why="better", action="promote")
    first.set_alias("a/b", "live", 1, why="worse", action="rollback")
    first.set_alias("a/b", "old", 1)
    first.delete_alias("a/b", "old")

    there = copy_versions(first, middle)
    back = copy_versions(middle, last)
    again = copy_versions(middle, last)

    for account in (there, back):
        assert [(v.before, v.after, v.new) for v in account.versions] == [(1, 1, True), (2, 2, True)]
        assert [(a.alias, a.version, a.outcome) for a in account.aliases] == [("live", 1, "set")]
    assert not any(v.new for v in again.versions)
    for original, copied in zip(first.store.versions("a/b"), last.store.versions("a/b"), strict=True):
        assert (original.digest, original.tags, original.aliases) == (copied.digest, copied.tags, copied.aliases)
        assert (last.store.folder(copied.digest) / "sub" / "x.json").read_bytes() == (
            first.store.folder(original.digest) / "sub" / "x.json"
        ).read_bytes()
        assert (original.created, original.who, original.record) == (copied.created, copied.who, copied.record)
    log = [(e.action, e.alias, e.before, e.after) for e in first.history("a/b") if e.alias]
    assert log[1] == ("promote", "live", 1, 2)
    assert [(e.action, e.alias, e.before, e.after) for e in last.history("a/b") if e.alias] == log
    assert last.store.problems() == []
    middle.close()
