"""Reading a bundle (`registry.bundle`) as if an enemy had written it.

Nothing is written under a name that stands in it, every byte is compared with its digest, nothing can grow when it is read, and all of
it is looked at before the first version is published.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import IO, Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vertical_sdk.card import CARD, read_card
from vertical_sdk.errors import CorruptAdapter, RegistryError
from vertical_sdk.paths import report_full_disk
from vertical_sdk.registry.blob_store import parse_manifest
from vertical_sdk.registry.checks import NEEDED, check_files, check_gate, noted
from vertical_sdk.registry.policy import Policy, check_licenses
from vertical_sdk.registry.references import check_alias, check_name
from vertical_sdk.registry.registry import LONGEST_TAG, OURS, REVOKED, SIGNATURE, TAG
from vertical_sdk.registry.store import Entry, Stored
from vertical_sdk.registry.version import Version
from vertical_sdk.types import Progress

__all__ = ["BLOCK", "CONTENTS", "FORMAT", "LIMIT", "Bundle", "Contents", "Line"]

FORMAT = 1
CONTENTS = "bundle.json"
OBJECT = re.compile(r"objects/([0-9a-f]{64})")
DIGEST = r"^[0-9a-f]{64}$"
"""For `re.fullmatch`, and for pydantic, whose $ is the very end."""
LIMIT = 10 << 30
"""Bytes of the largest bundle that is read, where nobody says otherwise."""
MOST_MEMBERS = 200_000
LONGEST_PAGE = 64 << 20
"""Bytes of the longest file that is read as a whole: the contents, a manifest, a card."""
LONGEST_OF_OURS = 32_000
"""Characters of a signature, or of the reason for a revocation."""
BLOCK = 1 << 20
BROKEN = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError, ValueError, struct.error)
"""What zipfile raises for an archive that is cut, damaged, encrypted or packed in a way that it does not know."""


class _Plain(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Line(_Plain):
    """A version, as the contents tell it."""

    name: str
    number: Annotated[int, Field(ge=1, lt=10**9)]
    digest: Annotated[str, Field(pattern=DIGEST)]
    created: Annotated[str, Field(max_length=64)]
    who: Annotated[str, Field(max_length=256)]
    forced: bool
    reason: Annotated[str, Field(max_length=10_000)]
    tags: dict[str, str]
    aliases: list[str]


class Contents(_Plain):
    """All that stands in `bundle.json`."""

    format: int
    versions: Annotated[list[Line], Field(min_length=1, max_length=100_000)]


class Bundle:
    """A bundle that is open for reading; an `Origin` to copy from."""

    def __init__(self, file: Path, limit: int) -> None:
        self.file = file
        self.limit = limit
        self._manifests: dict[str, dict[str, Stored]] = {}
        self._desk: tempfile.TemporaryDirectory[str] | None = None
        _check_size(file, limit)
        try:
            self._archive = zipfile.ZipFile(file)
        except BROKEN as error:
            raise CorruptAdapter(f"{file}: is cut or damaged: {error}. Copy it again.") from None
        try:
            self._members = self._looked_at()
            self._entries = [self._entry(line) for line in self._contents().versions]
            self._check_entries()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Bundle:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, and remove what was unpacked."""
        self._archive.close()
        if self._desk is not None:
            self._desk.cleanup()

    def names(self) -> Sequence[str]:
        """The names that there are, sorted."""
        return sorted({entry.name for entry in self._entries})

    def versions(self, name: str) -> Sequence[Entry]:
        """The versions of a name, oldest first."""
        return sorted((entry for entry in self._entries if entry.name == name), key=lambda entry: entry.number)

    def manifest(self, digest: str) -> dict[str, Stored]:
        """The manifest with this digest. Raises RegistryError for one that a bundle may not have, CorruptAdapter."""
        if digest not in self._manifests:
            self._manifests[digest] = self._manifest(digest)
        return self._manifests[digest]

    def _manifest(self, digest: str) -> dict[str, Stored]:
        try:
            manifest = parse_manifest(self._page(digest), digest, f"{self.file}: objects/{digest[:12]}…")
        except RegistryError as error:
            raise RegistryError(f"{self.file}: {error}") from None
        total = sum(stored.size for stored in manifest.values())
        if total > self.limit:  # one member may be many files
            raise RegistryError(
                f"{self.file}: a version in it would unpack to {total} bytes; at most {self.limit} are allowed."
            )
        for path, stored in manifest.items():
            size = self._members[stored.sha256].file_size if stored.sha256 in self._members else None
            if size != stored.size:
                what = "is missing" if size is None else f"has {size} bytes, and should have {stored.size}"
                raise CorruptAdapter(f"{self.file}: objects/{stored.sha256[:12]}… ({path}) {what}. Copy the bundle again.")
            if path in {CARD, NEEDED[0]} and stored.size > LONGEST_PAGE:
                raise RegistryError(f"{self.file}: {path} has {stored.size} bytes; at most {LONGEST_PAGE} are read.")
        return manifest

    def folder(self, digest: str) -> Path:
        """A folder with its files, which stands until the next one is asked for. Raises CorruptAdapter."""
        if self._desk is not None:
            self._desk.cleanup()
        self._desk = tempfile.TemporaryDirectory(prefix="vertical-")
        folder = Path(self._desk.name, digest)
        with report_full_disk(folder):
            folder.mkdir()
            for path, stored in self.manifest(digest).items():
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as writer:
                    self._unpack(stored.sha256, writer, path)
        return folder

    def check(self, names: Sequence[str], policy: Policy, progress: Progress) -> None:
        """See that each version is one that could be published here, and note of it what its card says.

        Raises CorruptAdapter or RegistryError that names the bundle, the version and the file.
        """
        used = {digest for entry in self._entries for digest in {entry.digest, *self._digests(entry)}}
        spare = sorted(self._members.keys() - used)
        if spare:
            raise RegistryError(f"{self.file}: objects/{spare[0]} belongs to no version in it. Take a bundle that is whole.")
        for place, entry in enumerate(self._entries):
            progress(f"checking {self.file.name}", place / len(self._entries))
            if entry.name in names or not names:
                try:
                    self._entries[place] = self._checked(entry, policy)
                except (CorruptAdapter, RegistryError) as error:
                    raise type(error)(f"{self.file}: {entry.name}@{entry.number}: {self._plain(error)}") from None

    def _checked(self, entry: Entry, policy: Policy) -> Entry:
        folder = self.folder(entry.digest)
        card = read_card(folder)
        check_files(folder, card, self.manifest(entry.digest))
        check_licenses(card, policy.licenses)
        gate, forced = check_gate(card, force=True)
        if forced and not entry.record["forced"]:
            raise RegistryError(f"its gate says {gate!r}, and the bundle hides that it was published by force.")
        if policy.signed:
            from vertical_sdk.registry.signing import require_signature

            signatures = {k.removeprefix(SIGNATURE): text for k, text in entry.tags.items() if k.startswith(SIGNATURE)}
            version = Version(
                entry.name, entry.number, entry.digest, entry.created, signatures=signatures, folder=lambda: folder
            )
            require_signature(version, policy)
        record = noted(card, gate=gate, forced=entry.record["forced"], reason=entry.record["reason"])
        return replace(entry, record=record)

    def _plain(self, error: Exception) -> str:
        """What an error says, without the folder that the files are in for a moment."""
        return str(error).replace(f"{self._desk.name}/" if self._desk is not None else "\0", "")

    def _digests(self, entry: Entry) -> Iterator[str]:
        return (stored.sha256 for stored in self.manifest(entry.digest).values())

    def _looked_at(self) -> dict[str, zipfile.ZipInfo]:
        """The objects, by digest, when every member is one that a bundle may have."""
        members: dict[str, zipfile.ZipInfo] = {}
        seen: set[str] = set()
        total = 0
        for info in self._archive.infolist():
            name = info.orig_filename
            named = OBJECT.fullmatch(name)
            fault = None
            if named is None and name != CONTENTS:
                fault = f"is neither {CONTENTS} nor objects/ with a SHA-256 behind it"
            elif name in seen:
                fault = "stands twice"
            elif stat.S_IFMT(info.external_attr >> 16) not in {0, stat.S_IFREG}:
                fault = "is a link or a device"
            elif info.flag_bits & 1:
                fault = "is encrypted"
            elif info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
                fault = "is packed; in a bundle everything is stored as it is"
            if fault:
                raise RegistryError(
                    f"{self.file}: its member {name[:200]!a} {fault}. A bundle is made with `vertical registry bundle`."
                )
            seen.add(name)
            total += info.file_size
            if named:
                members[named[1]] = info
        if total > self.file.stat().st_size:
            raise RegistryError(
                f"{self.file}: its members say that they have {total} bytes, which is more than the whole file has."
            )
        return members

    def _contents(self) -> Contents:
        try:
            info = self._archive.getinfo(CONTENTS)
        except KeyError:
            raise RegistryError(
                f"{self.file}: is no bundle, it has no {CONTENTS}. Make one with `vertical registry bundle`."
            ) from None
        content = b"".join(self._blocks(info, CONTENTS, LONGEST_PAGE))
        try:
            found = json.loads(content)
            version = found.get("format") if isinstance(found, dict) else None
            if isinstance(version, int) and version != FORMAT:
                newer = "Upgrade vertical_sdk." if version > FORMAT else "Make it anew."
                raise RegistryError(f"{self.file}: is a bundle of format {version}; this vertical_sdk knows {FORMAT}. {newer}")
            return Contents.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            at = ".".join(str(step) for step in first["loc"]) or "the whole"
            raise RegistryError(f"{self.file}: {CONTENTS}: {at[:200]}: {first['msg']}. Make the bundle anew.") from None
        except (ValueError, RecursionError):
            raise RegistryError(f"{self.file}: {CONTENTS} is not JSON. Copy the bundle again.") from None

    def _entry(self, line: Line) -> Entry:
        where = f"{self.file}: {CONTENTS}: {line.name[:200]!a}"
        try:
            check_name(line.name)
            for alias in line.aliases:
                check_alias(alias, line.name)
            datetime.fromisoformat(line.created.replace("Z", "+00:00"))
        except ValueError:
            raise RegistryError(f"{where}: created is no time: {line.created!a}.") from None
        except RegistryError as error:
            raise RegistryError(f"{self.file}: {CONTENTS}: {error}") from None
        for key, value in line.tags.items():
            ours = key == REVOKED or (key.startswith(SIGNATURE) and re.fullmatch(DIGEST, key.removeprefix(SIGNATURE)))
            if not (ours or (TAG.fullmatch(key) and not key.startswith(OURS))):
                raise RegistryError(f"{where}: {key[:200]!a} cannot be a tag's name.")
            if len(value) > (LONGEST_OF_OURS if ours else LONGEST_TAG):
                raise RegistryError(f"{where}: the tag {key} has {len(value)} characters, which is too long.")
        if not line.who.isprintable() or not line.who:
            raise RegistryError(f"{where}: who is no name: {line.who!a}.")
        record = {"forced": line.forced, "reason": line.reason}
        return Entry(line.name, line.number, line.digest, line.created, line.who, record, tuple(line.aliases), line.tags)

    def _check_entries(self) -> None:
        """See that nothing is said twice, and that every manifest is there."""
        seen: set[tuple[str, object]] = set()
        for entry in self._entries:
            said = [(entry.name, entry.number), (entry.name, entry.digest), *((f"{entry.name}@", a) for a in entry.aliases)]
            twice = [what for what in said if what in seen]
            if twice or len(set(said)) != len(said):
                raise RegistryError(
                    f"{self.file}: {CONTENTS}: {entry.name}@{entry.number} has something twice. Make the bundle anew."
                )
            seen.update(said)
            self._member(entry.digest)

    def _member(self, sha256: str) -> zipfile.ZipInfo:
        if sha256 not in self._members:
            raise CorruptAdapter(f"{self.file}: objects/{sha256[:12]}… is missing. Copy the bundle again.")
        return self._members[sha256]

    def _page(self, sha256: str) -> bytes:
        return b"".join(self._blocks(self._member(sha256), "its manifest", LONGEST_PAGE))

    def _unpack(self, sha256: str, writer: IO[bytes], path: str) -> None:
        """Write an object's bytes, and see that they are those of its digest."""
        digest = hashlib.sha256()
        for block in self._blocks(self._member(sha256), path):
            digest.update(block)
            writer.write(block)
        if digest.hexdigest() != sha256:
            raise CorruptAdapter(f"{self.file}: objects/{sha256[:12]}… ({path}) has changed. Copy the bundle again.")

    def _blocks(self, info: zipfile.ZipInfo, what: str, limit: int | None = None) -> Iterator[bytes]:
        if limit is not None and info.file_size > limit:
            raise RegistryError(f"{self.file}: {what} has {info.file_size} bytes; at most {limit} are read.")
        try:
            with self._archive.open(info) as member:
                while block := member.read(BLOCK):
                    yield block
        except BROKEN as error:
            raise CorruptAdapter(f"{self.file}: {info.orig_filename} ({what}) is cut or damaged: {error}.") from None


