"""Registries in buckets: on an S3 server over HTTP, and in memory if the server makes no difference."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
from servers.moto_server import CREDENTIALS

from vertical_sdk.errors import CorruptAdapter, OfflineError, RegistryError, RunError, SourceError
from vertical_sdk.registry import Registry
from vertical_sdk.registry.query import parse_condition
from vertical_sdk.registry.references import Reference
from vertical_sdk.registry.store import Entry, Event, Stored, manifest_digest
from vertical_sdk.registry.stores import objects, open_store
from vertical_sdk.registry.stores.bucket import Bucket
from vertical_sdk.registry.stores.objects import ObjectStore

EVENT = Event(at="2026-01-01T00:00:00+00:00", who="ada", name="a/b", action="publish")
SCRIPT = """
import os, sys, time
from hashlib import sha256
from pathlib import Path
from vertical_sdk.errors import RegistryError
from vertical_sdk.registry.references import Reference
from vertical_sdk.registry.store import Event, Stored
from vertical_sdk.registry.stores import open_store

what, address, me, count = sys.argv[1:]
store = open_store(address)
event = Event(at="2026-01-01T00:00:00+00:00", who=me, name="a/b", action="publish")
store.find(Reference("a/b"))
print("ready", flush=True)
sys.stdin.readline()
for turn in range(int(count)):
    if what == "publish":
        Path("file").write_text(f"{me} {turn}" * 1000)
        content = Path("file").read_bytes()
        manifest = {"file": Stored(sha256(content).hexdigest(), len(content))}
        print(store.put("a/b", {"file": Path("file")}, manifest, record={}, tags={}, event=event).number, flush=True)
    if what == "alias":
        try:
            store.move_alias("a/b", f"alias-{turn}", 1, 0, event)
            print(turn, flush=True)
        except RegistryError:
            pass
    if what == "fork":
        child = os.fork()
        if not child:
            entries = store.find(Reference("a/b"))
            os._exit(entries[0].number)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture
def s3(bucket: str) -> str:
    """The address of an empty registry on the S3 server."""
    return f"{bucket}/team/adapters"


@pytest.fixture
def memory() -> str:
    """The address of an empty registry in memory."""
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start processes that wait for a line of input before they work."""
    running: list[subprocess.Popen[str]] = []

    def start(what: str, address: str, me: str, count: int) -> subprocess.Popen[str]:
        folder = tmp_path / me
        folder.mkdir()
        command = [sys.executable, "-W", "ignore", "-c", SCRIPT, what, address, me, str(count)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        process = subprocess.Popen(command, cwd=folder, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, **pipes)
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


ROOT = Path(__file__).parents[2]


def go(processes: list[subprocess.Popen[str]]) -> list[list[int]]:
    """Let processes start their work together. Return the numbers that each prints."""
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return [[int(line) for line in process.communicate()[0].split()] for process in processes]


def open_new(address: str) -> ObjectStore:
    """Open a store without any state, as in a new process."""
    store = open_store(address)
    assert isinstance(store, ObjectStore)
    return store


def put(store: ObjectStore, folder: Path, text: str, name: str = "a/b") -> Entry:
    """Publish one file with that text."""
    path = folder / f"{uuid.uuid4().hex}.txt"
    path.write_text(text)
    manifest = {"file.txt": Stored(sha256(text.encode()).hexdigest(), len(text))}
    return store.put(name, {"file.txt": path}, manifest, record={}, tags={}, event=EVENT)


def keys(store: ObjectStore, folder: str = "") -> list[str]:
    """All keys below a folder, without the registry's own prefix."""
    root = store.bucket.root
    return sorted(key.removeprefix(f"{root}/") for key in store.bucket.files.find(f"{root}/{folder}".rstrip("/")))


def overwrite(store: ObjectStore, key: str, content: bytes) -> None:
    store.bucket.files.pipe_file(f"{store.bucket.root}/{key}", content)


