"""Files under their digests in a folder, and folders ("trees") that are put together from them.

    objects/ab/<sha256>      each file once; a manifest is such a file too
    trees/<digest>/…         one folder a version's content: hard links to the objects, or copies where there are no links
    staging/                 what is being written

The store that is a plain folder keeps its adapters in one, and stores that are elsewhere keep here what they have downloaded.
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

from vertical_sdk.errors import CorruptAdapter, DigestMismatch, SourceError
from vertical_sdk.paths import cache_home, report_full_disk
from vertical_sdk.registry.store import Manifest, Stored, manifest_digest
from vertical_sdk.registry.tree import check_path, has_digest, tree_problems

__all__ = ["BlobStore", "Fetch", "copy_checked", "downloads", "parse_manifest", "write_synced"]

SHA256 = re.compile(r"[0-9a-f]{64}")
"""A digest becomes a file's name, so it must be one."""
Fetch = Callable[[Stored, Path], None]
"""Brings the bytes of a file into a path. What stands there already is the beginning of them, from a download that was cut: a fetch
that can goes on behind it, one that cannot writes it anew."""


def open_downloads() -> BlobStore:
    """Where stores that are elsewhere keep what they have downloaded: `registry` in the cache folder."""
    return BlobStore(cache_home() / "registry")


def parse_manifest(content: bytes, digest: str, where: str) -> dict[str, Stored]:
    """The manifest that these bytes are.

    Raises CorruptAdapter where they have another digest, or are no manifest.
    """
    if hashlib.sha256(content).hexdigest() != digest:
        raise CorruptAdapter(f"{where}: the manifest has changed. Publish the adapter again, or put back a copy.")
    try:
        manifest = {check_path(path): Stored(**file) for path, file in json.loads(content).items()}
        below = {str(parent) for path in manifest for parent in PurePosixPath(path).parents}
        plain = all(SHA256.fullmatch(file.sha256) and type(file.size) is int and file.size >= 0 for file in manifest.values())
        if plain and not below & manifest.keys() and manifest_digest(manifest) == digest:
            return manifest
    except (ValueError, TypeError, AttributeError, RecursionError):
        pass
    raise CorruptAdapter(f"{where}: not a manifest. Somebody wrote into the registry by hand; verify it.") from None


class BlobStore:
    """A folder with objects and trees. Many threads and processes may use it at once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.objects = root / "objects"
        self.trees = root / "trees"
        self.staging = root / "staging"

    def object(self, sha256: str) -> Path:
        """Where the file with this digest is, or would be."""
        return self.objects / sha256[:2] / sha256

    def folder(self, digest: str) -> Path:
        """Where the tree of the manifest with this digest is, or would be."""
        return self.trees / digest

    def tree(self, digest: str, manifest: Manifest, fetch: Fetch) -> Path:
        """The folder of a manifest, whose missing files are fetched and checked before anybody can see them.

        A download that was cut goes on where it stopped; one that is made by two processes at once is made by one of them.
        Raises SourceError for a download that was cut, DigestMismatch where what came is another file; what `fetch` raises goes through.
        """
        from filelock import FileLock

        place = self.folder(digest)
        if place.is_dir():
            return place
        with report_full_disk(self.root):
            self.staging.mkdir(parents=True, exist_ok=True)
            with FileLock(self.staging / f"{digest}.lock"):
                if place.is_dir():
                    return place
                for sha256, file in {file.sha256: file for file in manifest.values()}.items():
                    if not has_digest(self.object(sha256), sha256):
                        self._bring(file, fetch)
                desk = self.staging / uuid.uuid4().hex
                desk.mkdir()
                try:
                    self.add_tree(desk / "tree", digest, manifest)
                finally:
                    shutil.rmtree(desk, ignore_errors=True)
        return place

    def _bring(self, file: Stored, fetch: Fetch) -> None:
        from filelock import FileLock

        part = self.staging / f"{file.sha256}.part"
        with FileLock(self.staging / f"{file.sha256}.lock"):
            if has_digest(self.object(file.sha256), file.sha256):
                return
            if part.exists() and part.stat().st_size > file.size:
                part.unlink()
            fetch(file, part)
            size = part.stat().st_size if part.exists() else 0
            if size < file.size:
                raise SourceError(
                    f"the download of {file.sha256[:12]}… was cut after {size} of {file.size} bytes. Run it again: it goes on from there."
                )
            if size > file.size or not has_digest(part, file.sha256):
                part.unlink()
                raise DigestMismatch(
                    f"what was downloaded is not the file that was published: its SHA-256 is not {file.sha256[:12]}…. "
                    "Run it again; if it stays so, the registry's copy was changed."
                )
            part.chmod(0o444)
            self.add_blob(part, file.sha256)

    def add_blob(self, draft: Path, sha256: str) -> None:
        """Move a file to its place, unless it stands there unharmed."""
        place = self.object(sha256)
        if has_digest(place, sha256):
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        draft.replace(place)
        _sync(place.parent)

    def add_tree(self, draft: Path, digest: str, manifest: Manifest) -> None:
        """Put a tree in its place; one that stands there harmed is taken away first. `draft` is in staging, alone in its folder."""
        place = self.folder(digest)
        if place.exists():
            if not tree_problems(place, manifest):
                return
            place.rename(draft.with_name("harmed"))
        for path, file in manifest.items():
            target = draft / path
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(self.object(file.sha256), target)
        for parent in {(draft / path).parent for path in manifest}:
            _sync(parent)
        self.trees.mkdir(exist_ok=True)
        draft.rename(place)
        _sync(self.trees)

    def remove_tree(self, digest: str) -> None:
        """Take a tree away at once, such as one that was found changed; its good files stay as objects."""
        place = self.folder(digest)
        if place.exists():
            self.staging.mkdir(exist_ok=True)
            away = self.staging / uuid.uuid4().hex
            place.rename(away)
            shutil.rmtree(away, ignore_errors=True)


def copy_checked(source: Path, target: Path, sha256: str) -> None:
    """Copy a file, and see that the bytes that were copied are those of the manifest. Raises CorruptAdapter."""
    digest = hashlib.sha256()
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(source, flags), "rb") as reader, target.open("wb") as writer:  # noqa: PTH123
        while block := reader.read(1 << 20):
            digest.update(block)
            writer.write(block)
        writer.flush()
        os.fsync(writer.fileno())
    if digest.hexdigest() != sha256:
        raise CorruptAdapter(f"{source} changed while it was being published. Publish it when its run is over.")
    target.chmod(0o444)


def write_synced(target: Path, content: bytes) -> None:
    """Write a read-only file that survives a power cut."""
    with target.open("wb") as writer:
        writer.write(content)
        writer.flush()
        os.fsync(writer.fileno())
    target.chmod(0o444)


def _link(source: Path, target: Path) -> None:
    """A hard link, or a copy where the file system has no links or a file has too many."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        target.chmod(0o444)
        with target.open("rb") as file:
            os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """See that the names in a folder survive a power cut."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
