"""Reading a bundle (`registry.bundle`) as if an attacker had written it.

No file is written under a name from the bundle, every byte is compared with its digest, no member can expand when it is read, and the
whole bundle is checked before the first version is published.
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
from vertical_sdk.errors import CorruptAdapter, GateFailed, RegistryError
from vertical_sdk.paths import report_full_disk
from vertical_sdk.registry.blob_store import parse_manifest
from vertical_sdk.registry.checks import NEEDED, build_record, check_files, check_gate, check_text_sizes, settle_gate
from vertical_sdk.registry.policy import Policy, check_licenses
from vertical_sdk.registry.references import check_alias, check_name
from vertical_sdk.registry.registry import LONGEST_TAG, TAG
from vertical_sdk.registry.store import OURS, REVOCATION, REVOKED, SIGNATURE, Entry, Event, Stored
from vertical_sdk.registry.version import Version
from vertical_sdk.types import Progress

__all__ = ["BLOCK", "CONTENTS", "FORMAT", "LIMIT", "Bundle", "BundledVersion", "Contents"]

FORMAT = 1
CONTENTS = "bundle.json"
OBJECT = re.compile(r"objects/([0-9a-f]{64})")
DIGEST = r"^[0-9a-f]{64}$"
"""For `re.fullmatch`, and for pydantic, whose $ is the very end."""
LIMIT = 10 << 30
"""Bytes of the largest bundle that is read by default."""
MOST_MEMBERS = 200_000
LONGEST_PAGE = 64 << 20
"""Bytes of the longest file that is read as a whole: the contents, a manifest, a card."""
LONGEST_OF_OURS = 32_000
"""Characters of a signature, or of the reason for a revocation."""
BLOCK = 1 << 20
BROKEN = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError, ValueError, struct.error)
"""The errors of zipfile for an archive that is cut, damaged, encrypted or compressed by an unknown method."""


class _Plain(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class BundledVersion(_Plain):
    """A version, as `bundle.json` describes it."""

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
    """The content of `bundle.json`."""

    format: int
    versions: Annotated[list[BundledVersion], Field(min_length=1, max_length=100_000)]


class Bundle:
    """A bundle opened for reading; an `Origin` to copy from."""

    def __init__(self, file: Path, limit: int) -> None:
        self.file = file
        self.limit = limit
        self._manifests: dict[str, dict[str, Stored]] = {}
        self._staging: tempfile.TemporaryDirectory[str] | None = None
        _check_size(file, limit)
        try:
            self._archive = zipfile.ZipFile(file)
        except BROKEN as error:
            raise CorruptAdapter(f"this bundle is cut or damaged: {error}. Copy it again.", where=file) from None
        try:
            self._members = self._read_members()
            self._entries = [self._entry(version) for version in self._contents().versions]
            self._check_entries()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Bundle:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and remove the unpacked files."""
        self._archive.close()
        if self._staging is not None:
            self._staging.cleanup()

    def names(self) -> Sequence[str]:
        """All names, sorted."""
        return sorted({entry.name for entry in self._entries})

    def versions(self, name: str) -> Sequence[Entry]:
        """The versions of a name, oldest first."""
        return sorted((entry for entry in self._entries if entry.name == name), key=lambda entry: entry.number)

    def history(self, _name: str) -> Sequence[Event]:
        """A bundle contains no log."""
        return ()

    def manifest(self, digest: str) -> dict[str, Stored]:
        """The manifest with this digest. Raises CorruptAdapter, or RegistryError for a manifest that is not allowed in a bundle."""
        if digest not in self._manifests:
            self._manifests[digest] = self._manifest(digest)
        return self._manifests[digest]

    def _manifest(self, digest: str) -> dict[str, Stored]:
        try:
            manifest = parse_manifest(self._page(digest), digest, f"{self.file}: objects/{digest[:12]}…")
        except RegistryError as error:
            raise RegistryError(error.message, where=self.file) from None
        total = sum(stored.size for stored in manifest.values())
        if total > self.limit:  # one member may be many files
            raise RegistryError(
                f"a version in it would unpack to {total} bytes; at most {self.limit} are allowed. If you trust it, "
                "raise the limit: limit=, --limit.",
                where=self.file,
            )
        for path, stored in manifest.items():
            size = self._members[stored.sha256].file_size if stored.sha256 in self._members else None
            if size != stored.size:
                problem = "is missing" if size is None else f"has {size} bytes instead of {stored.size}"
                raise self._damaged(f"objects/{stored.sha256[:12]}… ({path}) {problem}")
            if path in {CARD, NEEDED[0]} and stored.size > LONGEST_PAGE:
                raise RegistryError(f"{path} has {stored.size} bytes; at most {LONGEST_PAGE} are read.", where=self.file)
        return manifest

    def folder(self, digest: str) -> Path:
        """Unpack the files of a version into a folder, which exists until the next call. Raises CorruptAdapter."""
        if self._staging is not None:
            self._staging.cleanup()
        self._staging = tempfile.TemporaryDirectory(prefix="vertical-")
        folder = Path(self._staging.name, digest)
        with report_full_disk(folder):
            folder.mkdir()
            for path, stored in self.manifest(digest).items():
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as writer:
                    self._unpack(stored.sha256, writer, path)
        return folder

    def check(self, names: Sequence[str], policy: Policy, progress: Progress) -> None:
        """Check that each version could be published here, and compute its metadata from its card.

        Raises CorruptAdapter, GateFailed or RegistryError with the bundle, the version and the file.
        """
        used = {digest for entry in self._entries for digest in {entry.digest, *self._digests(entry)}}
        spare = sorted(self._members.keys() - used)
        if spare:
            raise RegistryError(
                f"objects/{spare[0]} does not belong to any version in the bundle. Create the bundle again.", where=self.file
            )
        for place, entry in enumerate(self._entries):
            progress(f"checking {self.file.name}", place / len(self._entries))
            if entry.name in names or not names:
                try:
                    self._entries[place] = self._checked(entry, policy)
                except (CorruptAdapter, GateFailed, RegistryError) as error:
                    raise type(error)(f"{entry.name}@{entry.number}: {error.message}", where=self.file) from None

    def leave_out_notes(self, names: Sequence[str], policy: Policy) -> list[str]:
        """Remove what only the bundle says: tags, aliases, revocations, and signatures of keys that the policy does not trust.

        names  of the versions that are published; all if empty

        returns  what was removed, a sentence for each version
        """
        from vertical_sdk.registry.signature_check import trusted_signers

        trusted = (
            {kind + made_by for made_by in trusted_signers(policy) for kind in (SIGNATURE, REVOCATION)}
            if policy.requires_signature
            else set()
        )
        notes = []
        for place, entry in enumerate(self._entries):
            kept = {key: text for key, text in entry.tags.items() if key in trusted}
            removed = [f"revoked: {entry.tags[REVOKED]}"] if REVOKED in entry.tags else []
            removed += [f"the alias {alias}" for alias in entry.aliases]
            removed += [
                f"the signature by {key.removeprefix(SIGNATURE)[:16]}…"
                if key.startswith(SIGNATURE)
                else f"the tag {key}={value}"
                for key, value in entry.tags.items()
                if key not in kept and key != REVOKED
            ]
            if removed and (entry.name in names or not names):
                notes.append(f"{entry.name}@{entry.number}: the bundle says this, and it was not taken: {'; '.join(removed)}.")
            self._entries[place] = replace(entry, aliases=(), tags=kept)
        return notes

    def _checked(self, entry: Entry, policy: Policy) -> Entry:
        folder, manifest = self.folder(entry.digest), self.manifest(entry.digest)
        check_text_sizes(manifest)
        card = read_card(folder)
        check_files(folder, card, manifest)
        settled = settle_gate(card)
        if settled != card and settled.gate:
            raise GateFailed(f"the verdict of its gate does not follow from its results: {' '.join(settled.gate.reasons)}")
        check_licenses(card, policy.licenses)
        gate, forced = check_gate(card, force=True)
        if forced and not entry.record["forced"]:
            raise RegistryError(
                f"its gate result is {gate!r}, but the bundle does not say that it was published by force. Create the bundle again."
            )
        if policy.requires_signature:
            from vertical_sdk.registry.signature_check import require_signature

            signatures = {k.removeprefix(SIGNATURE): text for k, text in entry.tags.items() if k.startswith(SIGNATURE)}
            version = Version(
                entry.name,
                entry.number,
                entry.digest,
                entry.created,
                signatures=signatures,
                folder=lambda: folder,
                read_manifest=lambda: self.manifest(entry.digest),
            )
            require_signature(version, policy)
        record = build_record(card, gate=gate, forced=entry.record["forced"], reason=entry.record["reason"])
        return replace(entry, record=record)

    def _damaged(self, problem: str) -> CorruptAdapter:
        return CorruptAdapter(f"{problem}. Copy the bundle again.", where=self.file)

    def _malformed(self, problem: str) -> RegistryError:
        return RegistryError(f"{CONTENTS}: {problem}", where=self.file)

    def _digests(self, entry: Entry) -> Iterator[str]:
        return (stored.sha256 for stored in self.manifest(entry.digest).values())

    def _read_members(self) -> dict[str, zipfile.ZipInfo]:
        """The objects by digest, after checking that every member is allowed in a bundle."""
        members: dict[str, zipfile.ZipInfo] = {}
        seen: set[str] = set()
        total = 0
        for info in self._archive.infolist():
            name = info.orig_filename
            named = OBJECT.fullmatch(name)
            fault = None
            if named is None and name != CONTENTS:
                fault = f"is neither {CONTENTS} nor objects/<SHA-256>"
            elif name in seen:
                fault = "appears twice"
            elif stat.S_IFMT(info.external_attr >> 16) not in {0, stat.S_IFREG}:
                fault = "is a link or a device"
            elif info.flag_bits & 1:
                fault = "is encrypted"
            elif info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
                fault = "is compressed; a bundle stores its members without compression"
            if fault:
                raise RegistryError(
                    f"its member {name[:200]!a} {fault}. Create bundles with `vertical registry bundle`.", where=self.file
                )
            seen.add(name)
            total += info.file_size
            if named:
                members[named[1]] = info
        if total > self.file.stat().st_size:
            raise RegistryError(
                f"its members claim {total} bytes, which is more than the whole file has. Create the bundle again.",
                where=self.file,
            )
        return members

    def _contents(self) -> Contents:
        try:
            info = self._archive.getinfo(CONTENTS)
        except KeyError:
            raise RegistryError(
                f"this is not a bundle: it has no {CONTENTS}. Create one with `vertical registry bundle`.", where=self.file
            ) from None
        content = b"".join(self._blocks(info, CONTENTS, LONGEST_PAGE))
        try:
            plain = json.loads(content)
            version = plain.get("format") if isinstance(plain, dict) else None
            if isinstance(version, int) and version != FORMAT:
                advice = "Upgrade vertical_sdk." if version > FORMAT else "Create it again."
                raise RegistryError(
                    f"this bundle has format {version}; this version of vertical_sdk reads format {FORMAT}. {advice}",
                    where=self.file,
                )
            return Contents.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            at = ".".join(str(step) for step in first["loc"]) or "the whole file"
            raise self._malformed(f"{at[:200]}: {first['msg']}. Create the bundle again.") from None
        except (ValueError, RecursionError):
            raise RegistryError(f"{CONTENTS} is not JSON. Copy the bundle again.", where=self.file) from None

    def _entry(self, version: BundledVersion) -> Entry:
        name = f"{version.name[:200]!a}"
        try:
            check_name(version.name)
            for alias in version.aliases:
                check_alias(alias, version.name)
            datetime.fromisoformat(version.created.replace("Z", "+00:00"))
        except ValueError:
            raise self._malformed(f"{name}: created is not a time: {version.created!a}. Create the bundle again.") from None
        except RegistryError as error:
            raise self._malformed(error.message) from None
        for key, value in version.tags.items():
            signed = key.startswith((SIGNATURE, REVOCATION)) and re.fullmatch(DIGEST, key.rpartition(".")[2])
            ours = key == REVOKED or (signed and key.count(".") == 2)
            if not (ours or (TAG.fullmatch(key) and not key.startswith(OURS))):
                raise self._malformed(f"{name}: {key[:200]!a} cannot be the name of a tag. Create the bundle again.")
            if len(value) > (LONGEST_OF_OURS if ours else LONGEST_TAG):
                raise self._malformed(f"{name}: the tag {key} has {len(value)} characters, which is too long.")
        if not version.who.isprintable() or not version.who:
            raise self._malformed(f"{name}: who is not the name of a user: {version.who!a}. Create the bundle again.")
        return Entry(
            name=version.name,
            number=version.number,
            digest=version.digest,
            created=version.created,
            who=version.who,
            record={"forced": version.forced, "reason": version.reason},
            aliases=tuple(version.aliases),
            tags=version.tags,
        )

    def _check_entries(self) -> None:
        """Check that no number, digest or alias appears twice, and that every manifest exists."""
        seen: set[tuple[str, object]] = set()
        for entry in self._entries:
            keys = [(entry.name, entry.number), (entry.name, entry.digest), *((f"{entry.name}@", a) for a in entry.aliases)]
            if seen & set(keys) or len(set(keys)) != len(keys):
                raise self._malformed(
                    f"{entry.name}@{entry.number} has a number, digest or alias that appears twice. Create the bundle again."
                )
            seen.update(keys)
            self._member(entry.digest)

    def _member(self, sha256: str) -> zipfile.ZipInfo:
        if sha256 not in self._members:
            raise self._damaged(f"objects/{sha256[:12]}… is missing")
        return self._members[sha256]

    def _page(self, sha256: str) -> bytes:
        return b"".join(self._blocks(self._member(sha256), "its manifest", LONGEST_PAGE))

    def _unpack(self, sha256: str, writer: IO[bytes], path: str) -> None:
        """Write the bytes of an object and compare them with its digest."""
        digest = hashlib.sha256()
        for block in self._blocks(self._member(sha256), path):
            digest.update(block)
            writer.write(block)
        if digest.hexdigest() != sha256:
            raise self._damaged(f"objects/{sha256[:12]}… ({path}) was changed")

    def _blocks(self, info: zipfile.ZipInfo, title: str, limit: int | None = None) -> Iterator[bytes]:
        if limit is not None and info.file_size > limit:
            raise RegistryError(f"{title} has {info.file_size} bytes; at most {limit} are read.", where=self.file)
        try:
            with self._archive.open(info) as member:
                while block := member.read(BLOCK):
                    yield block
        except BROKEN as error:
            raise self._damaged(f"{info.orig_filename} ({title}) is cut or damaged: {error}") from None


