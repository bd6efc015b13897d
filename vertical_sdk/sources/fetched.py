"""The result of fetching a source: a path on this machine, and facts about its bytes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit, urlunsplit

from vertical_sdk.errors import DigestMismatch, SourceError, find_similar
from vertical_sdk.paths import file_digest

__all__ = ["Fetched", "check_digest", "content_digest", "folder_digest", "hide_secrets", "list_nearest", "pick_file"]

SECRET = re.compile(r"sig|token|key|secret|pass|cred|auth", re.IGNORECASE)


@dataclass(frozen=True)
class Fetched:
    """Bytes that are on this machine now.

    path      a file or a folder; read it, never write to it
    source    the source, without passwords
    sha256    of the wheel; or of the file; or of the folder (see `folder_digest`)
    license   the licence that the source states, as an SPDX name if it is one
    revision  the commit on the hub
    """

    path: Path
    source: str
    sha256: str
    license: str | None
    revision: str | None = None


def hide_secrets(source: str) -> str:
    """Remove the user, password and signed query from an address, so it can be shown and recorded."""
    if "://" not in source or source.startswith("github://"):  # OWNER:REPOSITORY@REVISION is at the place of the user
        return source
    try:
        parts = urlsplit(source)
    except ValueError:  # not an address, such as a bracket that is not closed
        return f"{source.partition('://')[0]}://…"
    query = "" if SECRET.search(parts.query) else parts.query
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, ""))


def folder_digest(folder: Path) -> str:
    """Compute the SHA-256 over the lines "DIGEST  PATH" of all files below, sorted by path, as `sha256sum` writes them."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    lines = "".join(f"{file_digest(files[name])}  {name}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()


def content_digest(path: Path) -> str:
    """Compute the digest of a file or of a folder."""
    return folder_digest(path) if path.is_dir() else file_digest(path)


def check_digest(source: str, actual: str, pinned: str | None) -> None:
    """Raise DigestMismatch if a digest is pinned and the actual one is different."""
    if pinned is not None and actual != pinned:
        raise DigestMismatch(
            f"its SHA-256 is {actual}, but {pinned} is pinned. The bytes were changed or cut, or come from another index; nothing "
            "was saved. If the change is intended, pin the new digest.",
            where=source,
        )


def pick_file(folder: Path, file: str | None, source: str) -> Path:
    """Return a file inside a folder, or the folder itself if `file` is None.

    Raises SourceError that lists the files with the most similar names.
    """
    if file is None:
        return folder
    inside = PurePosixPath(file)
    if inside.is_absolute() or ".." in inside.parts or "\\" in file:
        raise SourceError(f"file = {file!r} must be a path inside the source, such as 'data/train.csv'.", where=source)
    path = folder / inside
    if all(len(part.encode()) <= 255 for part in inside.parts) and path.is_file():  # longer names are an error of the system
        return path
    names = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    raise SourceError(f"has no file {file!r}. {list_nearest(file, names)}", where=source)


def list_nearest(name: str, known: Iterable[str], *, place: str = "") -> str:
    """Write a sentence that lists the known names most similar to a missing one, by path or by last part.

    place  the folder of the names, if the message does not name it elsewhere
    """
    known = sorted(known)
    last = {k: k.rpartition("/")[2] for k in known}
    like = find_similar(name.rpartition("/")[2], sorted(set(last.values())), most=5, cutoff=0.5)
    near = find_similar(name, known, most=5, cutoff=0.5)
    near += [k for k in known if last[k] in like and k not in near]
    if near:
        return f"Similar names{f' in {place}' if place else ''}: {', '.join(near[:8])}."
    return f"{place or 'It'} has: {', '.join(known[:8]) or 'nothing'}{', …' if len(known) > 8 else ''}."
