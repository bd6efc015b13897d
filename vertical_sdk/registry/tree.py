"""The files of an adapter's folder: which may be published, and whether they have changed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from vertical_sdk.errors import CorruptAdapter, RegistryError
from vertical_sdk.paths import known_digest
from vertical_sdk.registry.store import Manifest, Stored

__all__ = ["LARGEST", "cached_digest", "check_path", "has_digest", "read_tree", "tree_problems"]

PICKLED = {".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"}
"""Endings of files that run code when they are loaded."""
LARGEST = 512 << 20
"""Bytes of the largest file of an adapter besides its weights."""
LARGEST_WEIGHTS = 16 << 30
"""Bytes of the largest weights that are published: rank 256 on a base of 70 billion numbers. `lora.read_weights` compares with the base."""


def read_tree(folder: Path) -> dict[str, Stored]:
    """Build the manifest of a folder.

    Raises RegistryError for a link, a special file, a path that is not allowed, pickled weights, or a file that is too large.
    """
    manifest = {}
    for path, entry in sorted(_walk(str(folder))):
        check_path(path, folder)
        status = os.lstat(entry)
        mode, largest = status.st_mode, LARGEST_WEIGHTS if path == "adapter_model.safetensors" else LARGEST
        if stat.S_ISLNK(mode):
            raise RegistryError(f"{path} is a symbolic link. Copy the folder with the link targets: cp -rL.", where=folder)
        if not stat.S_ISREG(mode):
            raise RegistryError(f"{path} is not a regular file. Publish a folder that contains only files.", where=folder)
        if status.st_size > largest:
            raise RegistryError(
                f"{path} has {status.st_size} bytes, and at most {largest} are published. Remove from it what is not needed.",
                where=folder,
            )
        try:
            manifest[path] = Stored(cached_digest(entry, reread=True), os.lstat(entry).st_size)
        except OSError as error:
            raise RegistryError(f"{path} cannot be read ({error.strerror}). Check its permissions.", where=folder) from None
    return manifest


def check_path(path: str, where: str | Path = "") -> str:
    """Return the path if a file of a version may have it.

    where  the folder or manifest that contains it, for the error

    Raises RegistryError for a path that leaves the folder, or that names pickled weights.
    """
    parts = PurePosixPath(path).parts
    odd = [c for c in path if c in '\\:*?"<>|' or not c.isprintable()]
    if not parts or path.startswith("/") or ".." in parts or "/".join(parts) != path or odd:
        raise RegistryError(
            f"{path!r} cannot be a file of a version. Use plain relative paths, such as tokenizer.json.", where=where
        )
    if PurePosixPath(path).suffix.lower() in PICKLED:
        raise RegistryError(
            f"{path} may contain pickled objects, which run code when they are loaded. "
            "Only safetensors weights are published: convert it, or remove it from the folder.",
            where=where,
        )
    return path


def tree_problems(folder: Path, manifest: Manifest, *, reread: bool = False) -> list[str]:
    """List the differences between a folder and its manifest, a sentence for each file.

    reread  read every file; otherwise a file with unchanged inode, size and times is read once in a process
    """
    problems = []
    try:
        remaining = dict(_walk(str(folder)))
    except FileNotFoundError:
        return ["its folder is missing"]
    except OSError as error:
        return [f"its folder cannot be read ({error.strerror}: {Path(error.filename).name})"]
    for path, file in manifest.items():
        entry = remaining.pop(path, None)
        if entry is None:
            problems.append(f"{path} is missing")
            continue
        try:
            same_size = os.lstat(entry).st_size == file.size  # so a file that was made huge is not read
            intact = same_size and cached_digest(entry, reread=reread) == file.sha256
        except CorruptAdapter as error:
            problems.append(str(error))
            continue
        except OSError as error:
            problems.append(f"{path} cannot be read ({error.strerror})")
            continue
        if not intact:
            problems.append(f"{path} has changed: its SHA-256 is not {file.sha256[:12]}…")
    return problems + [f"{path} does not belong to it" for path in sorted(remaining)]


def has_digest(path: Path, sha256: str, size: int) -> bool:
    """Whether a regular file exists and has this digest and size. The file is read again, unless its size differs."""
    try:
        return path.lstat().st_size == size and cached_digest(path, reread=True) == sha256
    except (OSError, CorruptAdapter):
        return False


def _walk(folder: str, before: str = "") -> Iterator[tuple[str, str]]:
    """Yield path below the folder and path on disk of every entry that is not a folder, without following links."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path, f"{before}{entry.name}/")
            else:
                yield before + entry.name, entry.path


def cached_digest(entry: str | Path, *, reread: bool = False) -> str:
    """Compute the SHA-256 of a file. It is read once in a process, and again if its inode, size or times have changed.

    Raises CorruptAdapter for a link or a special file, OSError if it cannot be read.
    """
    if not stat.S_ISREG(os.lstat(entry).st_mode):
        raise CorruptAdapter(f"{Path(entry).name} is not a regular file")
    return known_digest(entry, reread=reread)
