"""Where things are kept on this machine, and how a file is written so that it is whole or not there."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from vertical_sdk.errors import RunError

__all__ = ["cache_home", "file_digest", "registry_home", "report_full_disk", "write_whole"]


def cache_home() -> Path:
    """Downloads and what is made from them: `$VERTICAL_HOME/cache`, or the user's cache folder."""
    home = os.environ.get("VERTICAL_HOME")
    return Path(home) / "cache" if home else Path(platformdirs.user_cache_dir("vertical_sdk"))


def registry_home() -> str:
    """The registry that is used where none is named: `$VERTICAL_REGISTRY`, which may be an address (s3://bucket/adapters), else
    the folder `$VERTICAL_HOME/registry`, or one in the user's data folder."""
    named, home = os.environ.get("VERTICAL_REGISTRY"), os.environ.get("VERTICAL_HOME")
    return named or str(Path(home or platformdirs.user_data_dir("vertical_sdk")) / "registry")


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_whole(path: Path, content: bytes | str, *, mode: int = 0o644) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new one and nothing between.

    Raises RunError where the folder is read-only or the disk is full; the old content then stands.
    """
    data = content.encode() if isinstance(content, str) else content
    with report_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(mode)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def report_full_disk(path: Path) -> Iterator[None]:
    """Turn "no space left", "read-only" and "permission denied" into a RunError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise RunError(f"{path}: the disk is full. Free some space or choose another folder, then run it again.") from error
        if error.errno in {errno.EROFS, errno.EACCES, errno.EPERM}:
            raise RunError(f"{path}: cannot be written ({error.strerror}). Choose a folder that you may write to.") from error
        raise
