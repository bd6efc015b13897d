"""The store that is a plain folder.

    index.sqlite                     names, versions, aliases, tags and the log
    objects/ trees/ staging/         the files (`registry.blob_store`); gc empties staging

A publish copies into staging/, then, inside one SQLite transaction, moves the objects and then the tree to their places and
enters the version. A crash before the commit leaves files that no version uses and gc removes.
"""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from vertical_sdk.errors import CorruptAdapter, RegistryError
from vertical_sdk.paths import report_full_disk
from vertical_sdk.registry.blob_store import BlobStore, copy_checked, parse_manifest, write_synced
from vertical_sdk.registry.index import Index
from vertical_sdk.registry.references import Reference
from vertical_sdk.registry.store import Entry, Event, Manifest, Stored, canonical_json, manifest_digest
from vertical_sdk.registry.tree import has_digest, tree_problems

__all__ = ["FileStore"]


class FileStore:
    """A registry in a folder; its methods are described in `Store`. Reading never makes or changes a file."""

    def __init__(self, location: str | Path) -> None:
        self.root = Path(location).absolute()
        if next((place for place in (self.root, *self.root.parents) if place.is_file()), None):
            raise RegistryError(f"{location}: a file stands where the registry's folder should be. Choose another folder.")
        self.index = Index(self.root / "index.sqlite")
        self._blobs = BlobStore(self.root)
        self.folder = self._blobs.tree_path
        self.find = self.index.find
        self.versions = self.index.versions
        self.names = self.index.names
        self.newest = self.index.newest
        self.search = self.index.search
        self.history = self.index.history
        self.move_alias = self.index.move_alias
        self.tag = self.index.tag
        self.close = self.index.close
        self.manifest = lru_cache(maxsize=1024)(self._manifest)

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
        """Keep the files as the name's next version, or return the version that has them already."""
        digest = manifest_digest(manifest)
        reference = Reference(name, digest=digest)
        known = self.index.find(reference)
        if known and not tree_problems(self.folder(digest), manifest):
            return known[0]
        with report_full_disk(self.root), self._desk() as desk:
            for path, file in manifest.items():
                copy_checked(files[path], desk / file.sha256, file.sha256)
            write_synced(desk / digest, canonical_json(manifest))
            with self.index.writing():
                for sha256 in {digest, *(file.sha256 for file in manifest.values())}:
                    self._blobs.add_blob(desk / sha256, sha256)
                self._blobs.add_tree(desk / "tree", digest, manifest)
                if not self.index.find(reference):
                    self.index.add(name, digest, record, tags, event)
        return self.index.find(reference)[0]

    def problems(self) -> list[str]:
        """Damage to the index, and objects whose bytes are not those of their name."""
        found = self.index.problems()
        for digest in self.index.digests():
            try:
                manifest = self._manifest(digest)
            except CorruptAdapter as error:
                found.append(str(error))
                continue
            for path, file in manifest.items():
                if not has_digest(self._blobs.blob_path(file.sha256), file.sha256):
                    found.append(f"objects/{file.sha256[:2]}/{file.sha256} ({path}) is missing or has changed")
        return sorted(set(found))

    def gc(self) -> int:
        """Remove what no version uses; the bytes that were freed."""
        if not self.index.path.exists():
            return 0
        freed = 0
        with report_full_disk(self.root), self.index.writing():
            live = set(self.index.digests())
            objects = live | {file.sha256 for digest in live for file in self._manifest(digest).values()}
            for tree in _children(self._blobs.trees):
                if tree.name not in live:
                    self._blobs.staging.mkdir(exist_ok=True)
                    tree.rename(self._blobs.staging / uuid.uuid4().hex)
            for desk in _children(self._blobs.staging):
                freed += _clear(desk)
            for shard in _children(self._blobs.objects):
                for file in _children(shard):
                    if file.name not in objects:
                        freed += _size(file)
                        file.unlink()
            for draft in self.root.glob(f".{self.index.path.name}.*"):
                freed += _size(draft)
                draft.unlink(missing_ok=True)
        return freed

    def _manifest(self, digest: str) -> dict[str, Stored]:
        where = self._blobs.blob_path(digest)
        try:
            return parse_manifest(where.read_bytes(), digest, str(where))
        except FileNotFoundError:
            raise CorruptAdapter(f"{where}: the manifest is missing. Publish the adapter again, or put back a copy.") from None

    @contextlib.contextmanager
    def _desk(self) -> Iterator[Path]:
        """A folder in staging that is ours while its lock is held, and gone afterwards."""
        from filelock import FileLock

        desk = self._blobs.staging / uuid.uuid4().hex
        lock = FileLock(f"{desk}.lock")
        with self.index.writing():  # gc does not run while the folder has no lock
            self._blobs.staging.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            desk.mkdir()
        try:
            yield desk
        finally:
            shutil.rmtree(desk, ignore_errors=True)
            lock.release()
            Path(lock.lock_file).unlink(missing_ok=True)


def _children(folder: Path) -> Sequence[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _size(file: Path) -> int:
    """The bytes that are freed with this name: none while the file has another."""
    found = file.lstat()
    return found.st_size if found.st_nlink == 1 else 0


def _clear(desk: Path) -> int:
    """Remove what a dead process left in staging; the bytes that were freed."""
    from filelock import FileLock, Timeout

    if desk.suffix == ".lock":
        if desk.with_suffix("").exists():
            return 0
        desk.unlink(missing_ok=True)
        return 0
    lock = FileLock(f"{desk}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return 0
    try:
        freed = 0
        for file in sorted(p for p in desk.rglob("*") if not p.is_dir()):
            freed += _size(file)
            file.unlink()
        shutil.rmtree(desk, ignore_errors=True)  # its publish may have ended and cleared it meanwhile
    finally:
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)
    return freed
