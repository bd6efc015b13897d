"""The contract of every store. A new backend adds one line to MAKERS."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers.http_server import RECORD

from vertical_sdk.errors import CorruptAdapter, RegistryError, SourceError
from vertical_sdk.registry.references import Reference
from vertical_sdk.registry.store import (
    PURGED,
    REVOKED,
    Entry,
    Event,
    Manifest,
    Store,
    Stored,
    manifest_digest,
    replay_tags,
)
from vertical_sdk.registry.stores import STORES, open_store
from vertical_sdk.registry.stores.file import FileStore
from vertical_sdk.registry.stores.hf import HfStore
from vertical_sdk.registry.stores.http import HttpStore

MAKERS: dict[str, Callable[[Path, pytest.FixtureRequest], Store]] = {
    "file": lambda folder, _: open_store(f"file://{folder}/store"),
    "hf": lambda _, request: open_store(request.getfixturevalue("hub_owner")),
    "http": lambda _, request: open_store(request.getfixturevalue("registry_server")),
    "https": lambda _, request: open_store(request.getfixturevalue("registry_server_with_tls")),
    "memory": lambda folder, _: open_store(f"memory://{folder.name}"),
    "mlflow": lambda _, request: open_store(f"mlflow+{request.getfixturevalue('mlflow_address')}"),
    "s3": lambda _, request: open_store(f"{request.getfixturevalue('bucket')}/adapters"),
}
"""Scheme → a function that makes an empty store from the test's folder and from the servers that are fixtures in conftest.py."""


@pytest.fixture(params=sorted(MAKERS))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store = MAKERS[request.param](tmp_path, request)
    yield store
    store.close()


def event(action: str = "publish") -> Event:
    return Event(at="2026-01-01T00:00:00+00:00", who="ada", name="a/b", action=action, why="because")


def write_files(folder: Path, **content: str) -> tuple[dict[str, Path], Manifest]:
    """Write files with a content, and return them as "sub/<key>.json" with their manifest."""
    files, manifest = {}, {}
    for key, text in content.items():
        path = folder / f"{key}.json"
        path.write_text(text)
        files[f"sub/{key}.json"] = path
        manifest[f"sub/{key}.json"] = Stored(hashlib.sha256(text.encode()).hexdigest(), len(text))
    return files, manifest


def put(store: Store, folder: Path, name: str = "a/b", **content: str) -> Entry:
    files, manifest = write_files(folder, **content)
    return store.put(name, files, manifest, record=RECORD, tags={"k": "v"}, event=event())


def test_every_store_in_the_table_is_tested_here() -> None:
    assert set(MAKERS) == {scheme.partition("+")[0] for scheme in STORES}  # the part after a "+" is only the transport


def test_find_returns_what_put_stored(store: Store, tmp_path: Path) -> None:
    entry = put(store, tmp_path, x="one", y="two")

    assert (entry.name, entry.number, entry.who, entry.tags) == ("a/b", 1, "ada", {"k": "v"})
    assert entry.record == RECORD
    assert (store.folder(entry.digest) / "sub" / "x.json").read_text() == "one"
    assert sorted(store.manifest(entry.digest)) == ["sub/x.json", "sub/y.json"]
    assert manifest_digest(store.manifest(entry.digest)) == entry.digest
    assert store.problems() == []


def test_numbers_grow_by_name_and_equal_content_has_one_number(store: Store, tmp_path: Path) -> None:
    numbers = [put(store, tmp_path, x=text).number for text in ("1", "2", "1", "3")]

    assert numbers == [1, 2, 1, 3]
    assert put(store, tmp_path, "c", x="1").number == 1
    assert [e.number for e in store.versions("a/b")] == [1, 2, 3]
    assert store.names() == ["a/b", "c"]
    assert store.names("a") == ["a/b"]
    assert store.names("%") == []


def test_find_accepts_every_kind_of_reference(store: Store, tmp_path: Path) -> None:
    first = put(store, tmp_path, x="1")
    second = put(store, tmp_path, x="2")
    store.move_alias("a/b", "live", 1, None, event("alias"))

    numbers = {
        kind: [e.number for e in store.find(reference)]
        for kind, reference in {
            "bare": Reference("a/b"),
            "number": Reference("a/b", version=1),
            "alias": Reference("a/b", alias="live"),
            "digest": Reference("a/b", digest=second.digest),
            "digits": Reference("a/b", digest=first.digest[:8]),
            "no number": Reference("a/b", version=9),
            "no alias": Reference("a/b", alias="dead"),
            "no name": Reference("b"),
        }.items()
    }

    assert numbers == {
        "bare": [2], "number": [1], "alias": [1], "digest": [2], "digits": [1], "no number": [], "no alias": [], "no name": []
    }  # fmt: skip


def test_an_alias_moves_only_from_the_expected_version(store: Store, tmp_path: Path) -> None:
    put(store, tmp_path, x="1")
    put(store, tmp_path, x="2")

    store.move_alias("a/b", "live", 1, 0, event("alias"))
    with pytest.raises(RegistryError):
        store.move_alias("a/b", "live", 2, 2, event("alias"))
    store.move_alias("a/b", "live", 2, 1, event("alias"))
    store.move_alias("a/b", "live", None, 2, event("delete alias"))

    log = [(e.action, e.before, e.after) for e in store.history("a/b")]
    assert log[2:] == [("alias", None, 1), ("alias", 1, 2), ("delete alias", 2, None)]
    assert log[:2] == [("publish", None, 1), ("publish", None, 2)]


