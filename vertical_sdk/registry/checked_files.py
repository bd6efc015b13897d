"""The files of an adapter's folder, read so that the bytes that are used are the bytes that were compared with their digests."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from vertical_sdk.errors import CorruptAdapter
from vertical_sdk.paths import read_regular
from vertical_sdk.registry.tree import LARGEST, cached_digest

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

    def read(self, name: str, *, largest: int = LARGEST) -> bytes:
        """Read a whole file of at most so many bytes.

        Raises CorruptAdapter if it is missing, too large, not a regular file, not one of the adapter, or changed.
        """
        if self.digests is not None and name not in self.digests:
            raise CorruptAdapter(
                "this file does not belong to the adapter. Download the adapter again.", where=self.folder / name
            )
        content = _read(self.folder / name, largest)
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
            if name not in self._read and not os.path.isfile(path):  # noqa: PTH113  (a long name is no file, and no error)
                raise CorruptAdapter("this file is missing. Download the adapter again.", where=path)
            if name not in self._read and path.stat().st_size > LARGEST:
                raise CorruptAdapter(f"this file has {path.stat().st_size} bytes, and at most {LARGEST} are read.", where=path)
            self._compare(name, self._read.get(name) or cached_digest(path))

    def _compare(self, name: str, digest: str) -> None:
        if self.digests is not None and digest != self.digests[name]:
            raise CorruptAdapter(
                "this file was changed or cut after the adapter was saved. Download the adapter again.",
                where=self.folder / name,
            )


def _read(path: Path, largest: int) -> bytes:
    try:
        return read_regular(path, largest=largest)
    except FileNotFoundError:
        raise CorruptAdapter("this file is missing. Download the adapter again.", where=path) from None
    except (OSError, ValueError) as error:
        problem = error.strerror if isinstance(error, OSError) else error
        raise CorruptAdapter(f"this file cannot be read ({problem}). A link is not followed.", where=path) from None
