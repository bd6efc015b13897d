"""The stores in buckets: any place that can create a key only if it does not exist.

    registry.json                         marks a registry, and names its format
    objects/ab/<sha256>                   each file once; a manifest is such a file too
    names/<domain>!<task>/log/<n>.json    the log of a name, one key a line (`stores.event_log`); the whole state of the name
    names/<domain>!<task>/packs/<n>.json  a hundred lines of the log in one key, for faster reading; only a copy of the lines
    gc/<token>.json, gc/<token>.done      a gc that is running, or has finished

A publish, an alias or a tag is decided on the first n lines of the log and written as line n+1. The store refuses the line if that key
exists; the writer then reads the new line and decides again. So no number is given twice and no line is lost. Files are uploaded before
the line that names them, so a reader sees a whole version or none. A reader keeps the lines that it has read and requests only the
next line, which is one request.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from vertical_sdk.errors import CorruptAdapter, RegistryError, RunError, SourceError
from vertical_sdk.paths import report_full_disk
from vertical_sdk.registry.blob_store import copy_checked, open_downloads, parse_manifest, write_synced
from vertical_sdk.registry.query import Condition
from vertical_sdk.registry.references import Reference, check_name
from vertical_sdk.registry.store import (
    PURGED,
    Entry,
    Erased,
    Event,
    Manifest,
    Stored,
    canonical_json,
    check_not_purged,
    manifest_digest,
    matches,
    slice_log,
)
from vertical_sdk.registry.stores.bucket import MAX_REQUESTS, Bucket, run_in_parallel
from vertical_sdk.registry.stores.event_log import EventLog, build_alias_line, build_publish_line, build_tag_line
from vertical_sdk.registry.tree import tree_problems

__all__ = ["ObjectStore"]

MARKER = b'{"format": 1}\n'
PACK = 100
"""Lines of a log in one pack."""
BLOCK = 8 << 20
"""Bytes of one download request."""
SAFE_AGE = 24 * 3600.0
"""Seconds after which no running publish can need a file that no version uses."""
GC_TIME = 600.0
"""Seconds after which gc stops."""
PATIENCE = 60.0
"""Seconds to wait for another process: a gc, or publishers that always write first."""


class _ProcessState:
    """The state of a store in one process. A fork starts with a new state, since connections and locks do not survive it."""

    def __init__(self, bucket: Bucket) -> None:
        self.process = os.getpid()
        self.bucket = bucket
        self.logs: dict[str, EventLog] = {}
        self.writable = False


class ObjectStore:
    """A registry in a bucket; its methods are described in `Store`. Files are downloaded once (`blob_store.open_downloads`)."""

    def __init__(self, connect: Callable[[], Bucket]) -> None:
        self._connect = connect
        self._last_state: _ProcessState | None = None
        self.manifest = lru_cache(maxsize=1024)(self._manifest)

    @property
    def _state(self) -> _ProcessState:
        if self._last_state is None or self._last_state.process != os.getpid():
            self._last_state = _ProcessState(self._connect())
        return self._last_state

    @property
    def bucket(self) -> Bucket:
        """The bucket, with this process's connection."""
        return self._state.bucket

    def put(
        self,
        name: str,
        files: Mapping[str, Path],
        manifest: Manifest,
        *,
        record: Mapping[str, Any],
        tags: Mapping[str, str],
        event: Event,
    ) -> Entry:
        """Store the files as the name's next version, or return the version that has them already and repair its files."""
        digest = manifest_digest(manifest)
        reference = Reference(name, digest=digest)
        self._check_writable()
        with tempfile.TemporaryDirectory(prefix="vertical-publish-") as folder, report_full_disk(Path(folder)):
            staging = {file.sha256: Path(folder) / file.sha256 for file in manifest.values()}
            for path, file in manifest.items():
                copy_checked(files[path], staging[file.sha256], file.sha256)
            staging[digest] = Path(folder) / digest
            write_synced(staging[digest], canonical_json(manifest))
            log, marks = self._load_log(name), None
            if existing := log.find(reference):
                check_not_purged(existing[0])
                run_in_parallel(lambda file: self._repair_object(file[1], file[0]), staging.items())
            else:
                marks = self._upload_files(staging, self._list_used_files(log))
            log = self._append_line(name, lambda log: build_publish_line(log, digest, record, tags, event))
            if marks is not None and self._read_gc_marks()[0] != marks:  # a purge may have removed what was uploaded
                self._upload_files(staging, ())
        return log.find(reference)[0]

    def find(self, reference: Reference) -> list[Entry]:
        """Find the versions that a reference may mean."""
        return self._load_log(reference.name).find(reference)

    def names(self, prefix: str = "", *, after: str = "", limit: int | None = None) -> list[str]:
        """List the names with a prefix, sorted; at most `limit` of those after `after`."""
        names = [key.replace("!", "/") for key in self.bucket.list_children("names")]
        return sorted(name for name in names if name.startswith(prefix) and name > after and _is_valid_name(name))[:limit]

    def newest(self, prefix: str = "", *, after: str = "", limit: int | None = None) -> list[tuple[Entry, Mapping[str, int]]]:
        """List the newest version of each of these names, with the name's aliases."""
        logs = run_in_parallel(self._load_log, self.names(prefix, after=after, limit=limit))
        return [(entry, dict(log.aliases)) for log in logs for entry in log.entries(limit=1)]

    def versions(self, name: str, *, before: int | None = None, limit: int | None = None) -> list[Entry]:
        """List the versions of a name, oldest first: the `limit` newest of those below number `before`."""
        return self._load_log(name).entries(before, limit)

    def search(
        self, conditions: Sequence[Condition], *, after: tuple[str, int] | None = None, limit: int | None = None
    ) -> list[Entry]:
        """List the versions that meet all conditions, by name and number. Reads the log of every name that may have some."""
        wanted = {condition.value for condition in conditions if condition.key == "name"}
        names = [name for name in self.names() if (after is None or name >= after[0]) and wanted <= {name}]
        entries: list[Entry] = []
        for first in range(0, len(names), MAX_REQUESTS):
            for log in run_in_parallel(self._load_log, names[first : first + MAX_REQUESTS]):
                skip = after[1] if after is not None and log.name == after[0] else 0
                entries += [entry for entry in log.entries()[skip:] if matches(entry, conditions)]
            if limit is not None and len(entries) >= limit:
                break
        return entries[:limit]

    def folder(self, digest: str) -> Path:
        """A local folder with the files of a manifest. A download that was changed since is downloaded again."""
        blobs, manifest = open_downloads(), self.manifest(digest)
        if blobs.tree_path(digest).is_dir() and tree_problems(blobs.tree_path(digest), manifest):
            blobs.remove_tree(digest)
        return blobs.fetch_tree(digest, manifest, self._fetch_file)

    def move_alias(self, name: str, alias: str, number: int | None, expected: int | None, event: Event) -> None:
        """Compare and swap. Raises RegistryError if the alias is not at the expected version."""
        self._check_writable()
        self._append_line(name, lambda log: build_alias_line(log, alias, number, expected, event))

    def tag(self, name: str, number: int, tags: Mapping[str, str | None], event: Event) -> None:
        """Set a version's tags, or remove those that are None."""
        self._check_writable()
        self._append_line(name, lambda log: build_tag_line(log, number, tags, event))

    def history(self, name: str, *, skip: int = 0, limit: int | None = None, newest_first: bool = False) -> list[Event]:
        """Read the log of a name, or a part of it."""
        return slice_log(self._load_log(name).events, skip, limit, newest_first)

    def problems(self) -> list[str]:
        """List logs with a changed or missing line, and objects that are missing or do not have the digest in their name.

        Reads every log and every used object again.
        """
        problems: list[str] = []
        objects = self.bucket.list_all("objects")
        intact: dict[str, bool] = {}
        purged: dict[str, str] = {}
        for name in self.names():
            log, folder = EventLog(name), f"names/{_name_key(name)}/log"
            count = len(self.bucket.list_all(folder))
            try:
                for content in self._read_lines(folder, 1):
                    log.append(content)
            except RegistryError as error:
                problems.append(str(error))
            else:
                if log.length < count:
                    problems.append(f"the log of {name}: line {log.length + 1} is missing")
            for entry in log.entries():
                try:
                    manifest = self._manifest(entry.digest)
                except CorruptAdapter as error:
                    problems.append(str(error))
                    continue
                if PURGED in entry.tags:
                    purged |= {file.sha256: f"{entry.name}@{entry.number}" for file in manifest.values()}
                    continue
                for path, file in manifest.items():
                    if file.sha256 not in intact:
                        size = objects.get(file.sha256, (-1, 0.0))[0]
                        intact[file.sha256] = size == file.size and self._is_intact(file.sha256, size)
                    if not intact[file.sha256]:
                        problems.append(f"{_object_key(file.sha256)} ({path}) is missing or has changed")
        left = sorted({purged[sha256] for sha256 in purged.keys() & objects.keys() - intact.keys()})
        problems += [f"{version} was purged, but some of its files are still there. Purge it again." for version in left]
        return sorted(set(problems))

    def gc(self) -> int:
        """Remove objects that no version uses and that are older than a day. Return the freed bytes.

        A publisher may have uploaded a file before it writes the line that uses it. It uploads again each file that is older than half
        a day and not known to be used, and gives up after half a day. So every file that it needs looks young to a gc that starts after
        its uploads. A gc that started earlier leaves its mark, even after it has finished: a publisher compares the marks before and
        after its uploads, waits for a running gc, and then checks its files again. This requires that the clocks of the publishers, of
        the machine that runs gc and of the store differ by less than ten minutes.

        gc does not see the parts of an interrupted multipart upload: let a lifecycle rule of the bucket (AbortIncompleteMultipartUpload)
        remove them.
        """
        if not self.names() and not self.bucket.list_children("objects"):
            return 0
        self._check_writable()
        for mark, (_, age) in self.bucket.list_all("gc").items():
            if age > SAFE_AGE:
                self.bucket.remove(f"gc/{mark}")
        start, freed = time.monotonic(), 0
        with self._mark_removal():
            old = {sha256: size for sha256, (size, age) in self.bucket.list_all("objects").items() if age > SAFE_AGE}
            for sha256 in sorted(old.keys() - self._read_users().keys()):
                if time.monotonic() - start > GC_TIME:
                    break
                self.bucket.remove(_object_key(sha256))
                freed += old[sha256]
        return freed

    def erase(self, name: str, number: int) -> Erased:
        """Remove the objects of a purged version that no other version has, and this machine's download of it."""
        self._check_writable()
        (entry,) = self.find(Reference(name, version=number))
        manifest, freed = self.manifest(entry.digest), 0
        with self._mark_removal():
            users = self._read_users()
            for file in {file.sha256: file for file in manifest.values() if file.sha256 not in users}.values():
                if self.bucket.find_size_and_age(_object_key(file.sha256)) is not None:
                    self.bucket.remove(_object_key(file.sha256))
                    freed += file.size
        shared = {path: users[file.sha256] for path, file in manifest.items() if file.sha256 in users}
        open_downloads().forget(entry.digest, manifest)
        return Erased(
            freed,
            shared,
            f"If {self.bucket.where} keeps old versions of its objects (versioning, backups), remove them there. Machines that "
            "downloaded the version keep it in their cache folder.",
        )

    @contextlib.contextmanager
    def _mark_removal(self) -> Iterator[None]:
        """Leave a mark while objects are removed, by which publishers check their uploads again."""
        token = uuid.uuid4().hex
        self.bucket.create(f"gc/{token}.json", json.dumps({"until": time.time() + GC_TIME}).encode())
        try:
            yield
        finally:
            self.bucket.create(f"gc/{token}.done", b"")

    def _read_users(self) -> dict[str, str]:
        """List the digests of all manifests, and of the files of versions that were not purged, with a version that has each."""
        users: dict[str, str] = {}
        for log in run_in_parallel(self._load_log, self.names()):
            entries = log.entries()
            users |= {entry.digest: f"{entry.name}@{entry.number}" for entry in entries}
            entries = [entry for entry in entries if PURGED not in entry.tags]
            for entry, manifest in zip(entries, run_in_parallel(self.manifest, [e.digest for e in entries]), strict=True):
                users |= {file.sha256: f"{entry.name}@{entry.number}" for file in manifest.values()}
        return users

    def close(self) -> None:
        """Do nothing: no resource belongs to one thread."""

    def _load_log(self, name: str) -> EventLog:
        """Read the lines that were added to a name's log since the last call."""
        log, folder = self._state.logs.setdefault(name, EventLog(name)), f"names/{_name_key(name)}"
        with contextlib.suppress(RegistryError):  # a pack is only a copy: if it is damaged, the lines are read
            for pack in () if log.length else self._read_lines(f"{folder}/packs", 1):
                for content in pack.splitlines():
                    with log.lock:
                        log.append(content)
        number = log.length + 1
        for content in self._read_lines(f"{folder}/log", number):
            with log.lock:
                if log.length + 1 == number:  # no other thread has read it meanwhile
                    log.append(content)
            number += 1
        return log

    def _read_lines(self, folder: str, number: int) -> Iterator[bytes]:
        """Read the keys of a folder from a number on, up to the first that is missing. Each round requests more at once."""
        count = 1
        while True:
            keys = [f"{folder}/{n:08}.json" for n in range(number, number + count)]
            for content in run_in_parallel(self.bucket.read, keys):
                if content is None:
                    return
                yield content
            number += count
            count = min(count * 4, MAX_REQUESTS)

    def _append_line(self, name: str, decide: Callable[[EventLog], Mapping[str, Any] | None]) -> EventLog:
        """Append the line that `decide` returns for all earlier lines, unless it returns None. Return the log with that line."""
        deadline = time.monotonic() + PATIENCE
        folder = f"names/{_name_key(name)}"
        while True:
            log = self._load_log(name)
            with log.lock:
                line = decide(log)
                if line is None:
                    return log
                number, content = log.length + 1, log.encode_next(line)
            key = f"{folder}/log/{number:08}.json"
            # a request that the client repeated after a broken connection finds its own content
            if self.bucket.create(key, content) or self.bucket.read(key) == content:
                break
            if time.monotonic() > deadline:
                raise RunError(f"{self.bucket.where}: others have been writing to {name} for {PATIENCE:.0f} s. Try again.")
        with log.lock:
            if log.length + 1 == number:
                log.append(content)
        if number % PACK == 0:
            self._write_packs(folder, number // PACK)
        return log

    def _write_packs(self, folder: str, count: int) -> None:
        """Copy each hundred lines of a log into one key, also those that a killed writer did not copy."""
        existing = len(self.bucket.list_children(f"{folder}/packs"))
        for pack in range(existing + 1, count + 1):
            lines = run_in_parallel(
                self.bucket.read, [f"{folder}/log/{n:08}.json" for n in range((pack - 1) * PACK + 1, pack * PACK + 1)]
            )
            self.bucket.create(f"{folder}/packs/{pack:08}.json", b"\n".join(line or b"" for line in lines))

    def _upload_files(self, staging: Mapping[str, Path], used: Collection[str]) -> list[str]:
        """Upload files to their keys, so that no gc removes them within half a day. Return the marks of recent removals."""
        start = time.monotonic()

        def upload_if_needed(sha256: str) -> None:
            existing = self.bucket.find_size_and_age(_object_key(sha256))
            complete = existing is not None and existing[0] == staging[sha256].stat().st_size
            if not complete or (sha256 not in used and existing is not None and existing[1] > SAFE_AGE / 2):
                self.bucket.upload(staging[sha256], _object_key(sha256))

        while True:
            marks, running = self._read_gc_marks()
            if running is None:
                run_in_parallel(upload_if_needed, staging)
                if self._read_gc_marks() == (marks, None) and time.monotonic() - start < SAFE_AGE / 2:
                    return marks
            if time.monotonic() - start > PATIENCE:
                raise RunError(
                    f"{self.bucket.where}: the upload took too long, or a gc is running there. Publish again. If that gc was killed, "
                    f"remove {self.bucket.where}/{running or 'gc/…'} or wait for twenty minutes."
                )
            time.sleep(0.2)

    def _read_gc_marks(self) -> tuple[list[str], str | None]:
        """The marks of all recent gcs, and the mark of a gc that may be removing files now."""
        marks = self.bucket.list_children("gc")
        for mark in marks:
            if mark.endswith(".json") and f"{mark[:-5]}.done" not in marks:
                content = self.bucket.read(f"gc/{mark}")
                if content is not None and time.time() < json.loads(content)["until"] + GC_TIME:
                    return marks, f"gc/{mark}"
        return marks, None

    def _repair_object(self, path: Path, sha256: str) -> None:
        """Upload a used file again if its object is missing or has changed."""
        if not self._is_intact(sha256, path.stat().st_size):
            self.bucket.upload(path, _object_key(sha256))

    def _is_intact(self, sha256: str, size: int) -> bool:
        """Whether an object has this size and digest. Reads all of its bytes."""
        digest, existing = hashlib.sha256(), self.bucket.find_size_and_age(_object_key(sha256))
        if existing is None or existing[0] != size:
            return False
        for start in range(0, size, BLOCK):
            digest.update(self.bucket.read(_object_key(sha256), start, min(start + BLOCK, size)) or b"")
        return digest.hexdigest() == sha256

    def _list_used_files(self, log: EventLog) -> set[str]:
        """The files of a name's newest version, which stay unless it is purged. The next version often has them too."""
        try:
            entries = [entry for entry in log.entries(limit=1) if PURGED not in entry.tags]
            return {file.sha256 for entry in entries for file in self.manifest(entry.digest).values()}
        except CorruptAdapter:
            return set()

    def _manifest(self, digest: str) -> dict[str, Stored]:
        address = f"{self.bucket.where}/{_object_key(digest)}"
        content = self.bucket.read(_object_key(digest))
        if content is None:
            raise CorruptAdapter(f"{address}: the manifest is missing. Publish the adapter again, or restore a copy.")
        return parse_manifest(content, digest, address)

    def _fetch_file(self, file: Stored, part: Path) -> None:
        with part.open("ab") as target:
            for start in range(target.tell(), file.size, BLOCK):
                content = self.bucket.read(_object_key(file.sha256), start, min(start + BLOCK, file.size))
                if content is None:
                    raise SourceError(
                        f"{self.bucket.where}/{_object_key(file.sha256)} is missing. Publish the adapter again, or restore a copy."
                    )
                target.write(content)

    def _check_writable(self) -> None:
        """Check that this is a registry of our format, and that the store refuses to create a key that exists."""
        state = self._state
        if state.writable:
            return
        created = state.bucket.create("registry.json", MARKER)
        if created and state.bucket.create("registry.json", MARKER):
            raise RegistryError(
                f"{state.bucket.where}: a key was written twice, though the request forbids it (If-None-Match: *), so publishers "
                "would overwrite each other. Use an object store with conditional writes."
            )
        if not created and (marker := state.bucket.read("registry.json")) != MARKER:
            raise RegistryError(
                f"{state.bucket.where}: registry.json contains {(marker or b'')[:60]!r}; this vertical_sdk writes {MARKER!r}. "
                "Upgrade vertical_sdk, or choose another prefix."
            )
        state.writable = True


def _object_key(sha256: str) -> str:
    return f"objects/{sha256[:2]}/{sha256}"


def _name_key(name: str) -> str:
    """Spell a name as one part of a key. No name contains "!"."""
    return name.replace("/", "!")


def _is_valid_name(name: str) -> bool:
    try:
        return check_name(name) == name
    except RegistryError:
        return False
