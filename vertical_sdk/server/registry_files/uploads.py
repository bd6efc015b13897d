"""Files that were uploaded and are not published yet: a folder for each token, and in it one for each new version."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import threading
import time
import uuid
from collections.abc import AsyncIterable, Iterator
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from vertical_sdk.errors import DigestMismatch, RegistryError
from vertical_sdk.paths import report_full_disk
from vertical_sdk.registry.store import Manifest
from vertical_sdk.server.errors import TooLarge
from vertical_sdk.server.registry_files.quotas import WaitingFiles
from vertical_sdk.server.settings import Limits

__all__ = ["Uploads", "check_sizes"]

BLOCK = 1 << 20
AHEAD = 4
"""A token may upload this many versions of the largest size before it publishes them."""
TRIES = 3


class Uploads:
    """A folder of uploaded files. Only the token that uploaded a file can use it."""

    def __init__(self, root: Path, limits: Limits) -> None:
        self.root = root
        self.limits = limits
        self._waiting = WaitingFiles(AHEAD * limits.version, AHEAD * limits.files, self._list_sizes)
        self._lock = threading.Lock()
        self._publishing: dict[tuple[str, str], tuple[threading.Lock, int]] = {}

    def path_of(self, token: str, digest: str, sha256: str) -> Path:
        """The path of an uploaded file of a version, whether it exists or not."""
        return self.root / token / digest / sha256

    def missing(self, token: str, digest: str, manifest: Manifest) -> list[str]:
        """The digests of files that were not uploaded yet."""
        sizes = {file.sha256: file.size for file in manifest.values()}
        return sorted(sha256 for sha256, size in sizes.items() if _size(self.path_of(token, digest, sha256)) != size)

    async def receive(self, token: str, digest: str, sha256: str, stream: AsyncIterable[bytes], length: int | None) -> None:
        """Store a file that arrives in pieces, if its digest is right; of an incomplete upload nothing is stored.

        Raises TooLarge, DigestMismatch, RunError if the disk is full.
        """
        place = self.path_of(token, digest, sha256)
        part = self.root / token / f"{uuid.uuid4().hex}.part"  # not in the folder that publishing removes
        digester, size, counted = hashlib.sha256(), 0, length or 0
        self._check_size(counted)
        await run_in_threadpool(self._waiting.set, token, part, counted)
        try:
            with report_full_disk(self.root):
                part.parent.mkdir(parents=True, exist_ok=True)
                with part.open("wb") as file:
                    block = bytearray()

                    def write() -> None:
                        if size > counted:
                            self._waiting.set(token, part, size)
                        digester.update(block)
                        file.write(block)
                        block.clear()

                    async for piece in stream:
                        size += len(piece)
                        self._check_size(size)
                        block += piece
                        if len(block) >= BLOCK:
                            await run_in_threadpool(write)
                    await run_in_threadpool(write)
                if digester.hexdigest() != sha256:
                    raise DigestMismatch(f"what was uploaded as {sha256[:12]}… has another SHA-256. Upload it again.")
                await run_in_threadpool(self._keep, token, part, place)
        finally:
            part.unlink(missing_ok=True)
            self._waiting.remove(token, part)

    def _keep(self, token: str, part: Path, place: Path) -> None:
        """Give a file its final name. Another request may remove the folder at the same time, because it has published it."""
        for attempt in range(TRIES):
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                part.replace(place)
            except FileNotFoundError:
                if attempt == TRIES - 1:
                    raise
            else:
                self._waiting.move(token, part, place)
                return

    @contextlib.contextmanager
    def publishing(self, token: str, digest: str) -> Iterator[None]:
        """Publish a version of a token alone: a request for the same one waits, and finds it published."""
        key = token, digest
        with self._lock:
            lock, waiting = self._publishing.get(key, (threading.Lock(), 0))
            self._publishing[key] = lock, waiting + 1
        try:
            with lock:
                yield
        finally:
            with self._lock:
                lock, waiting = self._publishing.pop(key)
                if waiting > 1:
                    self._publishing[key] = lock, waiting - 1

    @contextlib.contextmanager
    def stage(self, token: str, digest: str, manifest: Manifest) -> Iterator[Path]:
        """Collect the uploaded files in a folder, under their paths, as long as the block runs.

        Raises RegistryError if the paths cannot all be in one folder, or a file was removed meanwhile.
        """
        staging = self.root / f".staging-{uuid.uuid4().hex}"
        folder = staging / "adapter"
        try:
            with report_full_disk(self.root):
                folder.mkdir(parents=True)
                for path, file in manifest.items():
                    target = folder / path
                    try:
                        target.parent.mkdir(parents=True, exist_ok=True)
                        _link(self.path_of(token, digest, file.sha256), target)
                    except FileNotFoundError:
                        raise RegistryError(
                            f"{path} was removed while the version was being published. Upload it again."
                        ) from None
                    except (FileExistsError, NotADirectoryError, IsADirectoryError):
                        raise RegistryError(f"{path!r} is both a file and a folder, or is listed twice.") from None
                    except OSError as error:
                        if error.errno not in {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ}:
                            raise
                        raise RegistryError(f"{path!r} cannot be a file here ({error.strerror}).") from None
            yield folder
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def drop(self, token: str, digest: str) -> None:
        """Remove a version's uploads once it is published."""
        shutil.rmtree(self.root / token / digest, ignore_errors=True)
        self._waiting.remove(token, self.root / token / digest)

    def sweep(self) -> None:
        """Remove files that have waited too long, or that a killed server left."""
        eldest = time.time() - self.limits.keep
        for path in self.root.rglob("*"):
            with contextlib.suppress(OSError):
                if path.is_file() and path.lstat().st_mtime < eldest:
                    path.unlink()
                    self._waiting.remove(path.relative_to(self.root).parts[0], path)
        for path in sorted(self.root.rglob("*"), reverse=True):
            with contextlib.suppress(OSError):  # a folder that is not empty stays
                if path.is_dir() and path.lstat().st_mtime < eldest:
                    path.rmdir()

    def _list_sizes(self, token: str) -> dict[Path, int]:
        """The files of a token that are on disk, with their sizes."""
        sizes = {path: _size(path) for path in (self.root / token).rglob("*")}
        return {path: size for path, size in sizes.items() if size is not None}

    def _check_size(self, size: int) -> None:
        if size > self.limits.file:
            raise TooLarge(f"the file has more than {self.limits.file} bytes, which is the limit of this server.")


def check_sizes(manifest: Manifest, limits: Limits) -> None:
    """Check that a version is not larger than the server accepts, before anything is uploaded. Raises TooLarge."""
    if len(manifest) > limits.files:
        raise TooLarge(f"the version has {len(manifest)} files; this server accepts at most {limits.files}.")
    for path, file in manifest.items():
        if file.size > limits.file:
            raise TooLarge(f"{path} has {file.size} bytes; this server accepts files of at most {limits.file}.")
    total = sum(file.size for file in manifest.values())
    if total > limits.version:
        raise TooLarge(f"the version has {total} bytes; this server accepts at most {limits.version}.")


def _size(path: Path) -> int | None:
    try:
        return path.lstat().st_size if path.is_file() else None
    except OSError:
        return None


def _link(source: Path, target: Path) -> None:
    """Create a hard link, or a copy if the file system has no links."""
    try:
        os.link(source, target)
    except (FileNotFoundError, FileExistsError, NotADirectoryError):
        raise
    except OSError:
        shutil.copyfile(source, target)