@pytest.fixture
def requested(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys that are read from now on."""
    keys: list[str] = []
    for bucket in (Bucket, type(open_new("memory://x").bucket)):
        if "read" in vars(bucket):
            read = bucket.read

            def read_and_record(self: Any, key: str, *rest: Any, read: Any = read) -> Any:
                keys.append(key)
                return read(self, key, *rest)

            monkeypatch.setattr(bucket, "read", read_and_record)
    return keys


def test_a_registry_on_s3_publishes_resolves_and_moves_aliases(s3: str, make_adapter: Callable[..., Path]) -> None:
    registry = Registry(s3)

    first, second = registry.publish(make_adapter(1)), registry.publish(make_adapter(2))
    registry.set_alias("medical/triage", "production", 1, expected=0)

    elsewhere = Registry(s3)
    assert (first.number, second.number) == (1, 2)
    version = elsewhere.resolve("medical/triage@production")
    assert (version.number, version.digest, version.aliases) == (1, first.digest, ("production",))
    assert (version.path / "README.md").read_text() == "# Triage\n"
    assert [v.number for v in elsewhere.search("macro_f1>0.9")] == [1, 2]
    assert elsewhere.list_adapters()[0].aliases == {"production": 1}
    assert elsewhere.verify() == []


def test_the_keys_are_those_of_the_docstring(s3: str, tmp_path: Path) -> None:
    store = open_new(s3)
    entry = put(store, tmp_path, "one")
    digest = sha256(b"one").hexdigest()

    assert keys(store) == sorted([
        "registry.json", "names/a!b/log/00000001.json", f"objects/{digest[:2]}/{digest}", f"objects/{entry.digest[:2]}/{entry.digest}"
    ])  # fmt: skip


def test_names_that_look_like_folders_of_each_other_are_distinct(memory: str, tmp_path: Path) -> None:
    store = open_new(memory)
    for name in ("log", "names/log", "names", "names/packs", "a-b/c", "a/b"):
        put(store, tmp_path, name, name)

    assert open_new(memory).names() == ["a-b/c", "a/b", "log", "names", "names/log", "names/packs"]
    assert open_new(memory).names("names", after="names", limit=1) == ["names/log"]
    assert [entry.name for entry in open_new(memory).search([parse_condition("name=log")])] == ["log"]


def test_four_parallel_processes_publish_without_loss(
    s3: str, started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    numbers = go([started("publish", s3, f"p{n}", 10) for n in range(4)])

    store = open_new(s3)
    assert all(sorted(row) == row and len(row) == 10 for row in numbers)
    assert sorted(number for row in numbers for number in row) == list(range(1, 41))
    published = store.versions("a/b")
    assert [entry.number for entry in published] == list(range(1, 41))
    assert {f"p{n}": [e.number for e in published if e.who == f"p{n}"] for n in range(4)} == {
        f"p{n}": row for n, row in enumerate(numbers)
    }
    assert store.problems() == []


def test_one_of_two_processes_moves_each_alias(s3: str, started: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    put(open_new(s3), tmp_path, "one")

    first, second = go([started("alias", s3, who, 10) for who in ("p0", "p1")])

    assert sorted(first + second) == list(range(10))
    assert len([event for event in open_new(s3).history("a/b") if event.alias]) == 10


def test_killed_publishers_leave_whole_versions_only(
    s3: str, started: Callable[..., subprocess.Popen[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(5)
    for turn in range(3):
        process = started("publish", s3, f"p{turn}", 1000)
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        process.stdin.write("go\n")
        process.stdin.flush()
        process.stdout.readline()
        time.sleep(rng.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()

    store = open_new(s3)
    published = store.versions("a/b")
    assert [entry.number for entry in published] == list(range(1, len(published) + 1))
    assert {entry.who for entry in published} == {"p0", "p1", "p2"}
    monkeypatch.setattr(objects, "SAFE_AGE", -1.0)
    store.gc()
    monkeypatch.setattr(objects, "SAFE_AGE", 3600.0)
    assert store.problems() == []
    assert all((store.folder(entry.digest) / "file").is_file() for entry in published[-3:])
    assert put(store, tmp_path, "after").number == len(published) + 1


def test_a_store_works_in_a_forked_process(s3: str, started: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    put(open_new(s3), tmp_path, "one")

    assert go([started("fork", s3, "p0", 2)]) == [[1, 1]]


def test_parallel_threads_publish_without_loss(memory: str, tmp_path: Path) -> None:
    shared = open_new(memory)
    stores = [shared, shared, open_new(memory), open_new(memory)]

    with ThreadPoolExecutor(4) as pool:
        numbers = list(pool.map(lambda n: put(stores[n % 4], tmp_path, f"{n}").number, range(40)))

    assert sorted(numbers) == list(range(1, 41))
    assert [entry.number for entry in shared.versions("a/b")] == list(range(1, 41))
    assert shared.problems() == []


def test_equal_content_of_two_parallel_publishers_is_one_version(
    memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = open_new(memory), open_new(memory)
    upload = store._upload_files

    def upload_before_another_publish(*arguments: Any) -> None:
        upload(*arguments)
        monkeypatch.undo()
        put(other, tmp_path, "one")

    monkeypatch.setattr(store, "_upload_files", upload_before_another_publish)

    assert put(store, tmp_path, "one").number == 1
    assert len(other.versions("a/b")) == 1
    assert len(other.history("a/b")) == 1


def test_a_write_sent_twice_counts_once(memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_new(memory)
    put(store, tmp_path, "one")
    create = type(store.bucket).create

    def create_twice(bucket: Any, key: str, content: bytes) -> bool:
        create(bucket, key, content)
        return create(bucket, key, content)

    monkeypatch.setattr(type(store.bucket), "create", create_twice)

    assert put(store, tmp_path, "two").number == 2
    store.tag("a/b", 2, {"k": "v"}, EVENT)
    assert [event.after for event in store.history("a/b")] == [1, 2, 2]


@pytest.mark.parametrize("code", ["PreconditionFailed", "ConditionalRequestConflict"])
def test_each_error_code_for_an_existing_key_is_handled(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    from botocore.exceptions import ClientError
    from s3fs.errors import translate_boto_error

    store = open_new(s3)
    put(store, tmp_path, "one")
    pipe, refused = store.bucket.files.pipe_file, []

    def refuse_once(path: str, content: bytes, **options: Any) -> None:
        if not refused:
            refused.append(path)
            raise translate_boto_error(ClientError({"Error": {"Code": code, "Message": "no"}}, "PutObject"))
        pipe(path, content, **options)

    monkeypatch.setattr(store.bucket.files, "pipe_file", refuse_once)

    store.tag("a/b", 1, {"k": "v"}, EVENT)
    assert refused[0].endswith("/log/00000002.json")
    assert open_new(s3).find(Reference("a/b"))[0].tags == {"k": "v"}


def test_names_on_several_pages_are_all_listed(s3: str, moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_new(s3)
    names = [f"n{number:02}" for number in range(5)]
    for name in names:
        overwrite(store, f"names/{name}/log/00000001.json", b"")
    call = store.bucket.files.call_s3
    monkeypatch.setattr(store.bucket.files, "call_s3", lambda *arguments, **options: call(*arguments, **options, MaxKeys=2))

    assert store.names() == names


def test_a_store_without_conditional_writes_is_refused(memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_new(memory)
    monkeypatch.setattr(type(store.bucket), "create", lambda self, key, content: True)

    with pytest.raises(RegistryError, match=r"written twice.* conditional writes"):
        put(store, tmp_path, "one")


def test_a_registry_of_another_format_is_not_written(memory: str, tmp_path: Path) -> None:
    store = open_new(memory)
    overwrite(store, "registry.json", b'{"format": 9}\n')

    with pytest.raises(RegistryError, match=r'contains .*"format": 9.* Upgrade'):
        put(store, tmp_path, "one")


def test_a_long_log_takes_few_requests_and_one_if_it_is_known(memory: str, tmp_path: Path, requested: list[str]) -> None:
    writer = open_new(memory)
    put(writer, tmp_path, "one")
    for turn in range(1, 650):
        writer.tag("a/b", 1, {"turn": str(turn)}, EVENT)
    reader = open_new(memory)

    requested.clear()
    (entry,) = reader.find(Reference("a/b"))
    cold = len(requested)
    requested.clear()
    reader.find(Reference("a/b", version=1))

    assert entry.tags == {"turn": "649"}
    assert cold < 120  # for 650 lines: 6 packs, the 50 lines after them, and requests for keys that do not exist
    assert requested == ["names/a!b/log/00000651.json"]
    assert len(reader.history("a/b")) == 650


def test_a_damaged_or_missing_pack_loses_nothing(memory: str, tmp_path: Path) -> None:
    writer = open_new(memory)
    put(writer, tmp_path, "one")
    for turn in range(1, 200):
        writer.tag("a/b", 1, {"turn": str(turn)}, EVENT)
    first, second = keys(writer, "names/a!b/packs")

    overwrite(writer, second, writer.bucket.read(second)[:-5])  # type: ignore[index]
    assert len(open_new(memory).history("a/b")) == 200
    writer.bucket.remove(first)
    assert len(open_new(memory).history("a/b")) == 200
    assert open_new(memory).problems() == []


def test_the_next_writer_makes_the_pack_of_a_killed_writer(memory: str, tmp_path: Path) -> None:
    writer = open_new(memory)
    put(writer, tmp_path, "one")
    for turn in range(1, 200):
        writer.tag("a/b", 1, {"turn": str(turn)}, EVENT)
        if turn == 150:
            writer.bucket.remove("names/a!b/packs/00000001.json")

    assert [key[-6] for key in keys(writer, "names/a!b/packs")] == ["1", "2"]


@pytest.mark.parametrize("line", [1, 2, 3])
def test_a_changed_line_of_the_log_is_detected(memory: str, tmp_path: Path, line: int) -> None:
    store = open_new(memory)
    for text in ("1", "2", "3"):
        put(store, tmp_path, text)
    key = f"names/a!b/log/0000000{line}.json"
    overwrite(store, key, store.bucket.read(key).replace(b'"who":"ada"', b'"who":"eve"'))  # type: ignore[union-attr]

    assert [f"line {line} was changed" in problem for problem in open_new(memory).problems()] == [True]
    with pytest.raises(RegistryError, match=f"line {line} was changed"):
        open_new(memory).find(Reference("a/b"))


def test_a_missing_line_of_the_log_is_detected(memory: str, tmp_path: Path) -> None:
    store = open_new(memory)
    for text in ("1", "2", "3"):
        put(store, tmp_path, text)
    store.bucket.remove("names/a!b/log/00000002.json")

    assert open_new(memory).problems() == ["the log of a/b: line 2 is missing"]


@pytest.mark.parametrize(
    "change",
    [
        {"digest": "../../../etc/passwd"},
        {"digest": "a" * 65},
        {"kind": "remove"},
        {"tags": {"k": 1}},
        {"event": {"name": "c"}},
        {"event": {}},
        {"record": 5},
        {},
    ],
)
def test_a_line_with_a_valid_seal_and_wrong_content_is_refused(memory: str, tmp_path: Path, change: dict[str, Any]) -> None:
    from vertical_sdk.registry.stores.event_log import EventLog, build_publish_line

    log = EventLog("a/b")
    good = build_publish_line(log, "a" * 64, {}, {}, EVENT)
    content = log.encode_next({**good, **change}) if change else b'["not", "a line"]'  # type: ignore[dict-item]
    overwrite(open_new(memory), "names/a!b/log/00000001.json", content)

    with pytest.raises(RegistryError, match="line 1 was changed"):
        open_new(memory).find(Reference("a/b"))


def test_damaged_objects_are_detected_and_repaired_by_publishing_again(s3: str, tmp_path: Path) -> None:
    store = open_new(s3)
    for text in ("one", "two", "six"):
        put(store, tmp_path, text)
    one, two, six = (f"objects/{d[:2]}/{d}" for d in (sha256(t).hexdigest() for t in (b"one", b"two", b"six")))
    overwrite(store, one, b"eno")
    overwrite(store, two, b"two and more")
    store.bucket.remove(six)

    assert open_new(s3).problems() == sorted(f"{key} (file.txt) is missing or has changed" for key in (one, two, six))
    new_store = open_new(s3)
    with pytest.raises(SourceError, match="the downloaded file is not the published one"):
        new_store.folder(new_store.versions("a/b")[0].digest)
    with pytest.raises(SourceError, match="missing"):
        new_store.folder(new_store.versions("a/b")[2].digest)
    assert [put(new_store, tmp_path, text).number for text in ("one", "two", "six")] == [1, 2, 3]
    assert open_new(s3).problems() == []


def test_a_missing_or_changed_manifest_is_reported(memory: str, tmp_path: Path) -> None:
    store = open_new(memory)
    digest = put(store, tmp_path, "one").digest
    overwrite(store, f"objects/{digest[:2]}/{digest}", b"{}")

    with pytest.raises(CorruptAdapter, match="manifest has changed"):
        open_new(memory).folder(digest)
    store.bucket.remove(f"objects/{digest[:2]}/{digest}")
    assert ["the manifest is missing" in problem for problem in open_new(memory).problems()] == [True]


def test_an_interrupted_download_continues_at_its_last_byte(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "BLOCK", 4)
    store = open_new(s3)
    digest = put(store, tmp_path, "0123456789").digest
    bucket, starts = store.bucket, []
    read = bucket.read

    def read_and_break(key: str, start: int | None = None, end: int | None = None) -> bytes | None:
        if start is not None:
            starts.append(start)
            if len(starts) == 2:
                raise OfflineError("the line is dead")
        return read(key, start, end)

    monkeypatch.setattr(bucket, "read", read_and_break)

    with pytest.raises(OfflineError):
        store.folder(digest)
    assert (store.folder(digest) / "file.txt").read_text() == "0123456789"
    assert starts == [0, 4, 4, 8]


def test_a_changed_download_is_downloaded_again(memory: str, tmp_path: Path) -> None:
    store = open_new(memory)
    digest = put(store, tmp_path, "one").digest
    file = store.folder(digest) / "file.txt"
    file.chmod(0o644)
    file.write_text("two")

    assert (store.folder(digest) / "file.txt").read_text() == "one"


def test_gc_removes_old_unused_objects(memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_new(memory)
    put(store, tmp_path, "one")
    for text in (b"left", b"over"):
        digest = sha256(text).hexdigest()
        overwrite(store, f"objects/{digest[:2]}/{digest}", text)

    assert store.gc() == 0
    monkeypatch.setattr(objects, "SAFE_AGE", -1.0)
    assert store.gc() == len(b"leftover")
    assert store.gc() == 0
    assert store.problems() == []
    assert len(keys(store, "objects")) == 2


def test_gc_of_an_empty_registry_creates_no_key(memory: str) -> None:
    store = open_new(memory)

    assert store.gc() == 0
    assert store.names() == []
    assert store.problems() == []
    assert keys(store) == []


def test_a_publisher_waits_for_a_gc(memory: str, tmp_path: Path) -> None:
    store = open_new(memory)
    overwrite(store, "gc/other.json", json.dumps({"until": time.time() + 60}).encode())

    with ThreadPoolExecutor(1) as pool:
        publishing = pool.submit(put, store, tmp_path, "one")
        time.sleep(0.3)
        assert (open_new(memory).names(), keys(store, "objects")) == ([], [])
        overwrite(store, "gc/other.done", b"")

        assert publishing.result(10).number == 1
    assert open_new(memory).problems() == []


def test_a_publisher_uploads_again_what_a_gc_removed(memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_new(memory)
    upload = type(store.bucket).upload

    def upload_and_gc(bucket: Any, path: Path, key: str) -> None:
        upload(bucket, path, key)
        with first:  # files are uploaded in parallel, and only one upload may patch
            if freed:
                return
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(objects, "SAFE_AGE", -1.0)  # a gc that removes every file that no line uses
                freed.append(open_new(memory).gc())

    freed: list[int] = []
    first = Lock()
    monkeypatch.setattr(type(store.bucket), "upload", upload_and_gc)

    assert put(store, tmp_path, "one").number == 1
    assert freed[0] > 0
    assert open_new(memory).problems() == []


def test_a_publisher_waits_a_limited_time_and_not_for_a_dead_gc(
    memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "PATIENCE", 0.0)
    store = open_new(memory)
    overwrite(store, "gc/other.json", json.dumps({"until": time.time() + 60}).encode())

    with pytest.raises(RunError, match=r"a gc is running there.*gc/other\.json"):
        put(store, tmp_path, "one")
    overwrite(store, "gc/other.json", json.dumps({"until": time.time() - 3600}).encode())
    assert put(store, tmp_path, "one").number == 1


def test_old_unused_files_are_uploaded_again_and_used_files_are_not(
    memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_new(memory)
    files = {}
    for text in ("one", "two", "six"):
        (tmp_path / text).write_text(text)
        files[text] = tmp_path / text
    stored = {text: Stored(sha256(text.encode()).hexdigest(), 3) for text in files}
    store.put("a/b", {"one": files["one"]}, {"one": stored["one"]}, record={}, tags={}, event=EVENT)
    overwrite(store, f"objects/{stored['two'].sha256[:2]}/{stored['two'].sha256}", b"two")
    sent = []
    upload, look_up = type(store.bucket).upload, type(store.bucket).find_size_and_age
    monkeypatch.setattr(type(store.bucket), "upload", lambda self, path, key: (sent.append(key[-64:]), upload(self, path, key)))
    monkeypatch.setattr(type(store.bucket), "find_size_and_age", lambda self, key: _add_age(look_up(self, key)))

    store.put("a/b", files, stored, record={}, tags={}, event=EVENT)

    assert sorted(sent) == sorted([stored["two"].sha256, stored["six"].sha256, manifest_digest(stored)])


def _add_age(size_and_age: tuple[int, float] | None) -> tuple[int, float] | None:
    """Return the same size, with an age of half a day more."""
    return size_and_age and (size_and_age[0], size_and_age[1] + 13 * 3600)


def test_a_missing_bucket_is_an_error(s3: str, tmp_path: Path) -> None:
    for use in (
        lambda store: store.find(Reference("a/b")),
        lambda store: store.names(),
        lambda store: put(store, tmp_path, "one"),
    ):
        with pytest.raises(RegistryError, match=r"no bucket s3://nowhere at http://127.*AWS_ENDPOINT_URL"):
            use(open_new("s3://nowhere/adapters"))


def test_an_address_without_a_bucket_is_refused() -> None:
    with pytest.raises(RegistryError, match="the bucket is missing"):
        open_store("s3://")


def test_missing_credentials_are_an_error(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    with pytest.raises(RegistryError, match=r"no credentials .*Set AWS_ACCESS_KEY_ID"):
        open_new(s3).names()


def test_refused_credentials_are_an_error(s3: str, moto: str, tmp_path: Path) -> None:
    import requests

    store = open_new(s3)
    requests.post(f"{moto}/moto-api/reset-auth", data="0", timeout=10).raise_for_status()
    try:
        for use in (lambda: store.find(Reference("a/b")), store.names, lambda: put(store, tmp_path, "one")):
            with pytest.raises(RegistryError, match=r"http://127.* refused access \(.*Set AWS_ACCESS_KEY_ID"):
                use()
    finally:
        requests.post(f"{moto}/moto-api/reset-auth", data="inf", timeout=10).raise_for_status()


def test_an_unreachable_server_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(key, value)

    with pytest.raises(OfflineError, match=r"http://127\.0\.0\.1:9 cannot be reached.*AWS_ENDPOINT_URL"):
        open_new("s3://bucket/adapters").names()


def test_events_are_stored_unchanged(s3: str, tmp_path: Path) -> None:
    store = open_new(s3)
    put(store, tmp_path, "one")
    event = replace(EVENT, action="alias", why='"Ä"\n\\', evidence='{"a": [1, 2.5, null]}', who="bo")
    store.move_alias("a/b", "live", 1, 0, event)

    assert open_new(s3).history("a/b")[1] == replace(event, alias="live", before=None, after=1)
