"""The store on MLflow, against a real server: behaviour beyond the contract of all stores."""

from __future__ import annotations

import hashlib
import http.server
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from servers.local_server import serving

from vertical_sdk.errors import DigestMismatch, MissingExtra, RegistryError, RunError, SourceError
from vertical_sdk.registry import Registry
from vertical_sdk.registry.query import parse_condition
from vertical_sdk.registry.references import Reference
from vertical_sdk.registry.store import REVOKED, Entry, Event, Stored
from vertical_sdk.registry.stores import mlflow_lease, mlflow_server, open_store
from vertical_sdk.registry.stores.mlflow import MlflowStore
from vertical_sdk.registry.stores.mlflow_files import create_run
from vertical_sdk.registry.stores.mlflow_tags import LEASE, LINE, decode_name, encode_name, is_adapter_name

AT = "2026-01-01T00:00:00+00:00"


@pytest.fixture
def store(mlflow_address: str) -> MlflowStore:
    return MlflowStore(mlflow_address)


@pytest.fixture
def client(mlflow_address: str) -> Any:
    """MLflow's own client, without our library."""
    from mlflow import MlflowClient

    return MlflowClient(mlflow_address, mlflow_address)


def event(action: str = "publish", **more: Any) -> Event:
    return Event(at=AT, who="ada", name="a/b", action=action, **more)


