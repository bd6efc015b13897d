"""Files and folders of this machine, used where they are; and whatever fsspec reads, copied into the cache."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from vertical_sdk.errors import OfflineError, SourceError, VerticalError, did_you_mean
from vertical_sdk.paths import cache_home, is_disk_full
from vertical_sdk.sources.fetched import Fetched, check_digest, content_digest, nearest, pick
from vertical_sdk.sources.keep import FILES, building, finish, read_record
from vertical_sdk.types import Progress, silent

__all__ = ["fetch", "without_secrets"]

SECRET = re.compile(r"sig|token|key|secret|pass|cred|auth", re.IGNORECASE)
STAMPS = ("ETag", "etag", "LastModified", "last_modified", "mtime", "created", "updated", "md5Hash", "generation")
"""What stores call the thing that changes when a file does."""


def fetch(
    source: str,
    *,
    file: str | None = None,
    sha256: str | None = None,
    revision: str | None = None,
    progress: Progress = silent,
) -> Fetched:
    """A local path as it is, or a copy of what stands at an address.

    Raises SourceError, OfflineError, DigestMismatch, RunError.
    """
    if revision is not None:
        raise SourceError(f"{without_secrets(source)}: only hub data sets have a revision, not {revision!r}.")
    if source.startswith("file://"):
        parts = urlsplit(source)
        if parts.netloc not in {"", "localhost"}:
            raise SourceError(f"{source}: names another machine; write file:///path with three slashes.")
        return _local(unquote(parts.path), source, file, sha256)
    if "://" in source or "::" in source:
        return _remote(source, file, sha256, progress)
    return _local(source, source, file, sha256)


def _local(name: str, source: str, file: str | None, sha256: str | None) -> Fetched:
    try:
        path = Path(name).expanduser()
        if not name or not (path.is_file() or path.is_dir()):
            raise SourceError(f"{source or repr(source)}: no such file or folder.{_hint(name, path)}")
        if path.is_file() and file is not None:
            raise SourceError(f"{source}: is a file, so it has no file {file!r} inside; leave 'file' out.")
        path = pick(path, file, source) if path.is_dir() else path
        digest = content_digest(path)
    except (OSError, RuntimeError, ValueError) as error:
        raise SourceError(f"{source}: cannot be read: {error}. Check the path and your rights to it.") from None
    check_digest(source, digest, sha256)
    return Fetched(path.absolute(), source, digest, None)


def _hint(name: str, path: Path) -> str:
    from vertical_sdk.sources import SCHEMES

    scheme, colon, _ = name.partition(":")
    if colon and len(scheme) > 1:
        return f"{did_you_mean(scheme, SCHEMES)} A source is pypi:NAME==VERSION, hf:OWNER/NAME, an address with :// or a path."
    if name and path.parent.is_dir():
        return f" In {path.parent.absolute()}: {nearest(path.name, [p.name for p in path.parent.iterdir()])}"
    return " Give the path of a file or folder; a relative one starts in the working folder."


def without_secrets(source: str) -> str:
    """An address without its user, password and signed query, as it may be shown and recorded."""
    if "://" not in source or source.startswith("github://"):  # OWNER:REPOSITORY@REVISION stands where others have a user
        return source
    parts = urlsplit(source)
    query = "" if SECRET.search(parts.query) else parts.query
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, ""))


def _remote(source: str, file: str | None, sha256: str | None, progress: Progress) -> Fetched:
    shown = without_secrets(source)
    if "::" in source:
        raise SourceError(f"{shown}: chained addresses are not read; name the file itself, unpacked.")
    if file is not None and (PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts):
        raise SourceError(f"{shown}: file = {file!r} must be a path inside the source, such as 'data/train.csv'.")
    whole = f"{source.rstrip('/')}/{file}" if file else source
    home = cache_home() / "files"
    key = hashlib.sha256(whole.encode()).hexdigest()[:24]
    target = home / key
    record = read_record(target)
    if record and sha256 is not None and record["sha256"] == sha256:
        return _kept(target, record, shown)
    try:
        store, path, stamp = _look(whole)
    except OfflineError:
        if record and sha256 is None:
            progress(f"{shown} cannot be reached: the copy in the cache is used", None)
            return _kept(target, record, shown)
        raise
    if record and sha256 is None and stamp is not None and record["stamp"] == stamp:
        return _kept(target, record, shown)
    with building(home, key, progress) as temporary:
        progress(f"copying {shown}", None)
        built = temporary / "built"
        (built / FILES).mkdir(parents=True)
        copy = built / FILES / (PurePosixPath(path).name or "content")
        try:
            _copy(store, path, copy)
        except Exception as error:
            raise _explain(whole, error) from error
        digest = content_digest(copy)
        check_digest(shown, digest, sha256)
        record = finish(built, target, {"sha256": digest, "stamp": stamp, "name": copy.name, "source": shown})
    return _kept(target, record, shown)


def _kept(target: Path, record: dict[str, Any], shown: str) -> Fetched:
    return Fetched(target / FILES / record["name"], shown, record["sha256"], None)


def _look(address: str) -> tuple[Any, str, str | None]:
    """The store, the path in it, and what changes there when the file does (None where the store does not say)."""
    import fsspec

    try:
        store, path = fsspec.core.url_to_fs(address)
        store.invalidate_cache()
        info = store.info(path)
    except Exception as error:
        raise _explain(address, error) from error
    stamps = {name: str(info[name]) for name in STAMPS if info.get(name) is not None}
    stamp = json.dumps({"size": info.get("size"), **stamps}, sort_keys=True) if stamps and info.get("type") == "file" else None
    return store, path, stamp


def _copy(store: Any, path: str, copy: Path) -> None:
    """A file, or a folder with all that is below it; sizes are checked where the store tells them."""
    if not store.isdir(path):
        store.get_file(path, str(copy))
        expected = store.info(path).get("size")
        if expected is not None and copy.stat().st_size != expected:
            raise OSError(f"only {copy.stat().st_size} of {expected} bytes arrived")
        return
    root = PurePosixPath(path)
    copy.mkdir()
    for name in sorted(store.find(path)):
        inside = PurePosixPath(name).relative_to(root)
        if ".." in inside.parts:
            raise OSError(f"the store lists {name!r}, which leaves its folder")
        (copy / inside).parent.mkdir(parents=True, exist_ok=True)
        _copy(store, name, copy / inside)


def _explain(address: str, error: Exception) -> Exception:
    """A store's own exception in the SDK's words; every store brings its own classes, so they are told apart by kind."""
    shown = without_secrets(address)
    said = (str(error).replace(address, shown) or type(error).__name__).strip()
    if isinstance(error, VerticalError) or is_disk_full(error):
        return error
    if _unreached(error):
        return OfflineError(
            f"{shown}: cannot be reached ({said}). Copy it to this machine and name its path as the source, or try again later."
        )
    if isinstance(error, FileNotFoundError):
        return SourceError(f"{shown}: there is nothing at this address. Check its spelling and whether it needs a login.")
    if isinstance(error, ImportError):
        return SourceError(f"{shown}: {said}")
    if isinstance(error, PermissionError):
        return SourceError(f"{shown}: access was refused ({said}). Check the store's login settings.")
    return SourceError(f"{shown}: cannot be read ({said}).")


def _unreached(error: BaseException | None) -> bool:
    """Whether nobody answered; some stores wrap that in a FileNotFoundError."""
    while error is not None:
        kinds = {kind.__name__ for kind in type(error).__mro__}
        if isinstance(error, ConnectionError | TimeoutError) or kinds & {"ClientConnectionError", "EndpointConnectionError"}:
            return True
        error = error.__cause__
    return False
