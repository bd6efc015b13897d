"""Read every file of the cached bases and of cached data again, and compare them with what was saved."""

from __future__ import annotations

import hashlib
from pathlib import Path

from vertical_sdk.bases.base import is_folder, pull_base
from vertical_sdk.bases.embedded import EMBEDDED
from vertical_sdk.errors import BaseModelError, VerticalError
from vertical_sdk.paths import cache_home, known_digest
from vertical_sdk.sources import pypi
from vertical_sdk.sources.hub import hub_cache
from vertical_sdk.sources.keep import list_kept, list_problems
from vertical_sdk.types import Progress, silent

__all__ = ["verify_cache"]


def verify_cache(name: str | None = None, *, progress: Progress = silent) -> tuple[int, list[str]]:
    """Read the cached files again. Return how many folders were read, and what is wrong: a sentence each.

    name  an embedded base, a model of the hub, or a folder; None means everything in the cache

    A file of the cache is compared with the digest that was kept when it was saved, a file of the hub with its name in the hub's
    cache, which is its digest. A folder is read as a base, as nothing was kept about it. Raises BaseModelError if the base is not
    on this machine.
    """
    if name is not None and name not in EMBEDDED and is_folder(name):
        return 1, _try_base(name)
    kept = [folder for folder in list_kept(cache_home()) if name is None or _belongs_to(folder, name)]
    models = [hub_cache(name)] if name is not None else sorted(hub_cache(None).glob("models--*"))
    hub = [folder for folder in models if (folder / "blobs").is_dir()]
    if name is not None and not kept and not hub:
        raise BaseModelError("is not in the cache. vertical base pull downloads it.", where=name)
    problems = []
    for folder in kept:
        progress(f"reading {folder}", None)
        problems += list_problems(folder)
    for folder in hub:
        progress(f"reading {folder}", None)
        problems += [f"{blob}: its bytes are not those of its name. Delete {folder}." for blob in _changed_blobs(folder)]
    return len(kept) + len(hub), problems


def _belongs_to(folder: Path, name: str) -> bool:
    """Whether a cached folder is that of an embedded base, or of a wheel that it comes from."""
    if name not in EMBEDDED:
        return False
    wheels = [pypi.parse(source) for source in EMBEDDED[name].sources]
    wheel = folder.parent == cache_home() / "wheels" and any(
        folder.name.startswith(f"{package}-{version}-") for package, version in wheels
    )
    return wheel or (folder.parent == cache_home() / "bases" and folder.name.startswith(f"{name}-"))


def _changed_blobs(folder: Path) -> list[Path]:
    """The files of a model in the hub's cache whose name is not their digest: SHA-256, or that of git for small files."""
    changed = []
    for blob in sorted((folder / "blobs").iterdir()):
        if len(blob.name) == 64 and blob.is_file():
            actual = known_digest(blob, reread=True)
        elif len(blob.name) == 40 and blob.is_file():
            content = blob.read_bytes()
            actual = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        else:
            continue
        if actual != blob.name:
            changed.append(blob)
    return changed


def _try_base(folder: str) -> list[str]:
    try:
        pull_base(folder)
    except VerticalError as error:
        return [str(error)]
    return []
