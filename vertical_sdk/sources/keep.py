"""Folders of the cache that are complete or missing, even if several processes build them or are killed.

A cached folder is `<target>/files` and, beside it, `<target>/record.json` with facts about it and the size of each file. Both are
built in a folder next to the target, which is renamed at the end. A folder that was copied or restored in part does not match its
record, and is built again.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock

from vertical_sdk.paths import report_full_disk
from vertical_sdk.types import Progress, silent

__all__ = ["FILES", "RECORD", "build_folder", "finish_folder", "read_record"]

FILES = "files"
RECORD = "record.json"


@contextlib.contextmanager
def build_folder(home: Path, key: str, progress: Progress = silent) -> Iterator[Path]:
    """Create an empty temporary folder in `home`, for one process at a time for each key. It is deleted afterwards.

    Check inside the block whether the target exists now: another process may just have finished it.

    Raises RunError if the disk is full or `home` cannot be written.
    """
    with report_full_disk(home):
        home.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(home / f".{key}.lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            progress(f"waiting for another process that builds {key}", None)
            lock.acquire()
    try:
        for left in home.glob(f".{key}.*.part"):
            shutil.rmtree(left, ignore_errors=True)
        with report_full_disk(home):
            temporary = Path(tempfile.mkdtemp(dir=home, prefix=f".{key}.", suffix=".part"))
        try:
            with report_full_disk(home):
                yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    finally:
        lock.release()


def finish_folder(built: Path, target: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Move a built folder, with its bytes in `built/files`, to its target. Call it inside `build_folder`."""
    files = built / FILES
    sizes = {p.relative_to(files).as_posix(): p.stat().st_size for p in sorted(files.rglob("*")) if p.is_file()}
    whole = {**record, "files": sizes}
    (built / RECORD).write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    for path in built.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    built.chmod(0o755)
    if target.exists():
        shutil.rmtree(target)
    built.rename(target)
    return whole


def read_record(target: Path) -> dict[str, Any] | None:
    """Read the record of a cached folder; None if the folder is missing or incomplete."""
    try:
        record = json.loads((target / RECORD).read_text(encoding="utf-8"))
        sizes = record["files"].items()
        whole = all((target / FILES / name).stat().st_size == size for name, size in sizes)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
    return record if whole else None