def test_bytes_that_differ_from_the_manifest_are_refused(store: Store, tmp_path: Path) -> None:
    files, manifest = write_files(tmp_path, x="one")
    files["sub/x.json"].write_text("two")

    with pytest.raises(CorruptAdapter, match=r"x\.json: the file changed while it was being published"):
        store.put("a/b", files, manifest, record={}, tags={}, event=event())
    assert store.names() == []
    store.gc()
    assert put(store, tmp_path, x="one").number == 1


def test_history_returns_parts_from_either_end(store: Store, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        put(store, tmp_path, x=str(number))

    def after(**part: Any) -> list[int | None]:
        return [line.after for line in store.history("a/b", **part)]

    assert after() == [1, 2, 3]
    assert after(newest_first=True) == [3, 2, 1]
    assert after(limit=2) == [1, 2]
    assert after(limit=1, newest_first=True) == [3]
    assert after(skip=1, limit=1) == [2]
    assert after(skip=1, newest_first=True) == [2, 1]
    assert after(skip=3) == after(limit=5, skip=9, newest_first=True) == []


def test_gc_keeps_published_files(store: Store, tmp_path: Path) -> None:
    entry = put(store, tmp_path, x="1")

    assert store.gc() == 0
    assert (store.folder(entry.digest) / "sub" / "x.json").read_text() == "1"


def test_the_log_says_which_tags_a_version_must_have(store: Store, tmp_path: Path) -> None:
    put(store, tmp_path, x="1")

    store.tag("a/b", 1, {"k": None, "team": "é"}, event("tag"))
    store.tag("a/b", 1, {REVOKED: "wrong labels"}, event("revoke"))

    (entry,) = store.find(Reference("a/b", version=1))
    assert entry.tags == {"team": "é", REVOKED: "wrong labels"}
    assert replay_tags(store.history("a/b")) == {1: dict(entry.tags)}
    assert store.problems() == []


def test_a_purged_version_loses_its_files_and_keeps_its_number(store: Store, tmp_path: Path) -> None:
    first = put(store, tmp_path, x="shared", y="secret")
    second = put(store, tmp_path, x="shared", y="harmless")
    store.folder(first.digest)
    if isinstance(store, HttpStore):
        with pytest.raises(RegistryError, match=r"can only be purged by the operator, on the server's machine"):
            store.tag("a/b", 1, {PURGED: "a request"}, event("purge"))
        with pytest.raises(RegistryError, match=r"vertical registry purge a/b@1 --reason TEXT --registry FOLDER"):
            store.erase("a/b", 1)
        return

    store.tag("a/b", 1, {PURGED: "a request"}, event("purge"))
    erased = store.erase("a/b", 1)
    again = store.erase("a/b", 1)

    (entry,) = store.find(Reference("a/b", version=1))
    assert (entry.number, entry.digest, entry.tags[PURGED]) == (1, first.digest, "a request")
    assert erased.remains
    assert (again.freed, again.shared) == (0, erased.shared)
    assert set(erased.shared.values()) <= {"a/b@2"}
    assert manifest_digest(store.manifest(first.digest)) == first.digest
    assert (store.folder(second.digest) / "sub" / "x.json").read_text() == "shared"
    assert store.problems() == []
    assert store.history("a/b")[-1].action == "purge"
    if not isinstance(store, HfStore):  # the hub keeps every commit
        with pytest.raises((CorruptAdapter, SourceError, FileNotFoundError)):
            (store.folder(first.digest) / "sub" / "y.json").read_text()
    with pytest.raises(RegistryError, match=r"a/b@1, which has exactly these files, was purged: a request"):
        put(store, tmp_path, x="shared", y="secret")
    store.gc()
    assert put(store, tmp_path, "c", x="shared", y="secret").number == 1  # another name is another decision


def test_a_purge_that_was_interrupted_is_finished_by_the_next(store: Store, tmp_path: Path) -> None:
    """After its tag is set, no file of it can be seen through the registry; the next purge removes them."""
    if isinstance(store, HttpStore):
        pytest.skip("the server's own store is tested")
    first = put(store, tmp_path, x="one")
    put(store, tmp_path, x="two")
    store.tag("a/b", 1, {PURGED: "a request"}, event("purge"))

    store.erase("a/b", 1)

    assert store.problems() == []
    if isinstance(store, FileStore):
        assert not store.folder(first.digest).exists()


def test_the_error_for_an_unknown_scheme_lists_the_known_schemes() -> None:
    with pytest.raises(RegistryError, match=r"no store has the scheme 'ftp'\. Known: file, "):
        open_store("ftp://host/adapters")


@pytest.mark.parametrize("written", ["s3:/bucket/adapters", "s3:bucket/adapters", "file:/srv/adapters", "hf:org/name"])
def test_an_address_with_too_few_slashes_is_refused(written: str) -> None:
    scheme, _, rest = written.partition(":")

    with pytest.raises(
        RegistryError, match=rf"two slashes: {scheme}://{rest.lstrip('/')}\. Write a folder of this name as \./{scheme}:"
    ):
        open_store(written)
    assert not Path(f"{scheme}:").exists()
    assert open_store(f"./{written}").names() == []
