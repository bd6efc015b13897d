"""The store in the memory of this process: for tests and for trying things out. It ends with the process."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from vertical_sdk.registry.stores.bucket import Bucket
from vertical_sdk.registry.stores.objects import ObjectStore

__all__ = ["MemoryStore"]

_write_lock = threading.Lock()


def _replace_lock() -> None:
    global _write_lock  # noqa: PLW0603  # another thread may have held it when the process forked
    _write_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_replace_lock)


class MemoryStore(ObjectStore):
    """A registry at memory://NAME. All stores of a process with the same name share their content."""

    def __init__(self, location: str) -> None:
        from fsspec.implementations.memory import MemoryFileSystem

        root = f"/{location.strip('/')}"
        super().__init__(lambda: _MemoryBucket(MemoryFileSystem(), root, f"memory:/{root}"))


class _MemoryBucket(Bucket):
    """fsspec's memory file system, with one writing thread at a time."""

    def create(self, key: str, content: bytes) -> bool:
        with _write_lock:
            return super().create(key, content)

    def upload(self, path: Path, key: str) -> None:
        with _write_lock, self.translate_errors():  # in one call: put_file shows a file before all of it is written
            self.files.pipe_file(f"{self.root}/{key}", path.read_bytes())

    def remove(self, key: str) -> None:
        with _write_lock:
            super().remove(key)