def put(store: MlflowStore, folder: Path, text: str, name: str = "a/b", **record: Any) -> Entry:
    """Publish a folder whose x.json contains the text, with a record."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()}.json"
    path.write_text(text)
    manifest = {"x.json": Stored(hashlib.sha256(text.encode()).hexdigest(), len(text.encode()))}
    return store.put(name, {"x.json": path}, manifest, record=record, tags={}, event=event())


def overwrite(client: Any, folder: Path, run: str, path: str, text: str) -> None:
    """Change an artifact on the server, as a user with write access can."""
    (folder / Path(path).name).write_text(text)
    client.log_artifact(run, str(folder / Path(path).name), path.rpartition("/")[0] or None)


def test_mlflow_alone_downloads_a_published_adapter_byte_for_byte(
    mlflow_address: str, client: Any, make_adapter: Any, tmp_path: Path
) -> None:
    adapter = make_adapter(name="medical/triage")
    registry = Registry(f"mlflow+{mlflow_address}")
    version = registry.publish(adapter, tags={"stage": "pilot"})
    registry.set_alias("medical/triage", "production", 1, why="it is good")
    resolved = registry.resolve("medical/triage@production").path

    version_there = client.get_model_version_by_alias("medical~triage", "production")
    assert (version_there.version, version_there.status, version_there.tags["stage"]) == ("1", "READY", "pilot")
    downloaded = Path(client.download_artifacts(version_there.run_id, "adapter", str(tmp_path)))
    assert version_there.source.endswith("/artifacts/adapter")
    files = {path.relative_to(adapter): path.read_bytes() for path in adapter.rglob("*") if path.is_file()}
    for folder in (downloaded, resolved):
        assert {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()} == files
    assert [e.action for e in registry.history(version.name)] == ["publish", "alias"]


def test_names_are_encoded_for_mlflow_and_decoded() -> None:
    from mlflow.utils.validation import _validate_model_name

    for name in ("medical/icd-chapter", "a", "a.b/c_d", "0/9"):
        _validate_model_name(encode_name(name))
        assert is_adapter_name(name)
        assert decode_name(encode_name(name)) == name
    assert [decode_name(model) for model in ("Fraud", "a/b", "a~b~c", "~a", "my model", "")] == [None] * 6


def test_paths_that_mlflow_would_misread_are_refused(store: MlflowStore, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    empty = Stored(hashlib.sha256(b"").hexdigest(), 0)

    with pytest.raises(RegistryError, match="'a#b' cannot be a file on MLflow"):
        store.put("a/b", {"a#b": tmp_path / "x"}, {"a#b": empty}, record={}, tags={}, event=event())
    odd = store.put("a/b", {"é/a b+c": tmp_path / "x"}, {"é/a b+c": empty}, record={}, tags={}, event=event())
    assert (store.folder(odd.digest) / "é" / "a b+c").read_bytes() == b""


def test_models_of_other_tools_are_ignored(store: MlflowStore, client: Any, tmp_path: Path) -> None:
    client.create_registered_model("Fraud Model")
    client.create_registered_model("a~b", tags={"team": "risk"})
    foreign = client.create_run("0").info
    for name in ("Fraud Model", "a~b"):
        client.create_model_version(name, foreign.artifact_uri, foreign.run_id)
    client.set_registered_model_alias("a~b", "live", "1")

    assert (store.names(), store.search([]), store.versions("a/b"), store.problems()) == ([], [], [], [])
    assert [*store.find(Reference("a/b", version=1)), *store.find(Reference("a/b", alias="live"))] == []
    entry = put(store, tmp_path, "1")
    client.create_model_version("a~b", foreign.artifact_uri, foreign.run_id)
    assert entry.number == 2
    assert [e.number for e in (*store.find(Reference("a/b")), *store.versions("a/b"), *store.search([]))] == [2, 2, 2]
    assert [entry.number for entry, _ in store.newest()] == [2]


def test_a_copy_made_by_mlflow_under_another_name_is_a_version(store: MlflowStore, client: Any, tmp_path: Path) -> None:
    put(store, tmp_path, "1", "dev/b")

    client.copy_model_version("models:/dev~b/1", "prod~b")

    (copied,) = store.find(Reference("prod/b"))
    assert (copied.number, copied.who, copied.created) == (1, "ada", AT)
    assert (store.folder(copied.digest) / "x.json").read_text() == "1"
    assert [(e.name, e.action, e.after) for e in store.history("prod/b")] == [("prod/b", "publish", 1)]


def test_a_changed_artifact_is_reported_and_repaired_by_another_publish(
    store: MlflowStore, client: Any, tmp_path: Path
) -> None:
    entry = put(store, tmp_path, "right")
    run = client.get_model_version("a~b", "1").run_id
    overwrite(client, tmp_path, run, "adapter/x.json", "wrong")

    with pytest.raises(DigestMismatch, match=r"x\.json"):
        store.folder(entry.digest)
    (line,) = store.problems()
    assert line.startswith("a/b@1")
    assert "x.json has changed" in line
    assert put(store, tmp_path, "right").number == 1
    assert store.problems() == []
    assert (store.folder(entry.digest) / "x.json").read_text() == "right"


def test_a_changed_manifest_is_detected(store: MlflowStore, client: Any, tmp_path: Path) -> None:
    entry = put(store, tmp_path, "1")
    overwrite(client, tmp_path, client.get_model_version("a~b", "1").run_id, "manifest.json", "{}")

    assert "manifest.json" in store.problems()[0]
    with pytest.raises(Exception, match=r"manifest\.json: the manifest has changed"):
        store.manifest(entry.digest)


def test_tags_changed_by_hand_are_an_error_when_they_are_read(store: MlflowStore, client: Any, tmp_path: Path) -> None:
    put(store, tmp_path, "1", gate="failed")
    put(store, tmp_path, "2")
    fixed = client.get_model_version("a~b", "1").tags["vertical_sdk/entry"]
    client.set_model_version_tag("a~b", "1", "vertical_sdk/entry", fixed.replace("failed", "passed"))

    with pytest.raises(RegistryError, match=r"a/b@1: the tags vertical_sdk/… .*changed by hand"):
        store.find(Reference("a/b", version=1))
    assert [e.number for e in store.versions("a/b")] == [2]
    assert ["a/b@1: the tags" in line for line in store.problems()] == [True]


def test_an_alias_moved_with_mlflow_alone_is_reported(store: MlflowStore, client: Any, tmp_path: Path) -> None:
    put(store, tmp_path, "1")
    put(store, tmp_path, "2")
    store.move_alias("a/b", "live", 1, 0, event("alias", alias="live"))
    client.set_registered_model_alias("a~b", "live", "2")

    assert store.problems() == ["a/b@live points at version 2; in the log it points at version 1"]
    with pytest.raises(RegistryError, match="points at version 2, but it was expected to point at version 1"):
        store.move_alias("a/b", "live", 1, 1, event("alias", alias="live"))
    store.move_alias("a/b", "live", 1, 2, event("alias", alias="live"))
    assert store.problems() == []


def test_all_pages_of_a_search_are_read(store: MlflowStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_server, "PAGE", 1)
    for text in ("1", "2", "3"):
        put(store, tmp_path, text, metrics={"f1": float(text) / 10})
    put(store, tmp_path, "1", "a-b")
    put(store, tmp_path, "1", "a")

    assert store.names() == ["a", "a-b", "a/b"]
    assert (store.names("a", after="a", limit=1), store.names("a/"), store.names("%")) == (["a-b"], ["a/b"], [])
    assert [e.number for e in store.versions("a/b")] == [1, 2, 3]
    assert [e.number for e in store.versions("a/b", before=3, limit=1)] == [2]
    better = [parse_condition("f1>0.1"), parse_condition("name=a/b")]
    assert [e.number for e in store.search(better)] == [2, 3]
    assert [(e.name, e.number) for e in store.search([], after=("a", 1), limit=2)] == [("a-b", 1), ("a/b", 1)]


def test_texts_longer_than_a_tag_are_stored_whole(store: MlflowStore, client: Any, tmp_path: Path) -> None:
    facts = [f"{n:064x}" for n in range(1500)]  # some 100,000 characters
    put(store, tmp_path, "1", facts={"source": facts})
    store.tag("a/b", 1, {"note": "é" * 900, "vertical.signature.x": "s" * 32_000, "none": ""}, event("tag", why="w" * 9000))
    store.tag("a/b", 1, {"note": None}, event("tag", why="wrong"))

    (entry,) = store.find(Reference("a/b"))
    assert entry.record == {"facts": {"source": facts}}
    assert entry.tags == {"vertical.signature.x": "s" * 32_000, "none": ""}
    first, second = store.history("a/b")[1:]
    assert (first.why, json.loads(first.evidence)["note"]) == ("w" * 9000, "é" * 900)
    assert (second.why, second.evidence) == ("wrong", '{"note": null}')
    assert max(map(len, client.get_registered_model("a~b").tags.values())) <= 5000  # MLflow's column on PostgreSQL


def test_a_version_deleted_with_mlflow_stays_in_the_log_and_keeps_its_number(
    store: MlflowStore, client: Any, tmp_path: Path
) -> None:
    put(store, tmp_path, "1")
    put(store, tmp_path, "2")
    client.delete_model_version("a~b", "2")

    assert put(store, tmp_path, "3").number == 3
    assert [e.number for e in store.versions("a/b")] == [1, 3]
    assert [e.after for e in store.history("a/b")] == [1, 2, 3]


def test_the_version_holds_the_log_line_that_a_crash_did_not_write(store: MlflowStore, client: Any, tmp_path: Path) -> None:
    put(store, tmp_path, "1")
    (line,) = [key for key in client.get_registered_model("a~b").tags if key.startswith(LINE)]
    client.delete_registered_model_tag("a~b", line)

    assert store.history("a/b") == [event(after=1)]


def test_gc_removes_an_old_run_without_a_version(store: MlflowStore, client: Any, tmp_path: Path) -> None:
    store.safe_age = -60.0
    store.gc()  # removes the runs of other tests
    entry = put(store, tmp_path, "1")
    left = create_run(store.server, "a/b", "0" * 64, "ada")
    overwrite(client, tmp_path, left, "adapter/x.json", "half of it")

    store.safe_age = 60.0
    assert store.gc() == 0
    store.safe_age = -60.0
    assert store.gc() == len("half of it")
    assert client.get_run(left).info.lifecycle_stage == "deleted"
    assert store.gc() == 0
    assert (store.folder(entry.digest) / "x.json").read_text() == "1"


def test_a_download_continues_after_the_existing_bytes(store: MlflowStore, client: Any, tmp_path: Path) -> None:
    put(store, tmp_path, "0123456789")
    part = tmp_path / "part"
    part.write_text("abcde")

    store.server.download(client.get_model_version("a~b", "1").run_id, "adapter/x.json", part)

    assert part.read_text() == "abcde56789"


def test_the_error_for_a_missing_file_names_it(store: MlflowStore, client: Any, tmp_path: Path) -> None:
    put(store, tmp_path, "1")

    with pytest.raises(SourceError, match=r"adapter/y\.json: 404"):
        store.server.download(client.get_model_version("a~b", "1").run_id, "adapter/y.json", tmp_path / "y")


def test_a_changed_download_is_downloaded_again(store: MlflowStore, tmp_path: Path) -> None:
    folder = store.folder(put(store, tmp_path, "1").digest)
    (folder / "x.json").chmod(0o600)
    (folder / "x.json").write_text("2")

    assert (store.folder(folder.name) / "x.json").read_text() == "1"


def test_one_of_many_parallel_alias_moves_succeeds(store: MlflowStore, tmp_path: Path) -> None:
    for text in "1234":
        put(store, tmp_path, text)

    def move(number: int) -> bool:
        try:
            store.move_alias("a/b", "live", number, 0, event("alias", alias="live"))
        except RegistryError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        moved = [number for number, did in zip(range(1, 5), pool.map(move, range(1, 5)), strict=True) if did]

    assert len(moved) == 1
    assert [e.number for e in store.find(Reference("a/b", alias="live"))] == moved
    assert [e.after for e in store.history("a/b") if e.alias] == moved


@pytest.mark.slow
def test_a_writer_waits_for_a_lease_and_removes_that_of_a_dead_process(
    store: MlflowStore, client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, tmp_path, "1")
    dead = f"{LEASE}{0:020d}.0123456789abcdef"
    client.set_registered_model_tag("a~b", dead, "a write in progress")
    monkeypatch.setattr(mlflow_lease, "PATIENCE", 0.5)
    with pytest.raises(RunError, match="others have been writing to 'a~b'"):
        store.move_alias("a/b", "live", 1, 0, event("alias", alias="live"))

    monkeypatch.setattr(mlflow_lease, "PATIENCE", 60.0)
    monkeypatch.setattr(mlflow_lease, "DURATION", 2.0)
    store.move_alias("a/b", "live", 1, 0, event("alias", alias="live"))

    assert not [key for key in client.get_registered_model("a~b").tags if key.startswith(LEASE)]


def publish_some(address: str, folder: Path, home: str, first: int) -> list[int]:
    """Publish five adapters under one name, one of them the same in all processes. Return their numbers."""
    os.environ["VERTICAL_HOME"] = home
    store = MlflowStore(address)
    return [put(store, folder, text).number for text in (*(f"{first + n}" for n in range(4)), "common")]


@pytest.mark.slow
def test_four_parallel_processes_get_distinct_numbers(
    store: MlflowStore, mlflow_address: str, tmp_path: Path, home: Path
) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        jobs = [(mlflow_address, tmp_path / f"of-{n}", str(home), 10 * n) for n in range(4)]
        numbers = pool.starmap(publish_some, jobs)

    assert len({row[4] for row in numbers}) == 1
    assert len({n for row in numbers for n in row}) == 17
    versions = store.versions("a/b")
    assert sorted({n for row in numbers for n in row}) == [e.number for e in versions]
    assert sorted(e.after or 0 for e in store.history("a/b")) == [e.number for e in versions]
    assert store.problems() == []


def test_addresses_without_an_mlflow_server_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(RegistryError, match="MLFLOW_TRACKING_URI is not set"):
        open_store("mlflow://")
    with pytest.raises(RegistryError, match=r"write mlflow\+http://host:5000"):
        open_store("mlflow://host:5000")
    with pytest.raises(RegistryError, match="an address cannot contain a user and a password"):
        open_store("mlflow+https://ada:secret@host")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://ada:secret@host/db")
    with pytest.raises(RegistryError, match=r"begins with postgresql:") as caught:
        open_store("mlflow://")
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://host/mlflow/")
    store = open_store("mlflow://")
    assert isinstance(store, MlflowStore)
    assert store.server.uri == "https://host/mlflow"


def test_a_server_that_does_not_answer_is_an_immediate_error() -> None:
    with pytest.raises(RunError, match=r"http://127\.0\.0\.1:9: no MLflow server answers \(.*refused"):
        open_store("mlflow+http://127.0.0.1:9").names()


@pytest.fixture
def guarded() -> Iterator[str]:
    """The address of a server that accepts only ada's token and has no adapters."""

    class Guard(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            allowed = self.path == "/health" or self.headers.get("Authorization") == "Bearer ada"
            self.send_response(200 if allowed else 401)
            self.end_headers()
            self.wfile.write(b"{}" if allowed else b"You are not authenticated.")

    with serving(Guard) as address:
        yield address


def test_the_error_for_refused_credentials_names_the_variables(guarded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunError, match="MLFLOW_TRACKING_USERNAME"):
        MlflowStore(guarded).names()

    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "ada")
    assert MlflowStore(guarded).names() == []


