"""The blob store: a folder with files named by their digests, and folders ("trees") assembled from them.

    objects/ab/<sha256>      each file once; a manifest is such a file too
    trees/<digest>/…         one folder for each version: hard links to the objects, or copies if the file system has no links
    staging/                 files that are being written

A registry in a local folder stores its adapters in one; remote registries use one as their download cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from vertical_sdk.errors import CorruptAdapter, DigestMismatch, RunError, SourceError
from vertical_sdk.paths import cache_home, report_full_disk
from vertical_sdk.registry.store import Manifest, Stored, manifest_digest
from vertical_sdk.registry.tree import check_path, has_digest, tree_problems

__all__ = ["BlobStore", "Fetch", "copy_checked", "open_downloads", "parse_manifest", "write_synced"]

SHA256 = re.compile(r"[0-9a-f]{64}")
"""A digest becomes a file name, so it is checked first."""
Fetch = Callable[[Stored, Path], None]
"""Write the bytes of a file to a path. If the path exists, it contains the first part of them from an interrupted download: the
function resumes it, or writes the file again from the start."""


def open_downloads() -> BlobStore:
    """Open the download cache of remote registries: `registry` in the cache folder."""
    return BlobStore(cache_home() / "registry")


def parse_manifest(content: bytes, digest: str, where: str) -> dict[str, Stored]:
    """Parse a manifest and check it.

    where  the file or address that it was read from

    Raises CorruptAdapter if the bytes have another digest, or are not a manifest.
    """
    if hashlib.sha256(content).hexdigest() != digest:
        raise CorruptAdapter("the manifest has changed. Publish the adapter again, or restore a backup.", where=where)
    try:
        manifest = {check_path(path): Stored(**file) for path, file in json.loads(content).items()}
        below = {str(parent) for path in manifest for parent in PurePosixPath(path).parents}
        plain = all(SHA256.fullmatch(file.sha256) and type(file.size) is int and file.size >= 0 for file in manifest.values())
        if plain and not below & manifest.keys() and manifest_digest(manifest) == digest:
            return manifest
    except (ValueError, TypeError, AttributeError, RecursionError):
        pass
    raise CorruptAdapter("this is not a manifest. Run `vertical registry verify` to check the registry.", where=where)


class BlobStore:
    """A folder with objects and trees. Many threads and processes may use it at once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.objects = root / "objects"
        self.trees = root / "trees"
        self.staging = root / "staging"

    def blob_path(self, sha256: str) -> Path:
        """The path of the file with this digest, which may not exist yet."""
        return self.objects / sha256[:2] / sha256

    def tree_path(self, digest: str) -> Path:
        """The folder of the manifest with this digest, which may not exist yet."""
        return self.trees / digest

    def fetch_tree(self, digest: str, manifest: Manifest, fetch: Fetch) -> Path:
        """Return the folder of a manifest. Missing files are fetched and checked before they become visible.

        An interrupted download resumes. If two processes need the same files, one of them downloads and the other waits.
        Raises SourceError for an interrupted download, DigestMismatch if the downloaded bytes are another file, and what `fetch`
        raises.
        """
        from filelock import FileLock

        place = self.tree_path(digest)
        if place.is_dir():
            return place
        with report_full_disk(self.root):
            self.staging.mkdir(parents=True, exist_ok=True)
            with FileLock(self.staging / f"{digest}.lock"):
                if place.is_dir():
                    return place
                for sha256, file in {file.sha256: file for file in manifest.values()}.items():
                    if not has_digest(self.blob_path(sha256), sha256, file.size):
                        self._fetch_blob(file, fetch)
                draft = self.staging / uuid.uuid4().hex
                draft.mkdir()
                try:
                    self.add_tree(draft / "tree", digest, manifest)
                finally:
                    shutil.rmtree(draft, ignore_errors=True)
        return place

    def _fetch_blob(self, file: Stored, fetch: Fetch) -> None:
        from filelock import FileLock

        part = self.staging / f"{file.sha256}.part"
        with FileLock(self.staging / f"{file.sha256}.lock"):
            if has_digest(self.blob_path(file.sha256), file.sha256, file.size):
                return
            if part.exists() and part.stat().st_size > file.size:
                part.unlink()
            have = part.stat().st_size if part.exists() else 0
            free = shutil.disk_usage(self.staging).free
            if file.size - have > free:
                raise RunError(
                    f"{file.sha256[:12]}… has {file.size} bytes, and only {free} are free. Free some space, or set $VERTICAL_HOME to "
                    "a folder of another disk.",
                    where=self.root,
                )
            fetch(file, part)
            size = part.stat().st_size if part.exists() else 0
            if size < file.size:
                raise SourceError(
                    f"the download of {file.sha256[:12]}… was interrupted after {size} of {file.size} bytes. Run it again to resume it."
                )
            if size > file.size or not has_digest(part, file.sha256, size):
                part.unlink()
                raise DigestMismatch(
                    f"the downloaded file is not the published one: its SHA-256 is not {file.sha256[:12]}…. "
                    "Run it again. If the error remains, the registry's copy was changed."
                )
            part.chmod(0o444)
            self.add_blob(part, file.sha256)

    def add_blob(self, draft: Path, sha256: str) -> None:
        """Move a file to its place, unless an intact copy is there."""
        place = self.blob_path(sha256)
        if has_digest(place, sha256, draft.stat().st_size):
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        draft.replace(place)
        _sync(place.parent)

    def add_tree(self, draft: Path, digest: str, manifest: Manifest) -> None:
        """Assemble a tree in `draft` (alone in a folder of staging) and move it to its place, replacing a damaged tree."""
        place = self.tree_path(digest)
        if place.exists():
            if not tree_problems(place, manifest):
                return
            place.rename(draft.with_name("damaged"))
        for path, file in manifest.items():
            target = draft / path
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(self.blob_path(file.sha256), target)
        for parent in {(draft / path).parent for path in manifest}:
            _sync(parent)
        self.trees.mkdir(exist_ok=True)
        draft.rename(place)
        _sync(self.trees)

    def remove_tree(self, digest: str) -> None:
        """Remove a tree, such as one with changed files; its intact files stay as objects."""
        place = self.tree_path(digest)
        if place.exists():
            self.staging.mkdir(exist_ok=True)
            removed = self.staging / uuid.uuid4().hex
            place.rename(removed)
            shutil.rmtree(removed, ignore_errors=True)

    def forget(self, digest: str, manifest: Manifest) -> None:
        """Remove a downloaded tree and its objects. A tree that shares an object has its own link or copy of it."""
        self.remove_tree(digest)
        for file in manifest.values():
            self.blob_path(file.sha256).unlink(missing_ok=True)


def copy_checked(source: Path, target: Path, sha256: str) -> None:
    """Copy a file and check that the copied bytes have the digest of the manifest. Raises CorruptAdapter."""
    digest = hashlib.sha256()
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(source, flags), "rb") as reader, target.open("wb") as writer:  # noqa: PTH123
        while block := reader.read(1 << 20):
            digest.update(block)
            writer.write(block)
        writer.flush()
        os.fsync(writer.fileno())
    if digest.hexdigest() != sha256:
        raise CorruptAdapter("the file changed while it was being published. Publish it after its run has ended.", where=source)
    target.chmod(0o444)


def write_synced(target: Path, content: bytes) -> None:
    """Write a read-only file that survives a power failure."""
    with target.open("wb") as writer:
        writer.write(content)
        writer.flush()
        os.fsync(writer.fileno())
    target.chmod(0o444)


def _link(source: Path, target: Path) -> None:
    """Create a hard link, or a copy if the file system has no links or the file has too many."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        target.chmod(0o444)
        with target.open("rb") as file:
            os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Flush the names in a folder to disk, so that they survive a power failure."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
