"""Versions in one file, for machines without a network.

A bundle is a zip archive whose members are stored without compression, so that no member can expand:

    bundle.json          the format, and each version: name, number, digest, user, time, tags, aliases
    objects/<sha256>     each file once, and each version's manifest, under the digest of its bytes

The same versions give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
import zipfile
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from vertical_sdk.errors import CorruptAdapter, RegistryError
from vertical_sdk.paths import report_full_disk
from vertical_sdk.registry.bundle_reader import BLOCK, CONTENTS, FORMAT, LIMIT, Bundle, BundledVersion, Contents
from vertical_sdk.registry.copying import CopyReport, copy_from
from vertical_sdk.registry.references import Reference
from vertical_sdk.registry.registry import Registry
from vertical_sdk.registry.store import REPLAYED, Entry, Stored, canonical_json, check_not_purged
from vertical_sdk.registry.version import Version
from vertical_sdk.types import Progress, silent

__all__ = ["LIMIT", "bundle", "unbundle"]

WHEN = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip archive can hold; all members have it."""


def bundle(
    registry: Registry,
    references: Sequence[str],
    file: Path,
    *,
    allow_revoked: Collection[str] = (),
    progress: Progress = silent,
) -> tuple[Version, ...]:
    """Write versions to one file, whole or not at all. An existing file is replaced.

    references     the versions ("medical/icd-chapter@3"); a bare name means its newest version
    allow_revoked  versions to include although they were revoked; they arrive revoked

    Raises what `Registry.resolve` raises, RegistryError if no version is named, and RunError if the file cannot be written.
    """
    if not references:
        raise RegistryError("a bundle needs at least one version. Name its versions, such as medical/icd-chapter@3.")
    if file.is_dir():
        raise RegistryError("this is a folder. Give the bundle's file, such as adapters.zip.", where=file)
    resolved = [registry.resolve(reference, allow_revoked=allow_revoked) for reference in references]
    versions = sorted({str(v): v for v in resolved}.values(), key=lambda version: (version.name, version.number))
    rows = [_describe(registry.store.find(Reference(v.name, version=v.number))[0]) for v in versions]
    contents = Contents(format=FORMAT, versions=rows).model_dump(mode="json")
    pages: dict[str, bytes] = {}
    files: dict[str, tuple[Path, Stored]] = {}
    for version in versions:
        manifest = registry.store.manifest(version.digest)
        pages[version.digest] = canonical_json(manifest)
        files |= {stored.sha256: (version.path / path, stored) for path, stored in manifest.items()}
    with report_full_disk(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        try:
            with os.fdopen(handle, "wb") as out:
                with zipfile.ZipFile(out, "w") as archive:
                    _add_page(archive, CONTENTS, json.dumps(contents, sort_keys=True, indent=1).encode())
                    members = sorted(pages.keys() | files.keys())
                    for place, sha256 in enumerate(members):
                        progress(f"writing {file.name}", place / len(members))
                        if sha256 in files:
                            _add_file(archive, *files[sha256])
                        else:
                            _add_page(archive, f"objects/{sha256}", pages[sha256])
                out.flush()
                os.fsync(out.fileno())
            Path(draft).chmod(0o644)
            Path(draft).replace(file)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
    return tuple(versions)


def unbundle(
    file: Path,
    registry: Registry,
    names: Sequence[str] = (),
    *,
    limit: int = LIMIT,
    trust_notes: bool = False,
    overwrite_aliases: bool = False,
    progress: Progress = silent,
) -> CopyReport:
    """Publish the versions of a bundle, as `copying.copy_versions` does, after the checks of a publish.

    names              only these; all if empty
    limit              bytes of the largest bundle that is read
    trust_notes        believe what the bundle says besides its files: tags, aliases, revocations, signatures, users and times
    overwrite_aliases  move aliases that point at other versions in the target; it needs `trust_notes`

    By default the files, the numbers and the reasons of versions are taken, and the signatures of keys that the policy trusts. The user of
    this registry publishes them, and the log says whom the bundle names. What was not believed is in the notes of the report.
    The metadata of a version is computed from its card and never taken from the bundle, except the mark that it was published
    against its gate. If the registry's policy requires signatures, each version must have one.

    Raises RegistryError for a file that is not a bundle, contains anything that a bundle may not contain, is too large, or that the
    policy refuses, or that this registry purged; CorruptAdapter if a file in it is cut, changed or missing. In both cases nothing is published.
    """
    if overwrite_aliases and not trust_notes:
        raise RegistryError(
            "aliases of a bundle are not taken, so none can be overwritten. Add trust_notes=True, --trust-notes."
        )
    with Bundle(file, limit) as opened_bundle:
        opened_bundle.check(names, registry.policy, progress)
        for entry in (entry for name in names or opened_bundle.names() for entry in opened_bundle.versions(name)):
            for existing in registry.store.find(Reference(entry.name, digest=entry.digest)):
                check_not_purged(existing)
        notes = () if trust_notes else opened_bundle.leave_out_notes(names, registry.policy)
        origin = f"the bundle {file.name}"
        report = copy_from(
            opened_bundle, origin, registry, names, believe=trust_notes, overwrite_aliases=overwrite_aliases, progress=progress
        )
        return replace(report, notes=(*notes, *report.notes))


def _describe(entry: Entry) -> BundledVersion:
    return BundledVersion(
        name=entry.name,
        number=entry.number,
        digest=entry.digest,
        created=entry.created,
        who=entry.who,
        forced=entry.record["forced"],
        reason=entry.record["reason"],
        tags={key: value for key, value in sorted(entry.tags.items()) if key != REPLAYED},
        aliases=sorted(entry.aliases),
    )


def _add_page(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(_info(name, len(content)), content)


def _add_file(archive: zipfile.ZipFile, path: Path, stored: Stored) -> None:
    digest = hashlib.sha256()
    with path.open("rb") as reader, archive.open(_info(f"objects/{stored.sha256}", stored.size), "w") as member:
        while block := reader.read(BLOCK):
            digest.update(block)
            member.write(block)
    if digest.hexdigest() != stored.sha256:
        raise CorruptAdapter("the file changed while it was being bundled. Verify the registry, then try again.", where=path)


def _info(name: str, size: int) -> zipfile.ZipInfo:
    """The metadata of a member, which is the same at every time and on every machine."""
    info = zipfile.ZipInfo(name, WHEN)
    info.create_system = 3
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    info.file_size = size
    return info