def test_a_refused_download_is_an_error(guarded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(SourceError, match="adapter/x: the server answered 401"):
        MlflowStore(guarded).server.download("0" * 32, "adapter/x", tmp_path / "x")
    with pytest.raises(SourceError, match=r"adapter/x: .*refused"):
        MlflowStore("http://127.0.0.1:9").server.download("0" * 32, "adapter/x", tmp_path / "x")


def test_the_error_without_mlflow_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)

    with pytest.raises(MissingExtra, match=r"needs the extra 'mlflow': pip install .*\[mlflow\]"):
        MlflowStore("http://127.0.0.1:9").names()


def test_mlflow_is_imported_on_first_use_without_telemetry() -> None:
    program = """
import os, sys
from vertical_sdk.errors import RunError
from vertical_sdk.registry.stores import open_store
store = open_store("mlflow+http://127.0.0.1:9")
assert "mlflow" not in sys.modules and "requests" not in sys.modules
before = dict(os.environ)
try:
    store.names()
except RunError:
    pass
from mlflow.telemetry import get_telemetry_client
assert get_telemetry_client() is None and dict(os.environ) == before
"""
    off = {"MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK", "CI", "PYTEST_CURRENT_TEST", "GITHUB_ACTIONS"}
    environment = {key: value for key, value in os.environ.items() if key not in off}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_revocation_whose_tag_was_deleted_in_mlflow_still_holds(store: MlflowStore, client: Any, tmp_path: Path) -> None:
    put(store, tmp_path, "1")
    store.tag("a/b", 1, {REVOKED: "wrong labels"}, event("revoke"))

    client.delete_model_version_tag("a~b", "1", REVOKED)

    for reference in (Reference("a/b"), Reference("a/b", version=1)):
        assert [entry.tags.get(REVOKED) for entry in store.find(reference)] == ["wrong labels"]
    assert [entry.tags.get(REVOKED) for entry in store.versions("a/b")] == ["wrong labels"]
    assert store.problems() == [f"a/b@1: its tag {REVOKED} is missing, but the log has it"]
