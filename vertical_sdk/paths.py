"""Folders of this machine that the library uses, and writing a file whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import platformdirs

from vertical_sdk.errors import RunError, VerticalError

__all__ = [
    "cache_home",
    "expand_home",
    "file_digest",
    "hide_addresses",
    "hide_path",
    "is_disk_full",
    "known_digest",
    "open_whole",
    "public_source",
    "read_regular",
    "registry_home",
    "report_full_disk",
    "rows_home",
    "stamp_file",
    "write_whole",
]

FULL = ("No space left", "Disk quota exceeded", "os error 28")
"""How libraries report a full disk in errors of their own: safetensors, pip."""
FULL_IN_TORCH = ("file write failed", "PytorchStreamWriter", "unexpected pos")
"""How torch.save reports it, always in a RuntimeError."""
_PATH = re.compile(r"(?:file://|~/|\.{1,2}/|/[^/\n{}]+/)[^\n{}]*$")
"""The path of a file or folder of this machine."""
_ADDRESS = re.compile(r"file://[^\s'\"(),;]+", re.IGNORECASE)


def cache_home() -> Path:
    """The folder of downloads and of files derived from them: `$VERTICAL_HOME/cache`, or the user's cache folder."""
    home = os.environ.get("VERTICAL_HOME")
    return Path(home) / "cache" if home else Path(platformdirs.user_cache_dir("vertical_sdk"))


def registry_home() -> str:
    """The default registry: `$VERTICAL_REGISTRY`, which may be an address (s3://bucket/adapters), else the folder
    `$VERTICAL_HOME/registry`, or a folder in the user's data folder."""
    registry, home = os.environ.get("VERTICAL_REGISTRY"), os.environ.get("VERTICAL_HOME")
    return registry or str(Path(home or platformdirs.user_data_dir("vertical_sdk")) / "registry")


def rows_home() -> Path:
    """The folder of tables that were given to `train`: `$VERTICAL_HOME/rows`, or a folder in the user's data folder."""
    home = os.environ.get("VERTICAL_HOME")
    return Path(home or platformdirs.user_data_dir("vertical_sdk")).absolute() / "rows"


def expand_home(path: str | Path) -> Path:
    """The path with `~` as the user's home folder, and `~name` as that of a user; unchanged if there is no such user."""
    if "\0" in str(path):  # no path can have it, and expanduser raises ValueError
        return Path(path)
    return Path(os.path.expanduser(path))  # noqa: PTH111  (Path.expanduser raises RuntimeError for an unknown user)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


_known: dict[tuple[int, ...], str] = {}
"""Device and stamp of a file → its SHA-256, so that a process reads an unchanged file once."""


def stamp_file(path: str | Path) -> tuple[int, ...]:
    """What changes if a file is changed or replaced, without reading it: size, time, inode, and the time of the inode, which no
    program can set back. Raises OSError for a link or a special file too."""
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns


def known_digest(path: str | Path, *, reread: bool = False) -> str:
    """SHA-256 of a file. A process reads it once, and again if its stamp has changed. Raises OSError."""
    key = (os.lstat(path).st_dev, *stamp_file(path))
    known = None if reread else _known.get(key)
    if known is None:
        known = _known[key] = file_digest(Path(path))
    return known


def read_regular(path: str | Path, *, largest: int) -> bytes:
    """Read a whole file of at most so many bytes. Raises OSError, also for a larger one, a link, a pipe or a device, of which the
    content could be anything and have no end."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags), "rb") as file:  # noqa: PTH123
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if status.st_size > largest:
            raise OSError(errno.EFBIG, f"it has {status.st_size} bytes, and at most {largest} are read", str(path))
        return file.read(largest)


def write_whole(path: Path, content: bytes | str, *, mode: int = 0o644) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new content and nothing between.

    Raises RunError if the folder is read-only or the disk is full; the old content is then unchanged.
    """
    with open_whole(path, mode=mode) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def open_whole(path: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Open a file to write it in parts, as `write_whole` does in one: it has its name only after the block, and not if that raises."""
    with report_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(mode)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def is_disk_full(error: BaseException | str) -> bool:
    """Whether an error, one of its causes, or a program's output says that the disk or the user's quota is full."""
    if isinstance(error, str):
        return any(phrase in error for phrase in FULL)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in {errno.ENOSPC, errno.EDQUOT}:
            return True
        phrases = FULL + FULL_IN_TORCH if isinstance(cause, RuntimeError) else FULL
        if any(phrase in str(cause) for phrase in phrases):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def hide_path(text: str) -> str:
    """Return the last part of the path of a file or folder of this machine; any other text unchanged."""
    return public_source(text) if _PATH.match(text) else hide_addresses(text)


def hide_addresses(text: str) -> str:
    """Replace each file:// address in a text by the last part of its path."""
    return _ADDRESS.sub(lambda match: public_source(match[0]), text)


def public_source(source: str) -> str:
    """The form of a source that others may read: the path of a file or folder becomes its last part, anything else stays."""
    if source[:7].lower() == "file://":
        source = source[7:].partition("?")[0].partition("#")[0]
    elif ":" in source and not source.startswith(("/", "~", ".")):
        return source
    return source.rstrip("/").rpartition("/")[2] or source


@contextlib.contextmanager
def report_full_disk(path: Path) -> Iterator[None]:
    """Turn "no space left", "read-only" and "permission denied" into a RunError that says what to do.

    This also finds a full disk in the errors of safetensors and torch.save, which replace the OSError by one of their own.
    """
    try:
        yield
    except VerticalError:
        raise
    except Exception as error:
        if is_disk_full(error):
            message = "the disk is full. Free some space or choose another folder, then run it again."
            raise RunError(message, where=path) from error
        if isinstance(error, OSError) and error.errno in {errno.EROFS, errno.EACCES, errno.EPERM}:
            message = f"cannot be written ({error.strerror}). Choose a folder that you may write to."
            raise RunError(message, where=path) from error
        raise
