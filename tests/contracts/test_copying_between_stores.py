"""A copy into any store and back equals the original. (Through a server: tests/registry/test_copying.py.)"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from vertical_sdk.errors import RegistryError
from vertical_sdk.registry import Registry
from vertical_sdk.registry.copying import copy_versions
from vertical_sdk.registry.keys import create_key_pair
from vertical_sdk.registry.policy import Policy
from vertical_sdk.registry.signing import sign, sign_revocation
from vertical_sdk.registry.store import PURGED, REVOKED, Event, Stored
from vertical_sdk.registry.stores import STORES

ADDRESSES: dict[str, Callable[[Path, pytest.FixtureRequest], str]] = {
    "file": lambda folder, _: f"file://{folder}/middle",
    "hf": lambda _, request: request.getfixturevalue("hub_owner"),
    "memory": lambda folder, _: f"memory://{folder.name}",
    "mlflow": lambda _, request: f"mlflow+{request.getfixturevalue('mlflow_address')}",
    "s3": lambda _, request: f"{request.getfixturevalue('bucket')}/adapters",
}


def publish_two_versions(registry: Registry, folder: Path) -> None:
    """Two versions with a file in a folder, an alias, a tag, a signature, a revocation and a signed revocation."""
    for number, text in enumerate(("one", "two"), 1):
        file = folder / f"{text}.json"
        file.write_text(text)
        manifest = {"sub/x.json": Stored(hashlib.sha256(text.encode()).hexdigest(), len(text))}
        tags = {"team": "a"} if number == 2 else {REVOKED: "wrong labels"}
        event = Event(f"2026-01-0{number}T00:00:00+00:00", "ada", "a/b", "publish", why="a try")
        record = {"task": "classification", "base": "tiny", "metric": None, "value": None, "gate": "passed", "forced": False}
        record |= {"reason": "a try", "facts": {"task": ["classification"]}, "metrics": {"macro_f1": 0.5}}
        registry.store.put("a/b", {"sub/x.json": file}, manifest, record=record, tags=tags, event=event)
    registry.set_alias("a/b", "live", 1)
    create_key_pair(folder / "key")
    sign(registry, "a/b@2", folder / "key")
    sign_revocation(registry, "a/b@1", "wrong labels", folder / "key")


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


@pytest.mark.parametrize("kind", sorted(ADDRESSES))
def test_a_copy_carries_a_purge_and_does_not_undo_one(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    first, middle = Registry(tmp_path / "first", Policy()), Registry(ADDRESSES[kind](tmp_path, request), Policy())
    publish_two_versions(first, tmp_path)
    copy_versions(first, middle)
    first.purge("a/b@2", "a patient's request")

    carried = copy_versions(first, middle)

    assert carried.notes == ("a/b@2 was purged, as in the source: a patient's request.",)
    assert PURGED in middle.store.versions("a/b")[1].tags
    with pytest.raises(RegistryError, match=r"a/b@2 was purged: a patient's request \(copied from "):
        middle.resolve("a/b@2")
    assert copy_versions(first, middle).notes == ()

    last = Registry(tmp_path / "last", Policy())
    copy_versions(first, last)
    assert [e.number for e in last.store.versions("a/b")] == [1]  # what was purged does not come back
    unpurged = Registry(tmp_path / "unpurged", Policy())
    (tmp_path / "key").unlink()
    (tmp_path / "key.pub").unlink()
    publish_two_versions(unpurged, tmp_path)
    back = copy_versions(unpurged, middle)
    assert any(
        note.startswith("a/b@2 was not copied, because the target purged its content: a patient's") for note in back.notes
    )
    assert PURGED in middle.store.versions("a/b")[1].tags
    middle.close()
