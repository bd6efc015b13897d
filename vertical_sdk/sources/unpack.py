"""Unpack an untrusted wheel: every entry is checked before the first byte is written."""

from __future__ import annotations

import email.parser
import shutil
import stat
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from vertical_sdk.errors import SourceError

__all__ = ["LARGEST", "unpack", "wheel_license"]

LARGEST = 8 << 30
"""Bytes that a wheel may unpack to."""
MOST_FILES = 100_000
LONGEST = 1024
"""Characters of a path inside a wheel; a part of it has at most 255 bytes, as file systems have it."""
DENSEST = 300
"""The largest ratio of the unpacked size to the archive; deflate reaches 1032 on zeros alone."""
SMALL = 64 << 20
"""Bytes up to which the ratio does not matter."""

SPDX = {
    "MIT License": "MIT",
    "Apache Software License": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
}


def unpack(wheel: Path, folder: Path, source: str) -> None:
    """Unpack an archive into a new folder.

    Raises SourceError for an archive that is cut or not a zip, and for an entry that is a link, would be written outside the
    folder, is repeated, is encrypted, or is too large; OSError if the folder cannot be written.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            entries = archive.infolist()
            _check(entries, wheel.stat().st_size, source)
            folder.mkdir(parents=True)
            for entry in entries:
                path = folder / entry.filename
                if entry.is_dir():
                    path.mkdir(parents=True, exist_ok=True)
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as packed, path.open("xb") as file:
                    shutil.copyfileobj(packed, file, 1 << 20)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise SourceError(f"the wheel is cut or damaged ({error}); nothing was saved. Run it again.", where=source) from None
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise SourceError(f"two entries of the wheel have the same path: {error.filename}.", where=source) from None


def _check(entries: Sequence[zipfile.ZipInfo], packed: int, source: str) -> None:
    seen = set()
    for entry in entries:
        name = entry.orig_filename
        place = PurePosixPath(name)
        kind = stat.S_IFMT(entry.external_attr >> 16)
        fault = None
        if "\\" in name or "\0" in name or ":" in name or place.is_absolute() or ".." in place.parts or not place.parts:
            fault = "would be written outside its folder"
        elif len(name) > LONGEST or any(len(part.encode(errors="replace")) > 255 for part in place.parts):
            fault = "has a name that is too long"
        elif kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
            fault = "is a link or a device"
        elif entry.flag_bits & 1:
            fault = "is encrypted"
        elif str(place) in seen:
            fault = "is repeated"
        if fault:
            raise SourceError(f"the wheel is refused: its entry {name[:200]!r} {fault}. Use another source.", where=source)
        seen.add(str(place))
    total = sum(entry.file_size for entry in entries)
    if total > LARGEST or len(entries) > MOST_FILES or (total > SMALL and total > DENSEST * packed):
        raise SourceError(
            f"the wheel is refused: {packed} bytes would unpack to {total} bytes in {len(entries)} files. At most {LARGEST} bytes, "
            f"{MOST_FILES} files and {DENSEST} times its size are allowed.",
            where=source,
        )


def wheel_license(folder: Path) -> str | None:
    """Read the licence in the METADATA of an unpacked wheel, as an SPDX name if it is known."""
    for path in folder.glob("*.dist-info/METADATA"):
        headers = email.parser.HeaderParser().parsestr(path.read_text(encoding="utf-8", errors="replace"))
        if expression := headers.get("License-Expression"):
            return str(expression).strip()
        text = str(headers.get("License") or "").strip()
        if text and text != "UNKNOWN" and "\n" not in text and len(text) <= 64:
            return SPDX.get(text, text)
        for classifier in headers.get_all("Classifier") or []:
            if classifier.startswith("License ::"):
                named = classifier.rpartition("::")[2].strip()
                return SPDX.get(named, named)
    return None
