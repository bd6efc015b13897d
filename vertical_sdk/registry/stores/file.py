"""The store in a plain folder.

    index.sqlite                     names, versions, aliases, tags and the log
    objects/ trees/ staging/         the files (`registry.blob_store`); gc empties staging

A publish copies into staging/. Then, in one SQLite transaction, it moves the objects and then the tree to their places and adds the
version to the index. A crash before the commit leaves files that no version uses; gc removes them.
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
from vertical_sdk.registry.store import (
    Entry,
    Erased,
    Event,
    Manifest,
    Stored,
    canonical_json,
    check_not_purged,
    manifest_digest,
)
from vertical_sdk.registry.tree import has_digest, tree_problems

__all__ = ["FileStore"]


class FileStore:
    """A registry in a folder; its methods are described in `Store`. Reading never creates or changes a file."""

    def __init__(self, location: str | Path) -> None:
        if "\0" in str(location):
            raise ValueError(location)
        self.root = Path(location).absolute()
        if any(folder.is_file() for folder in (self.root, *self.root.parents)):
            raise RegistryError(
                "this path is a file, or is below one, so it cannot be the registry's folder. Choose another folder.",
                where=location,
            )
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
        """Store the files as the name's next version, or return the version that has them already."""
        digest = manifest_digest(manifest)
        reference = Reference(name, digest=digest)
        published = self.index.find(reference)
        for entry in published:
            check_not_purged(entry)
        if published and not tree_problems(self.folder(digest), manifest):
            return published[0]
        with report_full_disk(self.root), self._open_staging() as staging:
            for path, file in manifest.items():
                copy_checked(files[path], staging / file.sha256, file.sha256)
            write_synced(staging / digest, canonical_json(manifest))
            with self.index.writing():
                for sha256 in {digest, *(file.sha256 for file in manifest.values())}:
                    self._blobs.add_blob(staging / sha256, sha256)
                self._blobs.add_tree(staging / "tree", digest, manifest)
                existing = self.index.find(reference)
                for entry in existing:
                    check_not_purged(entry)
                if not existing:
                    self.index.add(name, digest, record, tags, event)
        return self.index.find(reference)[0]

    def problems(self) -> list[str]:
        """List damage of the index, and objects that are missing or do not have the digest in their name."""
        problems = self.index.problems()
        for digest, used in self.index.digests().items():
            try:
                manifest = self._manifest(digest)
            except CorruptAdapter as error:
                problems.append(str(error))
                continue
            for path, file in manifest.items() if used else ():
                if not has_digest(self._blobs.blob_path(file.sha256), file.sha256, file.size):
                    problems.append(
                        f"objects/{file.sha256[:2]}/{file.sha256} ({path}) is missing, cannot be read or has changed"
                    )
            if not used and self.folder(digest).exists():
                problems.append(f"trees/{digest} was purged and is still there. Run `vertical registry gc`.")
        return sorted(set(problems))

    def gc(self) -> int:
        """Remove files that no version uses. Return the freed bytes."""
        if not self.index.path.exists():
            return 0
        freed = 0
        with report_full_disk(self.root), self.index.writing():
            known = self.index.digests()
            digests = {digest for digest, used in known.items() if used}
            objects = set(known) | {file.sha256 for digest in digests for file in self._manifest(digest).values()}
            for tree in _list_children(self._blobs.trees):
                if tree.name not in digests:
                    self._blobs.staging.mkdir(exist_ok=True)
                    tree.rename(self._blobs.staging / uuid.uuid4().hex)
            for staging in _list_children(self._blobs.staging):
                freed += _clear_staging(staging)
            for shard in _list_children(self._blobs.objects):
                for file in _list_children(shard):
                    if file.name not in objects:
                        freed += _freed_size(file)
                        file.unlink()
            for draft in self.root.glob(f".{self.index.path.name}.*"):
                freed += _freed_size(draft)
                draft.unlink(missing_ok=True)
        return freed

    def erase(self, name: str, number: int) -> Erased:
        """Remove the files of a purged version that no other version has."""
        (entry,) = self.index.find(Reference(name, version=number))
        with report_full_disk(self.root), self.index.writing():
            manifest = self._manifest(entry.digest)
            users: dict[str, str] = {}
            for digest, used in self.index.digests().items():
                if used:
                    users |= dict.fromkeys((file.sha256 for file in self._manifest(digest).values()), digest)
            if not self.index.users(entry.digest):
                self._blobs.remove_tree(entry.digest)
            freed = 0
            for file in {file.sha256: file for file in manifest.values() if file.sha256 not in users}.values():
                blob = self._blobs.blob_path(file.sha256)
                if blob.is_file():
                    freed += file.size
                    blob.unlink()
        shared = {path: self.index.users(users[file.sha256])[0] for path, file in manifest.items() if file.sha256 in users}
        return Erased(freed, shared, "Backups of the registry's folder still have the files.")

    def _manifest(self, digest: str) -> dict[str, Stored]:
        path = self._blobs.blob_path(digest)
        try:
            return parse_manifest(path.read_bytes(), digest, str(path))
        except FileNotFoundError:
            raise CorruptAdapter("the manifest is missing. Publish the adapter again, or restore a copy.", where=path) from None
        except OSError as error:
            raise CorruptAdapter(
                f"the manifest cannot be read ({error.strerror}). Check its permissions.", where=path
            ) from None

    @contextlib.contextmanager
    def _open_staging(self) -> Iterator[Path]:
        """Create a folder in staging, hold its lock, and remove both afterwards."""
        from filelock import FileLock

        staging = self._blobs.staging / uuid.uuid4().hex
        lock = FileLock(f"{staging}.lock")
        with self.index.writing():  # so gc cannot run before the folder has its lock
            self._blobs.staging.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            staging.mkdir()
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            lock.release()
            Path(lock.lock_file).unlink(missing_ok=True)


def _list_children(folder: Path) -> Sequence[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _freed_size(file: Path) -> int:
    """The bytes that removing this name frees: 0 if the file has another hard link."""
    status = file.lstat()
    return status.st_size if status.st_nlink == 1 else 0


def _clear_staging(staging: Path) -> int:
    """Remove what a dead process left in staging. Return the freed bytes."""
    from filelock import FileLock, Timeout

    if staging.suffix == ".lock":
        if staging.with_suffix("").exists():
            return 0
        staging.unlink(missing_ok=True)
        return 0
    lock = FileLock(f"{staging}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return 0
    try:
        freed = 0
        for file in sorted(p for p in staging.rglob("*") if not p.is_dir()):
            freed += _freed_size(file)
            file.unlink()
        shutil.rmtree(staging, ignore_errors=True)  # its publish may have finished and removed it meanwhile
    finally:
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)
    return freed
