"""Files that were uploaded and are not published yet: a folder for each token, and in it one for each new version."""

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
from vertical_sdk.server.errors import TooLarge
from vertical_sdk.server.settings import Limits

__all__ = ["Uploads", "check_sizes"]

BLOCK = 1 << 20
AHEAD = 4
"""A token may upload this many versions of the largest size before it publishes them."""
FULL = "too many uploaded files are not published yet. Publish them, or wait a day until they are removed."


class Uploads:
    """A folder of uploaded files. Only the token that uploaded a file can use it."""

    def __init__(self, root: Path, limits: Limits) -> None:
        self.root = root
        self.limits = limits

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
        room = await run_in_threadpool(self._free_bytes, token)
        self._check_fits(length or 0, room)
        part = place.with_name(f"{sha256}.{uuid.uuid4().hex}")
        digester, size = hashlib.sha256(), 0
        try:
            with report_full_disk(self.root):
                place.parent.mkdir(parents=True, exist_ok=True)
                with part.open("wb") as file:
                    block = bytearray()

                    def write() -> None:
                        digester.update(block)
                        file.write(block)
                        block.clear()

                    async for piece in stream:
                        size += len(piece)
                        self._check_fits(size, room)
                        block += piece
                        if len(block) >= BLOCK:
                            await run_in_threadpool(write)
                    await run_in_threadpool(write)
                if digester.hexdigest() != sha256:
                    raise DigestMismatch(f"what was uploaded as {sha256[:12]}… has another SHA-256. Upload it again.")
                part.replace(place)
        finally:
            part.unlink(missing_ok=True)

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

    def sweep(self) -> None:
        """Remove files that have waited too long, or that a killed server left."""
        eldest = time.time() - self.limits.keep
        for path in self.root.rglob("*"):
            with contextlib.suppress(OSError):
                if path.is_file() and path.lstat().st_mtime < eldest:
                    path.unlink()
        for path in sorted(self.root.rglob("*"), reverse=True):
            with contextlib.suppress(OSError):  # a folder that is not empty stays
                if path.is_dir() and path.lstat().st_mtime < eldest:
                    path.rmdir()

    def _free_bytes(self, token: str) -> int:
        """Bytes that a token may still upload. Raises TooLarge if it has too many files here."""
        sizes = [_size(path) for path in (self.root / token).rglob("*")]
        if len(sizes) >= AHEAD * self.limits.files:
            raise TooLarge(FULL)
        return AHEAD * self.limits.version - sum(size or 0 for size in sizes)

    def _check_fits(self, size: int, room: int) -> None:
        if size > self.limits.file:
            raise TooLarge(f"the file has more than {self.limits.file} bytes, which is the limit of this server.")
        if size > room:
            raise TooLarge(FULL)


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
