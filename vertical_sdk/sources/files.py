"""Files and folders of this machine, used in place; and all addresses that fsspec reads, copied into the cache."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from vertical_sdk.errors import OfflineError, SourceError, VerticalError, did_you_mean
from vertical_sdk.paths import cache_home, expand_home, is_disk_full
from vertical_sdk.sources.fetched import Fetched, check_digest, content_digest, hide_secrets, list_nearest, pick_file
from vertical_sdk.sources.keep import FILES, build_folder, finish_folder, read_record
from vertical_sdk.sources.permission import NotPublic, current_permission
from vertical_sdk.types import Progress, silent

__all__ = ["fetch"]

STAMPS = ("ETag", "etag", "LastModified", "last_modified", "mtime", "created", "updated", "md5Hash", "generation")
"""The names by which stores call a value that changes with the file."""


def fetch(
    source: str,
    *,
    file: str | None = None,
    sha256: str | None = None,
    revision: str | None = None,
    progress: Progress = silent,
) -> Fetched:
    """Return a local path unchanged, or a copy of the file or folder at an address.

    Raises SourceError, OfflineError, DigestMismatch, RunError.
    """
    if revision is not None:
        raise SourceError(f"only hub data sets have a revision. Leave revision = {revision!r} out.", where=hide_secrets(source))
    if source.startswith("file://"):
        parts = urlsplit(source)
        if parts.netloc not in {"", "localhost"}:
            raise SourceError("names another machine. Write file:///path with three slashes.", where=source)
        return _use_local(unquote(parts.path), source, file, sha256)
    if "://" in source or "::" in source:
        return _copy_remote(source, file, sha256, progress)
    return _use_local(source, source, file, sha256)


def _use_local(name: str, source: str, file: str | None, sha256: str | None) -> Fetched:
    try:
        path = expand_home(name)
        if not name or not (path.is_file() or path.is_dir()):
            raise SourceError(f"no such file or folder.{_hint(name, path)}", where=source or repr(source))
        if path.is_file() and file is not None:
            raise SourceError(f"is a file, so it has no file {file!r} inside. Leave 'file' out.", where=source)
        path = pick_file(path, file, source) if path.is_dir() else path
        digest = content_digest(path)
    except (OSError, RuntimeError, ValueError) as error:
        raise SourceError(f"cannot be read: {error}. Check the path and its permissions.", where=source) from None
    check_digest(source, digest, sha256)
    return Fetched(path.absolute(), source, digest, None)


def _hint(name: str, path: Path) -> str:
    from vertical_sdk.sources import SCHEMES

    scheme, colon, _ = name.partition(":")
    if colon and len(scheme) > 1:
        return f"{did_you_mean(scheme, SCHEMES)} A source is pypi:NAME==VERSION, hf:OWNER/NAME, an address with :// or a path."
    if name and path.parent.is_dir():
        return f" {list_nearest(path.name, [p.name for p in path.parent.iterdir()], place=str(path.parent.absolute()))}"
    return " Give the path of a file or folder. A relative path starts in the folder of the recipe's file."


def _copy_remote(source: str, file: str | None, sha256: str | None, progress: Progress) -> Fetched:
    shown = hide_secrets(source)
    if "::" in source:
        raise SourceError("chained addresses are not supported. Name the unpacked file itself.", where=shown)
    if file is not None and (PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts):
        raise SourceError(f"file = {file!r} must be a path inside the source, such as 'data/train.csv'.", where=shown)
    whole = f"{source.rstrip('/')}/{file}" if file else source
    home = cache_home() / "files"
    key = hashlib.sha256(whole.encode()).hexdigest()[:24]
    target = home / key
    record = read_record(target)
    if record and sha256 is not None and record["sha256"] == sha256:
        return _cached_copy(target, record, shown)
    try:
        store, path, stamp = _look_up(whole)
    except OfflineError:
        if record and sha256 is None:
            progress(f"{shown} cannot be reached: the copy in the cache is used", None)
            return _cached_copy(target, record, shown)
        raise
    if record and sha256 is None and stamp is not None and record["stamp"] == stamp:
        return _cached_copy(target, record, shown)
    with build_folder(home, key, progress) as temporary:
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
        record = finish_folder(built, target, {"sha256": digest, "stamp": stamp, "name": copy.name, "source": shown})
    return _cached_copy(target, record, shown)


def _cached_copy(target: Path, record: dict[str, Any], shown: str) -> Fetched:
    return Fetched(target / FILES / record["name"], shown, record["sha256"], None)


def _look_up(address: str) -> tuple[Any, str, str | None]:
    """Return the store, the path in it, and a stamp that changes with the file (None if the store has none)."""
    import fsspec

    try:
        store, path = fsspec.core.url_to_fs(address, **_connect_options(address))
        store.invalidate_cache()
        info = store.info(path)
    except Exception as error:
        raise _explain(address, error) from error
    stamps = {name: str(info[name]) for name in STAMPS if info.get(name) is not None}
    stamp = json.dumps({"size": info.get("size"), **stamps}, sort_keys=True) if stamps and info.get("type") == "file" else None
    return store, path, stamp


def _connect_options(address: str) -> dict[str, Any]:
    """Options of the store of a web address that a card names: every connection needs permission, after a redirect too."""
    permission = current_permission()
    connect = permission.find_connect(address) if permission is not None else None
    if connect is None:
        return {}

    async def get_client(**options: Any) -> Any:
        import aiohttp

        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(socket_factory=connect), **options)

    return {"get_client": get_client, "skip_instance_cache": True}


def _copy(store: Any, path: str, copy: Path) -> None:
    """Copy a file, or a folder with everything in it. Sizes are checked if the store states them."""
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
    """Translate the exception of a store. Every store has its own classes, so the kind decides."""
    shown = hide_secrets(address)
    reason = (str(error).replace(address, shown) or type(error).__name__).strip()
    if isinstance(error, VerticalError) or is_disk_full(error):
        return error
    if private := _find_private(error):
        return SourceError(
            f"it was not fetched: the card of an adapter names it, and {private}. Give rows with --data FILE, or allow the address "
            "that it leads to: --allow-source ADDRESS.",
            where=shown,
        )
    if _is_unreachable(error):
        return OfflineError(
            f"cannot be reached ({reason}). Copy it to this machine and name its path as the source, or try again later.",
            where=shown,
        )
    if isinstance(error, FileNotFoundError):
        return SourceError("nothing is at this address. Check its spelling and whether it needs a login.", where=shown)
    if isinstance(error, PermissionError):
        return SourceError(f"access was refused ({reason}). Check the login settings of the store.", where=shown)
    return SourceError(reason if isinstance(error, ImportError) else f"cannot be read ({reason}).", where=shown)


def _find_private(error: BaseException | None) -> str:
    """Which address was refused because it is not public; "" if none was."""
    while error is not None:
        if isinstance(error, NotPublic):
            return str(error)
        error = error.__cause__
    return ""


def _is_unreachable(error: BaseException | None) -> bool:
    """Whether no server answered. Some stores wrap this in a FileNotFoundError."""
    while error is not None:
        kinds = {kind.__name__ for kind in type(error).__mro__}
        if isinstance(error, ConnectionError | TimeoutError) or kinds & {"ClientConnectionError", "EndpointConnectionError"}:
            return True
        error = error.__cause__
    return False