def _check_size(file: Path, limit: int) -> None:
    """See, before zipfile reads its list of members into memory, that neither the file nor the list is too large.

    The list's size stands at the archive's very end, and once more before that where the archive is large (zip64; PKWARE's APPNOTE,
    4.3.14 to 4.3.16). Only archives are read in which both stand where a bundle has them.
    """
    if not file.is_file():
        raise RegistryError(f"{file}: there is no such file.")
    size = file.stat().st_size
    if size > limit:
        raise RegistryError(
            f"{file}: has {size} bytes; at most {limit} are read. If you trust it, allow more: limit=, --limit."
        )
    try:
        with file.open("rb") as reader:
            reader.seek(max(0, size - 98))
            tail = reader.read()
    except OSError as error:
        raise RegistryError(f"{file}: cannot be read ({error.strerror}).") from None
    end = tail[-22:]
    if len(end) < 22 or end[:4] != b"PK\x05\x06" or end[20:] != b"\0\0":
        raise CorruptAdapter(f"{file}: is no bundle, or is cut. Copy it again.")
    members, listed = struct.unpack("<HL", end[10:16])
    locator = tail[-42:-22]
    if locator[:4] == b"PK\x06\x07":
        (at,) = struct.unpack("<Q", locator[8:16])
        record = tail[:-42]
        if at != size - 98 or record[:4] != b"PK\x06\x06":
            raise CorruptAdapter(f"{file}: is no bundle, or is cut. Copy it again.")
        members, listed = struct.unpack("<QQ", record[32:48])
    if members > MOST_MEMBERS or listed > LONGEST_PAGE:
        raise RegistryError(f"{file}: has {members} members; at most {MOST_MEMBERS} are read. Make smaller bundles.")
