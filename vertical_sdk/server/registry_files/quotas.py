"""How much one token may store: files that wait to be published, and versions that it has published."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

from vertical_sdk.errors import RegistryError
from vertical_sdk.json_text import parse_json
from vertical_sdk.paths import report_full_disk, write_whole
from vertical_sdk.server.errors import TooLarge

__all__ = ["PublishedBytes", "WaitingFiles"]

FILE = "published.json"


class WaitingFiles:
    """The sizes of the files of each token, those that are arriving included, so that uploads in parallel share one limit.

    list_sizes  path → bytes of the files of a token on disk, read when the token is first seen
    """

    def __init__(self, most_bytes: int, most_files: int, list_sizes: Callable[[str], dict[Path, int]]) -> None:
        self.most_bytes, self.most_files = most_bytes, most_files
        self._list_sizes = list_sizes
        self._lock = threading.Lock()
        self._sizes: dict[str, dict[Path, int]] = {}
        self._bytes: dict[str, int] = {}

    def set(self, token: str, place: Path, size: int) -> None:
        """Count a file with this size from now on. Raises TooLarge, and changes nothing, if the token has too much then."""
        with self._lock:
            sizes = self._load(token)
            after = self._bytes[token] + size - sizes.get(place, 0)
            if after > self.most_bytes or (place not in sizes and len(sizes) >= self.most_files):
                raise TooLarge(
                    "too many uploaded files are not published yet. Publish them, or wait a day until they are removed."
                )
            sizes[place], self._bytes[token] = size, after

    def move(self, token: str, place: Path, target: Path) -> None:
        """A file has got its final name, and replaced the one that had it."""
        with self._lock:
            sizes = self._load(token)
            self._bytes[token] -= sizes.get(target, 0)
            sizes[target] = sizes.pop(place, 0)

    def remove(self, token: str, place: Path) -> None:
        """Count a file no longer, or all files in a folder."""
        with self._lock:
            sizes = self._load(token)
            for known in [place] if place in sizes else [known for known in sizes if place in known.parents]:
                self._bytes[token] -= sizes.pop(known)

    def _load(self, token: str) -> dict[Path, int]:
        if token not in self._sizes:
            self._sizes[token] = self._list_sizes(token)
            self._bytes[token] = sum(self._sizes[token].values())
        return self._sizes[token]


class PublishedBytes:
    """The bytes of all versions that each token has published through servers with this file of tokens. A file keeps them."""

    def __init__(self, tokens: Path, most: int) -> None:
        self.path = tokens.with_name(FILE)
        self.most = most

    def add(self, token: str, size: int) -> None:
        """Count a version. Raises TooLarge, and counts nothing, if the token has published too much then; RegistryError, RunError."""
        from filelock import FileLock

        with report_full_disk(self.path), FileLock(f"{self.path}.lock"):
            counts = self._read()
            after = max(0, counts.get(token, 0) + size)
            if size > 0 and after > self.most:
                raise TooLarge(
                    f"the token {token!r} has published {counts.get(token, 0)} bytes, and may publish {self.most} in all. "
                    "Ask the administrator of the registry for more: `vertical registry serve --quota`."
                )
            write_whole(self.path, json.dumps({**counts, token: after}, indent=1, sort_keys=True) + "\n", mode=0o600)

    def _read(self) -> dict[str, int]:
        try:
            counts = parse_json(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError:
            counts = None
        if not isinstance(counts, dict) or not all(type(count) is int and count >= 0 for count in counts.values()):
            raise RegistryError(
                "does not contain numbers of bytes. Restore a copy, or remove it to count from 0.", where=self.path
            )
        return counts
