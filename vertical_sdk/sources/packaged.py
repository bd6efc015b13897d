"""Small files inside a vertical, for example settings of a simulation: package:VERTICAL/PATH."""

from __future__ import annotations

from pathlib import Path

from vertical_sdk.catalog import import_domain
from vertical_sdk.errors import SourceError, UnknownName
from vertical_sdk.sources.fetched import Fetched, check_digest, content_digest, pick_file
from vertical_sdk.types import Progress, silent

__all__ = ["fetch"]


def fetch(
    source: str,
    *,
    file: str | None = None,
    sha256: str | None = None,
    revision: str | None = None,
    progress: Progress = silent,
) -> Fetched:
    """Return a file inside the folder of an installed vertical, used in place.

    Raises SourceError, DigestMismatch.
    """
    del progress
    if file is not None or revision is not None:
        raise SourceError("is one file of the package. Leave 'file' and 'revision' out.", where=source)
    vertical, slash, inside = source.partition(":")[2].partition("/")
    if not vertical or not slash or not inside:
        raise SourceError("must be package:VERTICAL/PATH, for example package:traffic/scenarios/streets.yaml.", where=source)
    try:
        package = import_domain(vertical, source)
    except UnknownName as error:
        raise SourceError(error.message, where=error.where) from None
    path = pick_file(Path(next(iter(package.__path__))), inside, source)
    digest = content_digest(path)
    check_digest(source, digest, sha256)
    return Fetched(path, source, digest, None)
