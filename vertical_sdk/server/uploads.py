"""Files that were uploaded and are not published yet: a folder for each token, in it one for each version that is to be."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import AsyncIterable, Iterator
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from vertical_sdk.errors import DigestMismatch, RegistryError
from vertical_sdk.paths import report_full_disk
from vertical_sdk.registry.store import Manifest
from vertical_sdk.server.limits import Limits

__all__ = ["TooLarge", "Uploads", "check_sizes"]

BLOCK = 1 << 20
AHEAD = 4
"""A token may have this many versions of the largest size uploaded and not published."""
FULL = "too much is uploaded and not published yet. Publish it, or wait a day until it is gone."


class TooLarge(RegistryError):
    """More than the server takes."""


class Uploads:
    """A folder that files wait in; nothing in it is ever read by anybody but the token that brought it."""

    def __init__(self, root: Path, limits: Limits) -> None:
        self.root = root
        self.limits = limits

    def file(self, token: str, digest: str, sha256: str) -> Path:
        """Where a file of a version waits, or would."""
        return self.root / token / digest / sha256

    def missing(self, token: str, digest: str, manifest: Manifest) -> list[str]:
        """The digests of files that were not uploaded yet."""
        asked = {file.sha256: file.size for file in manifest.values()}
        return sorted(sha256 for sha256, size in asked.items() if _size(self.file(token, digest, sha256)) != size)

    async def receive(self, token: str, digest: str, sha256: str, stream: AsyncIterable[bytes], length: int | None) -> None:
        """Keep a file that comes in pieces, if it is the one that it should be; nothing is kept of one that is cut.

        Raises TooLarge, DigestMismatch, RunError where the disk is full.
        """
        place = self.file(token, digest, sha256)
        room = await run_in_threadpool(self._room, token)
        self._fits(length or 0, room)
        part = place.with_name(f"{sha256}.{uuid.uuid4().hex}")
        found, size = hashlib.sha256(), 0
        try:
            with report_full_disk(self.root):
                place.parent.mkdir(parents=True, exist_ok=True)
                with part.open("wb") as file:
                    block = bytearray()

                    def write() -> None:
                        found.update(block)
                        file.write(block)
                        block.clear()

                    async for piece in stream:
                        size += len(piece)
                        self._fits(size, room)
                        block += piece
                        if len(block) >= BLOCK:
                            await run_in_threadpool(write)
                    await run_in_threadpool(write)
                if found.hexdigest() != sha256:
                    raise DigestMismatch(f"what was uploaded as {sha256[:12]}… has another SHA-256. Upload it again.")
                part.replace(place)
        finally:
            part.unlink(missing_ok=True)

    @contextlib.contextmanager
    def laid_out(self, token: str, digest: str, manifest: Manifest) -> Iterator[Path]:
        """The uploaded files as a folder, under their paths, as long as the block runs.

        Raises RegistryError where the paths cannot all be in one folder, or a file is gone meanwhile.
        """
        desk = self.root / f".desk-{uuid.uuid4().hex}"
        folder = desk / "adapter"
        try:
            with report_full_disk(self.root):
                folder.mkdir(parents=True)
                for path, file in manifest.items():
                    target = folder / path
                    try:
                        target.parent.mkdir(parents=True, exist_ok=True)
                        _link(self.file(token, digest, file.sha256), target)
                    except FileNotFoundError:
                        raise RegistryError(f"{path} was taken away while it was to be published. Upload it again.") from None
                    except (FileExistsError, NotADirectoryError, IsADirectoryError):
                        raise RegistryError(f"{path!r} is a file and a folder at once, or there twice.") from None
                    except OSError as error:
                        if error.errno not in {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ}:
                            raise
                        raise RegistryError(f"{path!r} cannot be a file here ({error.strerror}).") from None
            yield folder
        finally:
            shutil.rmtree(desk, ignore_errors=True)

    def drop(self, token: str, digest: str) -> None:
        """Let go of a version's files, once it is published."""
        shutil.rmtree(self.root / token / digest, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what has waited too long, or was left by a server that was killed."""
        eldest = time.time() - self.limits.keep
        for path in self.root.rglob("*"):
            with contextlib.suppress(OSError):
                if path.is_file() and path.lstat().st_mtime < eldest:
                    path.unlink()
        for path in sorted(self.root.rglob("*"), reverse=True):
            with contextlib.suppress(OSError):  # one that is not empty stays
                if path.is_dir() and path.lstat().st_mtime < eldest:
                    path.rmdir()

    def _room(self, token: str) -> int:
        """Bytes that a token may still upload. Raises TooLarge where it has too many files here."""
        sizes = [_size(path) for path in (self.root / token).rglob("*")]
        if len(sizes) >= AHEAD * self.limits.files:
            raise TooLarge(FULL)
        return AHEAD * self.limits.version - sum(size or 0 for size in sizes)

    def _fits(self, size: int, room: int) -> None:
        if size > self.limits.file:
            raise TooLarge(f"the file has more than {self.limits.file} bytes, which is the most that this server takes.")
        if size > room:
            raise TooLarge(FULL)


def check_sizes(manifest: Manifest, limits: Limits) -> None:
    """See that a version is not larger than the server takes, before anything is uploaded. Raises TooLarge."""
    if len(manifest) > limits.files:
        raise TooLarge(f"the version has {len(manifest)} files; this server takes {limits.files}.")
    for path, file in manifest.items():
        if file.size > limits.file:
            raise TooLarge(f"{path} has {file.size} bytes; this server takes files of at most {limits.file}.")
    total = sum(file.size for file in manifest.values())
    if total > limits.version:
        raise TooLarge(f"the version has {total} bytes; this server takes at most {limits.version}.")


def _size(path: Path) -> int | None:
    try:
        return path.lstat().st_size if path.is_file() else None
    except OSError:
        return None


def _link(source: Path, target: Path) -> None:
    """A hard link, or a copy where the file system has no links."""
    try:
        os.link(source, target)
    except (FileNotFoundError, FileExistsError, NotADirectoryError):
        raise
    except OSError:
        shutil.copyfile(source, target)
