"""Keys and bytes in a place that fsspec reaches: what `stores.objects` asks of an object store."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from vertical_sdk.errors import RegistryError, SourceError

__all__ = ["AT_ONCE", "Bucket", "size_and_age", "together"]

T = TypeVar("T")
U = TypeVar("U")

AT_ONCE = 32
"""Requests that are under way at the same time."""


class Bucket:
    """Keys and bytes on an fsspec file system; all keys are below `root`."""

    def __init__(self, files: Any, root: str, where: str) -> None:
        self.files = files
        self.root = root
        self.where = where

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """Turn the file system's errors into ours; FileExistsError and FileNotFoundError of a key go through."""
        try:
            yield
        except (FileExistsError, FileNotFoundError):
            raise
        except PermissionError as error:
            raise RegistryError(
                f"{self.where}: refused ({error}). Ask whoever runs it for the right to read and write there."
            ) from error
        except OSError as error:
            raise SourceError(f"{self.where}: cannot be read or written ({error}). Try again.") from error

    def create(self, key: str, content: bytes) -> bool:
        """Write a key that nobody has written yet. False where it exists, or somebody writes it at the same time."""
        try:
            with self.telling():
                self.files.pipe_file(f"{self.root}/{key}", content, mode="create")
        except FileExistsError:
            return False
        return True

    def read(self, key: str, start: int | None = None, end: int | None = None) -> bytes | None:
        """The bytes of a key, or those from `start` to before `end`; None where there is no such key."""
        try:
            with self.telling():
                content: bytes = self.files.cat_file(f"{self.root}/{key}", start=start, end=end)
        except FileNotFoundError:
            return None
        return content

    def upload(self, path: Path, key: str) -> None:
        """Write a file's bytes at a key, whatever stands there."""
        with self.telling():
            self.files.put_file(str(path), f"{self.root}/{key}")

    def look(self, key: str) -> tuple[int, float] | None:
        """Size and age (seconds) of a key; None where there is no such key."""
        try:
            with self.telling():
                return size_and_age(self.files.info(f"{self.root}/{key}"))
        except FileNotFoundError:
            return None

    def children(self, key: str) -> list[str]:
        """What stands directly below a key, sorted."""
        try:
            with self.telling():
                found = self.files.ls(f"{self.root}/{key}", detail=False)
        except FileNotFoundError:
            return []
        return sorted({path.rstrip("/").rpartition("/")[2] for path in found})

    def below(self, key: str) -> dict[str, tuple[int, float]]:
        """The last parts of all keys below a key, with size and age (seconds)."""
        try:
            with self.telling():
                found = self.files.find(f"{self.root}/{key}", detail=True)
        except FileNotFoundError:
            return {}
        return {path.rpartition("/")[2]: size_and_age(info) for path, info in found.items()}

    def remove(self, key: str) -> None:
        """Remove a key; nothing happens where there is none."""
        with contextlib.suppress(FileNotFoundError), self.telling():
            self.files.rm_file(f"{self.root}/{key}")


def together(do: Callable[[T], U], items: Iterable[T]) -> list[U]:
    """What a function makes of each item, in their order; many requests are under way at once."""
    items = list(items)
    if len(items) < 2:
        return [do(item) for item in items]
    with ThreadPoolExecutor(min(AT_ONCE, len(items))) as pool:
        return list(pool.map(do, items))


def size_and_age(info: Mapping[str, Any]) -> tuple[int, float]:
    """Size (bytes) and age (seconds) of what a file system says of a key."""
    changed = info.get("LastModified") or info.get("created") or 0.0
    if isinstance(changed, datetime):
        changed = changed.replace(tzinfo=changed.tzinfo or timezone.utc).timestamp()
    return int(info["size"]), time.time() - float(changed)
