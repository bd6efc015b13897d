"""Folders of the cache that are complete or missing, even if several processes build them or are killed.

A cached folder is `<target>/files` and, beside it, `<target>/record.json` with facts about it, and size, SHA-256 and stamp of each
file. Both are built in a folder next to the target, which is renamed at the end. A folder that was copied or restored in part does not
match its record, and is built again. A file whose stamp has changed is read again; if its bytes have changed, that is an error.
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

from vertical_sdk.errors import DigestMismatch, RunError
from vertical_sdk.json_text import parse_json
from vertical_sdk.paths import known_digest, report_full_disk, stamp_file, write_whole
from vertical_sdk.types import Progress, silent

__all__ = ["FILES", "RECORD", "build_folder", "finish_folder", "list_kept", "list_problems", "read_record"]

FILES = "files"
RECORD = "record.json"
LARGEST_RECORD = 64 << 20
"""Bytes of a record: a wheel may have 100,000 files."""


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
    for path in built.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    whole = {**record, "files": {name: _describe(files / name) for name in _list_files(files)}}
    write_whole(built / RECORD, _dump(whole))
    built.chmod(0o755)
    if target.exists():
        shutil.rmtree(target)
    built.rename(target)
    return whole


def read_record(target: Path) -> dict[str, Any] | None:
    """Read the record of a cached folder; None if the folder is missing or incomplete.

    Raises DigestMismatch for a file that is not the one that was saved.
    """
    try:
        record: dict[str, Any] = parse_json((target / RECORD).read_bytes(), largest=LARGEST_RECORD)
        kept = {name: file if isinstance(file, dict) else {"size": file} for name, file in record["files"].items()}
        stamps = {name: stamp_file(target / FILES / name) for name in kept}
        if any(stamps[name][0] != file["size"] for name, file in kept.items()):
            return None
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
    changed = [name for name, file in kept.items() if file.get("stamp") != list(stamps[name])]
    for fault in _find_faults(target, kept, changed):
        raise DigestMismatch(f"{fault}. Delete {target}: it is fetched again when it is needed.", where=target / FILES)
    if any("sha256" in kept[name] for name in changed):
        renewed = {name: {**file, "stamp": stamps[name]} if "sha256" in file else file["size"] for name, file in kept.items()}
        with contextlib.suppress(RunError, OSError):  # a cache that cannot be written costs time only
            write_whole(target / RECORD, _dump({**record, "files": renewed}))
    return record


def list_problems(target: Path) -> list[str]:
    """Read every file of a cached folder again, and list what is not as it was saved: a sentence each."""
    try:
        record = parse_json((target / RECORD).read_bytes(), largest=LARGEST_RECORD)
        kept = {name: file if isinstance(file, dict) else {"size": file} for name, file in record["files"].items()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        return [f"{target}: its record cannot be read ({error}). Delete it: it is fetched again when it is needed."]
    without = [
        f"{name} was saved by an earlier version, without a digest" for name, file in kept.items() if "sha256" not in file
    ]
    return [f"{target}: {fault}." for fault in (*_find_faults(target, kept, list(kept), reread=True), *without[:1])]


def list_kept(home: Path) -> list[Path]:
    """The cached folders below a folder."""
    return sorted(record.parent for record in home.glob(f"**/{RECORD}") if (record.parent / FILES).is_dir())


def _find_faults(target: Path, kept: Mapping[str, Any], names: list[str], *, reread: bool = False) -> Iterator[str]:
    """Say which of the files have other bytes than those that were saved, and which were not saved."""
    for name in names:
        wanted = kept[name].get("sha256")
        try:
            if wanted is not None and known_digest(target / FILES / name, reread=reread) != wanted:
                yield f"{name} has changed since it was saved: its SHA-256 is not {wanted[:12]}…"
        except OSError as error:
            yield f"{name} cannot be read ({error.strerror})"
    for name in _list_files(target / FILES):
        if name not in kept:
            yield f"{name} was added after it was saved"


def _list_files(files: Path) -> list[str]:
    return [path.relative_to(files).as_posix() for path in sorted(files.rglob("*")) if path.is_symlink() or not path.is_dir()]


def _describe(path: Path) -> dict[str, Any]:
    stamp = stamp_file(path)
    return {"size": stamp[0], "sha256": known_digest(path), "stamp": stamp}


def _dump(record: Mapping[str, Any]) -> str:
    return json.dumps(record, indent=1) + "\n"
