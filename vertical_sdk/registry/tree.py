"""The files of an adapter's folder: which may be published, and whether they still are what they were."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from vertical_sdk.errors import CorruptAdapter, RegistryError
from vertical_sdk.paths import file_digest
from vertical_sdk.registry.store import Manifest, Stored

__all__ = ["check_path", "cached_digest", "has_digest", "read_tree", "tree_problems"]

PICKLED = {".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"}
"""Endings of files that run code when they are loaded."""

_checked: dict[tuple[int, int, int, int, int], str] = {}
"""A file's device, inode, size and times → its SHA-256, so that a process reads each file once."""


def read_tree(folder: Path) -> dict[str, Stored]:
    """The manifest of a folder as it is now.

    Raises RegistryError for a link, a special file, an odd path or pickled weights.
    """
    manifest = {}
    for path, entry in sorted(_walk(str(folder))):
        check_path(path, f"{folder}: ")
        mode = os.lstat(entry).st_mode
        if stat.S_ISLNK(mode):
            raise RegistryError(f"{folder}: {path} is a symbolic link. Copy the folder with what it points at: cp -rL.")
        if not stat.S_ISREG(mode):
            raise RegistryError(f"{folder}: {path} is not a regular file. Publish a folder of files only.")
        try:
            manifest[path] = Stored(cached_digest(entry, again=True), os.lstat(entry).st_size)
        except OSError as error:
            raise RegistryError(f"{folder}: {path} cannot be read ({error.strerror}).") from None
    return manifest


def check_path(path: str, where: str = "") -> str:
    """The path itself, if a version may have a file there.

    Raises RegistryError for a path that leads elsewhere, or that names pickled weights.
    """
    parts = PurePosixPath(path).parts
    odd = [c for c in path if c in '\\:*?"<>|' or not c.isprintable()]
    if not parts or path.startswith("/") or ".." in parts or "/".join(parts) != path or odd:
        raise RegistryError(
            f"{where}{path!r} cannot be a file of a version: write plain relative paths, such as tokenizer.json."
        )
    if PurePosixPath(path).suffix.lower() in PICKLED:
        raise RegistryError(
            f"{where}{path} may hold pickled objects, which run code when they are loaded. "
            "Only safetensors weights are published: convert it, or take it out of the folder."
        )
    return path


def tree_problems(folder: Path, manifest: Manifest, *, again: bool = False) -> list[str]:
    """What is not as the manifest says, a sentence a file; an empty list if all is well.

    again  read every file anew; otherwise a file whose inode, size and times are known is not read twice in a process
    """
    problems = []
    here = str(folder)
    try:
        left = dict(_walk(here))
    except FileNotFoundError:
        return ["its folder is missing"]
    for path, file in manifest.items():
        entry = left.pop(path, None)
        if entry is None:
            problems.append(f"{path} is missing")
            continue
        try:
            right = cached_digest(entry, again=again) == file.sha256
        except CorruptAdapter as error:
            problems.append(str(error))
            continue
        except OSError as error:
            problems.append(f"{path} cannot be read ({error.strerror})")
            continue
        if not right:
            problems.append(f"{path} has changed: its SHA-256 is not {file.sha256[:12]}…")
    return problems + [f"{path} does not belong to it" for path in sorted(left)]


def has_digest(path: Path, sha256: str) -> bool:
    """Whether a regular file is there and has this digest; it is read anew."""
    try:
        return cached_digest(path, again=True) == sha256
    except (OSError, CorruptAdapter):
        return False


def _walk(folder: str, before: str = "") -> Iterator[tuple[str, str]]:
    """Path below the folder and path on disk of all that is not a folder; links are not followed."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path, f"{before}{entry.name}/")
            else:
                yield before + entry.name, entry.path


def cached_digest(entry: str | Path, *, again: bool = False) -> str:
    """SHA-256 of a file, which is read once in a process and again when its inode, size or times have changed.

    Raises CorruptAdapter for a link or a special file, OSError where it cannot be read.
    """
    found = os.lstat(entry)
    if not stat.S_ISREG(found.st_mode):
        raise CorruptAdapter(f"{Path(entry).name} is not a regular file")
    key = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    known = None if again else _checked.get(key)
    if known is None:
        known = _checked[key] = file_digest(Path(entry))
    return known
