"""Keys and bytes in a place that fsspec reaches: the operations that `stores.objects` needs of an object store."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from vertical_sdk.errors import RegistryError, SourceError

__all__ = ["MAX_REQUESTS", "Bucket", "read_size_and_age", "run_in_parallel"]

T = TypeVar("T")
U = TypeVar("U")

MAX_REQUESTS = 32
"""Requests that run at the same time."""


class Bucket:
    """Keys and bytes on an fsspec file system; all keys are below `root`."""

    def __init__(self, files: Any, root: str, where: str) -> None:
        self.files = files
        self.root = root
        self.where = where

    @contextlib.contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Turn the file system's errors into ours, except FileExistsError and FileNotFoundError of a key."""
        try:
            yield
        except (FileExistsError, FileNotFoundError):
            raise
        except PermissionError as error:
            raise RegistryError(
                f"{self.where}: access was refused ({error}). Ask its administrator for the right to read and write there."
            ) from error
        except OSError as error:
            raise SourceError(f"{self.where}: cannot be read or written ({error}). Try again.") from error

    def create(self, key: str, content: bytes) -> bool:
        """Write a key that does not exist yet. Return False if it exists, or if another process writes it at the same time."""
        try:
            with self.translate_errors():
                self.files.pipe_file(f"{self.root}/{key}", content, mode="create")
        except FileExistsError:
            return False
        return True

    def read(self, key: str, start: int | None = None, end: int | None = None) -> bytes | None:
        """Read a key, or its bytes from `start` to before `end`. None means that the key does not exist."""
        try:
            with self.translate_errors():
                content: bytes = self.files.cat_file(f"{self.root}/{key}", start=start, end=end)
        except FileNotFoundError:
            return None
        return content

    def upload(self, path: Path, key: str) -> None:
        """Write a file's bytes at a key, and overwrite what the key has."""
        with self.translate_errors():
            self.files.put_file(str(path), f"{self.root}/{key}")

    def find_size_and_age(self, key: str) -> tuple[int, float] | None:
        """Size (bytes) and age (seconds) of a key. None means that the key does not exist."""
        try:
            with self.translate_errors():
                return read_size_and_age(self.files.info(f"{self.root}/{key}"))
        except FileNotFoundError:
            return None

    def list_children(self, key: str) -> list[str]:
        """List the names directly below a key, sorted."""
        try:
            with self.translate_errors():
                paths = self.files.ls(f"{self.root}/{key}", detail=False)
        except FileNotFoundError:
            return []
        return sorted({path.rstrip("/").rpartition("/")[2] for path in paths})

    def list_all(self, key: str) -> dict[str, tuple[int, float]]:
        """List all keys below a key at any depth: the last part of each → its size (bytes) and age (seconds)."""
        try:
            with self.translate_errors():
                files = self.files.find(f"{self.root}/{key}", detail=True)
        except FileNotFoundError:
            return {}
        return {path.rpartition("/")[2]: read_size_and_age(info) for path, info in files.items()}

    def remove(self, key: str) -> None:
        """Remove a key. If it does not exist, do nothing."""
        with contextlib.suppress(FileNotFoundError), self.translate_errors():
            self.files.rm_file(f"{self.root}/{key}")


def run_in_parallel(function: Callable[[T], U], items: Iterable[T]) -> list[U]:
    """Call a function for each item, many at the same time, and return the results in the order of the items."""
    items = list(items)
    if len(items) < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(min(MAX_REQUESTS, len(items))) as pool:
        return list(pool.map(function, items))


def read_size_and_age(info: Mapping[str, Any]) -> tuple[int, float]:
    """Read size (bytes) and age (seconds) from a file system's description of a key."""
    changed = info.get("LastModified") or info.get("created") or 0.0
    if isinstance(changed, datetime):
        changed = changed.replace(tzinfo=changed.tzinfo or timezone.utc).timestamp()
    return int(info["size"]), time.time() - float(changed)
