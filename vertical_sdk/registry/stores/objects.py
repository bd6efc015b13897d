"""The stores that are buckets: any place that can create a key only if nobody has.

    registry.json                         says that this is a registry, and of which format
    objects/ab/<sha256>                   each file once; a manifest is such a file too
    names/<domain>!<task>/log/<n>.json    the log of a name, one key a line (`stores.book`): it says all that is true of the name
    names/<domain>!<task>/packs/<n>.json  a hundred lines of the log in one key, to read it sooner; made from the lines, and only a copy
    gc/<token>.json, gc/<token>.done      unused files are being removed, or were

What a publish, an alias or a tag changes is decided on the first n lines of the log and written as line n+1, which is refused
where that key exists: then the new line is read and all is decided anew. So no number is given twice and no line is lost. Files are
there before the line that names them, so a reader sees a whole version or none. A reader keeps what it has read and asks for the next
line only, which is one request.
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
from vertical_sdk.registry.store import Entry, Event, Manifest, Stored, canonical_json, manifest_digest, matches, slice_log
from vertical_sdk.registry.stores.bucket import AT_ONCE, Bucket, together
from vertical_sdk.registry.stores.event_log import Book, alias_line, publish_line, tag_line
from vertical_sdk.registry.tree import tree_problems

__all__ = ["ObjectStore"]

MARKER = b'{"format": 1}\n'
PACK = 100
"""Lines of a log that are read at once when they are old."""
BLOCK = 8 << 20
"""Bytes that are downloaded at once."""
SAFE_AGE = 24 * 3600.0
"""Seconds after which a file that no version uses is nobody's who is publishing now."""
GC_TIME = 600.0
"""Seconds after which gc stops by itself."""
PATIENCE = 60.0
"""Seconds to wait for another process: a gc, or publishers that are always first."""


class _Here:
    """What a process knows of a store; a fork begins anew, as connections and locks do not go over it."""

    def __init__(self, bucket: Bucket) -> None:
        self.process = os.getpid()
        self.bucket = bucket
        self.books: dict[str, Book] = {}
        self.may_write = False


