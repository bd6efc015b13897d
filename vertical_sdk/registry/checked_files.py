"""The files of an adapter's folder, read so that the bytes that are used are the bytes that were compared with their digests."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from vertical_sdk.errors import CorruptAdapter
from vertical_sdk.registry.tree import cached_digest

__all__ = ["CheckedFiles"]


class CheckedFiles:
    """The files of an adapter's folder by name.

    A folder can change between a check and a use, such as one of a registry that several users can write. So `read` opens a file once,
    and its digest is that of the bytes that it returns.
    """

    def __init__(self, folder: Path, digests: Mapping[str, str] | None = None, *, at_once: bool = False) -> None:
        """Name the files; this reads none.

        digests  path in the folder → SHA-256 that the file must have; None if none are known, as of a folder without a card
        at_once  compare each file when it is read; False: `check` compares what was read until then, and later reads are compared
        """
        self.folder = folder
        self.digests = digests
        self._at_once = at_once
        self._read: dict[str, str] = {}

    @classmethod
    def from_source(cls, source: CheckedFiles | Path) -> CheckedFiles:
        """Return the files of a folder without known digests; files are returned as they are."""
        return source if isinstance(source, CheckedFiles) else cls(source)

    def __contains__(self, name: str) -> bool:
        return (self.folder / name).is_file() if self.digests is None else name in self.digests

    def read(self, name: str) -> bytes:
        """Read a whole file.

        Raises CorruptAdapter if it is missing, not a regular file, not one of the adapter, or changed.
        """
        if self.digests is not None and name not in self.digests:
            raise CorruptAdapter(
                "this file does not belong to the adapter. Download the adapter again.", where=self.folder / name
            )
        content = _read_regular(self.folder / name)
        if self.digests is not None:
            self._read[name] = hashlib.sha256(content).hexdigest()
            if self._at_once:
                self._compare(name, self._read[name])
        return content

    def check(self) -> None:
        """Compare all files with their digests. Those that were read before are not read again: their bytes are in use.

        Raises CorruptAdapter with the name of a file that is missing or changed.
        """
        self._at_once = True
        for name in self.digests or ():
            path = self.folder / name
            if name not in self._read and not path.is_file():
                raise CorruptAdapter("this file is missing. Download the adapter again.", where=path)
            self._compare(name, self._read.get(name) or cached_digest(path))

    def _compare(self, name: str, digest: str) -> None:
        if self.digests is not None and digest != self.digests[name]:
            raise CorruptAdapter(
                "this file was changed or cut after the adapter was saved. Download the adapter again.",
                where=self.folder / name,
            )


def _read_regular(path: Path) -> bytes:
    """Read a file; a link or a device is refused, which could be anything and may have no end."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        with open(os.open(path, flags), "rb") as file:  # noqa: PTH123
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return file.read()
    except FileNotFoundError:
        raise CorruptAdapter("this file is missing. Download the adapter again.", where=path) from None
    except OSError as error:
        raise CorruptAdapter(f"this file cannot be read ({error.strerror}). A link is not followed.", where=path) from None
    raise CorruptAdapter("this is not a regular file. Download the adapter again.", where=path)