def _check_size(file: Path, limit: int) -> None:
    """Check, before zipfile reads the list of members into memory, that neither the file nor the list is too large.

    The size of the list is at the end of the archive; a large archive (zip64) has a second copy before it (PKWARE's APPNOTE, 4.3.14 to
    4.3.16). Archives with either at another place than in a bundle are refused.
    """
    if not file.is_file():
        raise RegistryError("there is no such file. Check the path.", where=file)
    size = file.stat().st_size
    if size > limit:
        raise RegistryError(
            f"this bundle has {size} bytes; at most {limit} are read. If you trust it, raise the limit: limit=, --limit.",
            where=file,
        )
    try:
        with file.open("rb") as reader:
            reader.seek(max(0, size - 98))
            tail = reader.read()
    except OSError as error:
        raise RegistryError(f"this file cannot be read ({error.strerror}). Check its permissions.", where=file) from None
    end = tail[-22:]
    if len(end) < 22 or end[:4] != b"PK\x05\x06" or end[20:] != b"\0\0":
        raise CorruptAdapter("this is not a bundle, or it is cut. Copy it again.", where=file)
    members, listed = struct.unpack("<HL", end[10:16])
    locator = tail[-42:-22]
    if size >= 98 and locator[:4] == b"PK\x06\x07":
        (at,) = struct.unpack("<Q", locator[8:16])
        record = tail[:-42]
        if at != size - 98 or record[:4] != b"PK\x06\x06":
            raise CorruptAdapter("this is not a bundle, or it is cut. Copy it again.", where=file)
        members, listed = struct.unpack("<QQ", record[32:48])
    if members > MOST_MEMBERS or listed > LONGEST_PAGE:
        raise RegistryError(
            f"this bundle has {members} members; at most {MOST_MEMBERS} are read. Create smaller bundles.", where=file
        )