class ObjectStore:
    """A registry in a bucket; its methods are described in `Store`. The files of a version are downloaded once (`open_downloads`)."""

    def __init__(self, connect: Callable[[], Bucket]) -> None:
        self._connect = connect
        self._known: _Here | None = None
        self.manifest = lru_cache(maxsize=1024)(self._manifest)

    @property
    def _here(self) -> _Here:
        if self._known is None or self._known.process != os.getpid():
            self._known = _Here(self._connect())
        return self._known

    @property
    def bucket(self) -> Bucket:
        """Where the keys are, as this process reaches it."""
        return self._here.bucket

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
        """Keep the files as the name's next version, or return the version that has them already, mended where it was harmed."""
        digest = manifest_digest(manifest)
        reference = Reference(name, digest=digest)
        self._may_write()
        with tempfile.TemporaryDirectory(prefix="vertical-publish-") as folder, report_full_disk(Path(folder)):
            desk = {file.sha256: Path(folder) / file.sha256 for file in manifest.values()}
            for path, file in manifest.items():
                copy_checked(files[path], desk[file.sha256], file.sha256)
            desk[digest] = Path(folder) / digest
            write_synced(desk[digest], canonical_json(manifest))
            book = self._book(name)
            if book.find(reference):
                together(lambda file: self._mend(file[1], file[0]), desk.items())
            else:
                self._upload(desk, self._used(book))
        return self._write(name, lambda book: publish_line(book, digest, record, tags, event)).find(reference)[0]

    def find(self, reference: Reference) -> list[Entry]:
        """The versions that a reference may mean."""
        return self._book(reference.name).find(reference)

    def names(self, prefix: str = "", *, after: str = "", limit: int | None = None) -> list[str]:
        """The names that begin so, sorted; at most `limit` of those behind `after`."""
        names = [found.replace("!", "/") for found in self.bucket.children("names")]
        return sorted(name for name in names if name.startswith(prefix) and name > after and _is_name(name))[:limit]

    def newest(self, prefix: str = "", *, after: str = "", limit: int | None = None) -> list[tuple[Entry, Mapping[str, int]]]:
        """The newest version of each of these names, and the name's aliases."""
        books = together(self._book, self.names(prefix, after=after, limit=limit))
        return [(entry, dict(book.aliases)) for book in books for entry in book.entries(limit=1)]

    def versions(self, name: str, *, before: int | None = None, limit: int | None = None) -> list[Entry]:
        """The versions of a name, oldest first: the `limit` newest of those below number `before`."""
        return self._book(name).entries(before, limit)

    def search(
        self, conditions: Sequence[Condition], *, after: tuple[str, int] | None = None, limit: int | None = None
    ) -> list[Entry]:
        """The versions that meet all conditions, by name and number; every name that may have some is read."""
        wanted = {condition.value for condition in conditions if condition.key == "name"}
        names = [name for name in self.names() if (after is None or name >= after[0]) and wanted <= {name}]
        found: list[Entry] = []
        for first in range(0, len(names), AT_ONCE):
            for book in together(self._book, names[first : first + AT_ONCE]):
                behind = after[1] if after is not None and book.name == after[0] else 0
                found += [entry for entry in book.entries()[behind:] if matches(entry, conditions)]
            if limit is not None and len(found) >= limit:
                break
        return found[:limit]

    def folder(self, digest: str) -> Path:
        """The files of a manifest here; a download that somebody changed since is made anew."""
        blobs, manifest = open_downloads(), self.manifest(digest)
        if blobs.tree_path(digest).is_dir() and tree_problems(blobs.tree_path(digest), manifest):
            blobs.remove_tree(digest)
        return blobs.fetch_tree(digest, manifest, self._fetch)

    def move_alias(self, name: str, alias: str, number: int | None, expected: int | None, event: Event) -> None:
        """Compare and swap. Raises RegistryError where the alias does not stand where it was expected."""
        self._may_write()
        self._write(name, lambda book: alias_line(book, alias, number, expected, event))

    def tag(self, name: str, number: int, tags: Mapping[str, str | None], event: Event) -> None:
        """Set tags, or take those away that are None."""
        self._may_write()
        self._write(name, lambda book: tag_line(book, number, tags, event))

    def history(self, name: str, *, skip: int = 0, limit: int | None = None, newest_first: bool = False) -> list[Event]:
        """The log of a name, or a part of it."""
        return slice_log(self._book(name).events, skip, limit, newest_first)

    def problems(self) -> list[str]:
        """Logs with a line that was changed or taken out, and objects that are missing or whose bytes are not those of their name.

        Everything is read anew.
        """
        found: list[str] = []
        objects = self.bucket.below("objects")
        good: dict[str, bool] = {}
        for name in self.names():
            book, log = Book(name), f"names/{_key(name)}/log"
            count = len(self.bucket.below(log))
            try:
                for content in self._read_on(log, 1):
                    book.add(content)
            except RegistryError as error:
                found.append(str(error))
            else:
                if book.length < count:
                    found.append(f"the log of {name}: line {book.length + 1} was taken out")
            for entry in book.entries():
                try:
                    manifest = self._manifest(entry.digest)
                except CorruptAdapter as error:
                    found.append(str(error))
                    continue
                for path, file in manifest.items():
                    if file.sha256 not in good:
                        size = objects.get(file.sha256, (-1, 0.0))[0]
                        good[file.sha256] = size == file.size and self._is_right(file.sha256, size)
                    if not good[file.sha256]:
                        found.append(f"{_object(file.sha256)} ({path}) is missing or has changed")
        return sorted(set(found))

    def gc(self) -> int:
        """Remove objects that no version uses and that are older than a day; the bytes that were freed.

        A publisher may have uploaded a file and not yet written the line that uses it. It uploads anew what is older than half a day
        and not surely used already, and gives up when half a day has gone by, so what it needs looks young to a gc that begins after
        its uploads. A gc that began before them has left its mark, also when it is over: a publisher compares the marks before and
        after its uploads, waits for a gc that works, and looks after its files again. All this asks that the clocks of the publishers,
        of whoever runs gc and of the store are right by ten minutes.

        What a cut upload in parts left is not seen: let a lifecycle rule of the bucket (AbortIncompleteMultipartUpload) remove it.
        """
        if not self.names() and not self.bucket.children("objects"):
            return 0
        self._may_write()
        for mark, (_, age) in self.bucket.below("gc").items():
            if age > SAFE_AGE:
                self.bucket.remove(f"gc/{mark}")
        began, token = time.monotonic(), uuid.uuid4().hex
        self.bucket.create(f"gc/{token}.json", json.dumps({"until": time.time() + GC_TIME}).encode())
        freed = 0
        try:
            old = {sha256: size for sha256, (size, age) in self.bucket.below("objects").items() if age > SAFE_AGE}
            used: set[str] = set()
            for book in together(self._book, self.names()):
                digests = [entry.digest for entry in book.entries()]
                used.update(digests, *({file.sha256 for file in m.values()} for m in together(self.manifest, digests)))
            for sha256 in sorted(set(old) - used):
                if time.monotonic() - began > GC_TIME:
                    break
                self.bucket.remove(_object(sha256))
                freed += old[sha256]
        finally:
            self.bucket.create(f"gc/{token}.done", b"")
        return freed

    def close(self) -> None:
        """Nothing is held open for one thread."""

    def _book(self, name: str) -> Book:
        """What a name's log comes to now: what is known here, and the lines that were added since."""
        book, folder = self._here.books.setdefault(name, Book(name)), f"names/{_key(name)}"
        with contextlib.suppress(RegistryError):  # a pack is only a copy: where it is harmed, the lines are read
            for pack in () if book.length else self._read_on(f"{folder}/packs", 1):
                for content in pack.splitlines():
                    with book.lock:
                        book.add(content)
        number = book.length + 1
        for content in self._read_on(f"{folder}/log", number):
            with book.lock:
                if book.length + 1 == number:  # no other thread has read it meanwhile
                    book.add(content)
            number += 1
        return book

    def _read_on(self, folder: str, number: int) -> Iterator[bytes]:
        """The keys of a folder from a number on, up to the first that is not there; more at once, the longer it goes on."""
        at_once = 1
        while True:
            keys = [f"{folder}/{n:08}.json" for n in range(number, number + at_once)]
            for content in together(self.bucket.read, keys):
                if content is None:
                    return
                yield content
            number += at_once
            at_once = min(at_once * 4, AT_ONCE)

    def _write(self, name: str, decide: Callable[[Book], Mapping[str, Any] | None]) -> Book:
        """Add a line to a name's log: the one that is decided on all lines before it; none where none is needed. The log then."""
        until = time.monotonic() + PATIENCE
        folder = f"names/{_key(name)}"
        while True:
            book = self._book(name)
            with book.lock:
                line = decide(book)
                if line is None:
                    return book
                number, content = book.length + 1, book.next(line)
            key = f"{folder}/log/{number:08}.json"
            # a request that was sent again after a broken connection finds what it wrote itself
            if self.bucket.create(key, content) or self.bucket.read(key) == content:
                break
            if time.monotonic() > until:
                raise RunError(f"{self.bucket.where}: others have been writing to {name} for {PATIENCE:.0f} s. Try again.")
        with book.lock:
            if book.length + 1 == number:
                book.add(content)
        if number % PACK == 0:
            self._pack(folder, number // PACK)
        return book

    def _pack(self, folder: str, count: int) -> None:
        """Copy each hundred lines of a log into one key, where a killed writer has not done so yet."""
        done = len(self.bucket.children(f"{folder}/packs"))
        for pack in range(done + 1, count + 1):
            lines = together(
                self.bucket.read, [f"{folder}/log/{n:08}.json" for n in range((pack - 1) * PACK + 1, pack * PACK + 1)]
            )
            self.bucket.create(f"{folder}/packs/{pack:08}.json", b"\n".join(line or b"" for line in lines))

    def _upload(self, desk: Mapping[str, Path], used: Collection[str]) -> None:
        """Bring files to their keys, so that no gc removes them within half a day."""
        began = time.monotonic()

        def bring(sha256: str) -> None:
            there = self.bucket.look(_object(sha256))
            known = there is not None and there[0] == desk[sha256].stat().st_size
            if not known or (sha256 not in used and there is not None and there[1] > SAFE_AGE / 2):
                self.bucket.upload(desk[sha256], _object(sha256))

        while True:
            before, working = self._gcs()
            if working is None:
                together(bring, desk)
                if self._gcs() == (before, None) and time.monotonic() - began < SAFE_AGE / 2:
                    return
            if time.monotonic() - began > PATIENCE:
                raise RunError(
                    f"{self.bucket.where}: the upload took too long, or a gc is running there. Publish it again; if that gc was killed, "
                    f"remove {self.bucket.where}/{working or 'gc/…'} or wait for twenty minutes."
                )
            time.sleep(0.2)

    def _gcs(self) -> tuple[list[str], str | None]:
        """The marks of all gcs of these days, and the one whose gc may be removing files now."""
        marks = self.bucket.children("gc")
        for mark in marks:
            if mark.endswith(".json") and f"{mark[:-5]}.done" not in marks:
                content = self.bucket.read(f"gc/{mark}")
                if content is not None and time.time() < json.loads(content)["until"] + GC_TIME:
                    return marks, f"gc/{mark}"
        return marks, None

    def _mend(self, path: Path, sha256: str) -> None:
        """Bring a used file to its key, where it is missing or has changed."""
        if not self._is_right(sha256, path.stat().st_size):
            self.bucket.upload(path, _object(sha256))

    def _is_right(self, sha256: str, size: int) -> bool:
        """Whether an object has these bytes, all of which are read."""
        digest, there = hashlib.sha256(), self.bucket.look(_object(sha256))
        if there is None or there[0] != size:
            return False
        for start in range(0, size, BLOCK):
            digest.update(self.bucket.read(_object(sha256), start, min(start + BLOCK, size)) or b"")
        return digest.hexdigest() == sha256

    def _used(self, book: Book) -> set[str]:
        """The files of a name's newest version, which the next one often has too. They are used for ever."""
        try:
            return {file.sha256 for entry in book.entries(limit=1) for file in self.manifest(entry.digest).values()}
        except CorruptAdapter:
            return set()

    def _manifest(self, digest: str) -> dict[str, Stored]:
        where = f"{self.bucket.where}/{_object(digest)}"
        content = self.bucket.read(_object(digest))
        if content is None:
            raise CorruptAdapter(f"{where}: the manifest is missing. Publish the adapter again, or put back a copy.")
        return parse_manifest(content, digest, where)

    def _fetch(self, file: Stored, part: Path) -> None:
        with part.open("ab") as written:
            for start in range(written.tell(), file.size, BLOCK):
                content = self.bucket.read(_object(file.sha256), start, min(start + BLOCK, file.size))
                if content is None:
                    raise SourceError(
                        f"{self.bucket.where}/{_object(file.sha256)} is missing. Publish the adapter again, or put back a copy."
                    )
                written.write(content)

    def _may_write(self) -> None:
        """See that this is a registry of our format, and that the place keeps its word on keys that exist."""
        here = self._here
        if here.may_write:
            return
        made = here.bucket.create("registry.json", MARKER)
        if made and here.bucket.create("registry.json", MARKER):
            raise RegistryError(
                f"{here.bucket.where}: a key can be written twice there although it was asked not to be (If-None-Match: *), so publishers "
                "would overwrite each other. Use an object store with conditional writes."
            )
        if not made and (found := here.bucket.read("registry.json")) != MARKER:
            raise RegistryError(
                f"{here.bucket.where}: registry.json says {(found or b'')[:60]!r}, this vertical_sdk writes {MARKER!r}. "
                "Upgrade vertical_sdk, or choose another prefix."
            )
        here.may_write = True


def _object(sha256: str) -> str:
    return f"objects/{sha256[:2]}/{sha256}"


def _key(name: str) -> str:
    """One part of a key; "!" is in no name."""
    return name.replace("/", "!")


def _is_name(name: str) -> bool:
    try:
        return check_name(name) == name
    except RegistryError:
        return False
