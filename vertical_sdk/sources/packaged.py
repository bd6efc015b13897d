"""Small files that a vertical brings along, such as what its reader is to simulate: package:VERTICAL/PATH."""

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
    """A file inside an installed vertical's folder, used where it is.

    Raises SourceError, DigestMismatch.
    """
    del progress
    if file is not None or revision is not None:
        raise SourceError(f"{source}: is one file of the package, without 'file' or 'revision'.")
    vertical, slash, inside = source.partition(":")[2].partition("/")
    if not vertical or not slash or not inside:
        raise SourceError(f"{source}: write package:VERTICAL/PATH, for example package:traffic/scenarios/streets.yaml.")
    try:
        package = import_domain(vertical, source)
    except UnknownName as error:
        raise SourceError(str(error)) from None
    path = pick_file(Path(next(iter(package.__path__))), inside, source)
    digest = content_digest(path)
    check_digest(source, digest, sha256)
    return Fetched(path, source, digest, None)
