"""The store that is in this process's memory and gone with it: for tests and for trying things out."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from vertical_sdk.registry.stores.bucket import Bucket
from vertical_sdk.registry.stores.objects import ObjectStore

__all__ = ["MemoryStore"]

_writing = threading.Lock()


def _after_fork() -> None:
    global _writing  # noqa: PLW0603  # another thread may have held it when the process forked
    _writing = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class MemoryStore(ObjectStore):
    """A registry at memory://NAME; all stores of a process with one name are the same."""

    def __init__(self, location: str) -> None:
        from fsspec.implementations.memory import MemoryFileSystem

        root = f"/{location.strip('/')}"
        super().__init__(lambda: _MemoryBucket(MemoryFileSystem(), root, f"memory:/{root}"))


class _MemoryBucket(Bucket):
    """fsspec's memory file system, where threads write one after the other."""

    def create(self, key: str, content: bytes) -> bool:
        with _writing:
            return super().create(key, content)

    def upload(self, path: Path, key: str) -> None:
        with _writing, self.telling():  # at once, as a file that is being put can be read already
            self.files.pipe_file(f"{self.root}/{key}", path.read_bytes())

    def remove(self, key: str) -> None:
        with _writing:
            super().remove(key)
