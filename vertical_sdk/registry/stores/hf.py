"""The store in an owner's repositories on the Hugging Face hub, or on an endpoint with its API ($HF_ENDPOINT).

    hf://OWNER                       all adapters of a user or an organisation: one private model repository a name (so one
                                     repository is not a registry, and hf://OWNER/REPOSITORY does not exist)
    OWNER/medical.icd-chapter        the repository of medical/icd-chapter
      main                           the newest version's PEFT folder, unchanged, and beside it
        vertical-log.jsonl           the log, from which versions, aliases and tags follow (`event_log.EventLog`)
      v1, v2, …                      git tags, so that `PeftModel.from_pretrained(…, revision="v2")` has that version's files

A publish is one commit of its files and of the log with its line, on top of the commit that was read. The hub refuses a commit whose
parent is no longer the newest; the writer then reads the log again. So a reader sees whole versions or none, and two publishers never
share a number. For this reason the log is on main: commits to two branches would not be atomic. The log is not one of a version's
files, which its manifest lists; `from_pretrained` ignores it. Aliases are only in the log, since the hub cannot move a tag atomically.

A commit cannot contain its own hash, so the next line after a publish names the commit of that publish. Until then, the version's git
tag names it; and if a publish died before it set the tag, its commit is still the newest. Names of adapters are spelled so that the
hub accepts them and no two share a repository: "/" is ".", "." is "._", and the second dash of "--", which the hub forbids, is ".-".

The token is that of `hf auth login` or $HF_TOKEN. A company's endpoint without Xet storage needs $HF_HUB_DISABLE_XET=1, as for every
program that uploads to it. `names`, `newest` and `search` use the hub's list of the owner's repositories.
"""

from __future__ import annotations

import itertools
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from vertical_sdk.errors import CorruptAdapter, RegistryError, RunError
from vertical_sdk.paths import report_full_disk
from vertical_sdk.registry.blob_store import copy_checked, open_downloads, parse_manifest
from vertical_sdk.registry.query import Condition
from vertical_sdk.registry.references import Reference
from vertical_sdk.registry.store import (
    PURGED,
    Entry,
    Erased,
    Event,
    Manifest,
    Stored,
    canonical_json,
    manifest_digest,
    matches,
    slice_log,
)
from vertical_sdk.registry.stores.event_log import EventLog, build_alias_line, build_publish_line, build_tag_line
from vertical_sdk.registry.stores.hf_client import (
    MAIN,
    PATIENCE,
    download,
    file_url,
    list_tags,
    open_client,
    parse_repository,
    put_commit,
    read_file,
    spell_repository,
    translate_errors,
)
from vertical_sdk.registry.tree import tree_problems

__all__ = ["HfStore"]

LOG = "vertical-log.jsonl"
OWNER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9])?")
GIT_FILES = {".gitattributes", ".gitignore"}
"""Files that the hub itself interprets."""
TRIES = 100
REFUSALS = 3
"""Commits that the hub may refuse in a row although its repository did not change."""
WAIT = 0.2
"""Seconds before the second try after such a refusal, twice as many before the third, and so on."""
READERS = 8

Line: TypeAlias = Mapping[str, Any]
Decide: TypeAlias = "Callable[[_Snapshot], tuple[Line, Mapping[str, Path | None]] | None]"
"""Decides what to commit on a snapshot: a line of the log, with files to put (a path) or to delete (None). None means no commit."""


@dataclass(frozen=True)
class _Snapshot:
    """A repository at one commit."""

    commit: str
    log: EventLog
    lines: tuple[bytes, ...] = ()
    manifests: tuple[Mapping[str, Any], ...] = ()
    """One for each version, as in the log."""
    commits: Mapping[int, str] = field(default_factory=dict)
    """Version → the commit with its files. The newest version may be missing."""


class HfStore:
    """A registry on the hub; its methods are described in `Store`. Snapshots stay in memory until a repository has a new commit."""

    def __init__(self, owner: str) -> None:
        self.owner = owner.strip("/")
        if not OWNER.fullmatch(self.owner):
            raise RegistryError(
                f"hf://{owner}: not an owner. Write hf://OWNER, a user or an organisation of the hub. Each adapter is one of its repositories."
            )
        self._snapshots: dict[str, _Snapshot] = {}

    def put(
        self,
        name: str,
        files: Mapping[str, Path],
        manifest: Manifest,
        *,
        record: Mapping[str, Any],
        tags: Mapping[str, str],
        event: Event,
    ) -> Entry:
        """Commit the files as the name's next version, or return the version that has them already."""
        digest = manifest_digest(manifest)
        reserved = sorted(path for path in manifest if path == LOG or Path(path).name in GIT_FILES)
        if reserved:
            raise RegistryError(f"{name}: {reserved[0]} cannot be a file of a version on the hub. Remove it from the folder.")
        plain = json.loads(canonical_json(manifest))
        with report_full_disk(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory() as staging:
            copies = {path: Path(staging, file.sha256) for path, file in manifest.items()}
            for path, file in manifest.items():
                copy_checked(files[path], copies[path], file.sha256)

            def decide(snapshot: _Snapshot) -> tuple[Line, Mapping[str, Path | None]] | None:
                line = build_publish_line(snapshot.log, digest, record, tags, event)
                if line is None:
                    return None
                old = [path for path in (snapshot.manifests[-1] if snapshot.manifests else ()) if path not in manifest]
                return {**line, "files": plain}, {**dict.fromkeys(old), **copies}

            snapshot = self._commit_change(name, decide, create=True)
        (entry,) = snapshot.log.find(Reference(name, digest=digest))
        self._set_tag(snapshot, entry.number)
        return entry

    def find(self, reference: Reference) -> list[Entry]:
        """Find the versions that a reference may mean."""
        snapshot = self._load_current(reference.name)
        return snapshot.log.find(reference) if snapshot else []

    def names(self, prefix: str = "", *, after: str = "", limit: int | None = None) -> list[str]:
        """List the names with a prefix from the hub's own list. Repositories without our log are ignored."""
        return sorted(name for name in self._list_commits() if name.startswith(prefix) and name > after)[:limit]

    def newest(self, prefix: str = "", *, after: str = "", limit: int | None = None) -> list[tuple[Entry, Mapping[str, int]]]:
        """List the newest version of each of these names, with the name's aliases."""
        commits = self._list_commits()
        names = sorted(name for name in commits if name.startswith(prefix) and name > after)[:limit]
        snapshots = self._load_all({name: commits[name] for name in names})
        return [(entry, dict(sorted(s.log.aliases.items()))) for s in snapshots for entry in s.log.entries(limit=1)]

    def versions(self, name: str, *, before: int | None = None, limit: int | None = None) -> list[Entry]:
        """List the versions of a name, oldest first."""
        snapshot = self._load_current(name)
        return snapshot.log.entries(before, limit) if snapshot else []

    def search(
        self, conditions: Sequence[Condition], *, after: tuple[str, int] | None = None, limit: int | None = None
    ) -> list[Entry]:
        """List the versions that meet all conditions. Reads each name's log, unless it is in memory and did not change."""
        entries: list[Entry] = []
        after = after or ("", 0)
        for snapshot in self._load_all({name: commit for name, commit in self._list_commits().items() if name >= after[0]}):
            entries += [e for e in snapshot.log.entries() if (e.name, e.number) > after and matches(e, conditions)]
            if limit is not None and len(entries) >= limit:
                return entries[:limit]
        return entries

    def manifest(self, digest: str) -> Manifest:
        """Read the manifest with this digest from the log."""
        snapshot, number = self._locate_version(digest)
        content = json.dumps(snapshot.manifests[number - 1], sort_keys=True, separators=(",", ":")).encode()
        return parse_manifest(content, digest, f"{self._repository(snapshot.log.name)}: {LOG}")

    def folder(self, digest: str) -> Path:
        """A local folder with the files of a version's commit. A download that was changed since is downloaded again."""
        blobs, manifest = open_downloads(), self.manifest(digest)
        if blobs.tree_path(digest).is_dir() and tree_problems(blobs.tree_path(digest), manifest):
            blobs.remove_tree(digest)
        paths = {file.sha256: path for path, file in manifest.items()}

        def fetch(file: Stored, part: Path) -> None:
            snapshot, number = self._locate_version(digest)
            download(
                self._repository(snapshot.log.name), paths[file.sha256], self._find_commit(snapshot, number), file.size, part
            )

        return blobs.fetch_tree(digest, manifest, fetch)

    def move_alias(self, name: str, alias: str, number: int | None, expected: int | None, event: Event) -> None:
        """Compare and swap: commit a line of the log on top of the commit that was read."""
        self._commit_line(name, lambda snapshot: build_alias_line(snapshot.log, alias, number, expected, event))

    def tag(self, name: str, number: int, tags: Mapping[str, str | None], event: Event) -> None:
        """Set a version's tags, or remove those that are None. If it is purged, the same commit removes its files from main."""

        def decide(snapshot: _Snapshot) -> tuple[Line, Mapping[str, Path | None]]:
            newest = tags.get(PURGED) is not None and number == len(snapshot.manifests)
            return build_tag_line(snapshot.log, number, tags, event), dict.fromkeys(snapshot.manifests[-1] if newest else ())

        self._commit_change(name, decide)

    def erase(self, name: str, number: int) -> Erased:
        """Remove a purged version's git tag and this machine's download; `tag` removed its files from main. Its commit stays."""
        repository, tag = self._repository(name), f"v{number}"
        if tag in list_tags(repository):
            with translate_errors(repository):
                open_client().delete_tag(repository, tag=tag)
        (entry,) = self.find(Reference(name, version=number))
        open_downloads().forget(entry.digest, self.manifest(entry.digest))
        return Erased(
            0,
            {},
            f"The hub keeps every commit: the files of {tag} remain in the history and the LFS storage of {repository}, where everyone who "
            "may read the repository can read them. To erase them, copy the registry to another place and delete the repository, or let "
            "its owner rewrite its history and delete its LFS files on the hub's page. Machines that downloaded the version keep it in "
            "their cache folder.",
        )

    def history(self, name: str, *, skip: int = 0, limit: int | None = None, newest_first: bool = False) -> list[Event]:
        """Read the log of a name, or a part of it."""
        snapshot = self._load_current(name)
        return slice_log(snapshot.log.events if snapshot else (), skip, limit, newest_first)

    def problems(self) -> list[str]:
        """List logs that were changed, manifests with a wrong digest, and git tags that are missing or at a wrong commit."""
        problems = []
        for name in self.names():
            try:
                snapshot = self._load_current(name)
                for entry in snapshot.log.entries() if snapshot else ():
                    self.manifest(entry.digest)
            except (CorruptAdapter, RegistryError) as error:
                problems.append(str(error))
                continue
            problems += self._find_tag_problems(snapshot) if snapshot else []
        return problems

    def gc(self) -> int:
        """Do nothing and return 0: files that a killed publish uploaded belong to no commit, and only the hub can remove them."""
        return 0

    def close(self) -> None:
        """Do nothing: the hub client's connections are shared by the whole process."""

    def _repository(self, name: str) -> str:
        return f"{self.owner}/{spell_repository(name)}"

    def _commit_line(self, name: str, build_line: Callable[[_Snapshot], Line | None]) -> None:
        def decide(snapshot: _Snapshot) -> tuple[Line, Mapping[str, Path | None]] | None:
            line = build_line(snapshot)
            return None if line is None else (line, {})

        self._commit_change(name, decide)

    def _commit_change(self, name: str, decide: Decide, *, create: bool = False) -> _Snapshot:
        """Commit what `decide` returns for the newest snapshot. If another writer commits first, decide again on its snapshot."""
        repository, refused_on, refusals = self._repository(name), "", 0
        for _ in range(TRIES):
            snapshot = self._load_current(name)
            if snapshot is None:
                if not create:
                    raise RegistryError(
                        f"{repository}: this repository no longer exists on the hub. Publish the adapter again."
                    )
                snapshot = self._create_repository(name)
            refusals = refusals + 1 if snapshot.commit == refused_on else 0
            if refusals:
                time.sleep(WAIT * refusals)  # the hub may have answered with an old state
            if refusals > REFUSALS:
                raise RegistryError(
                    f"{repository}: the hub refuses the commit, though there is no other new commit. The token may only have the right to "
                    "open pull requests: give it write access to the repository."
                )
            change = decide(snapshot)
            if change is None:
                return snapshot
            line, files = change
            number = len(snapshot.manifests)
            if number:
                line = {**line, "newest_at": self._find_commit(snapshot, number)}
            lines = (*snapshot.lines, snapshot.log.encode_next(line))
            content = b"".join(line + b"\n" for line in lines)
            message = f"{line['kind']} {name}: {line['event']['why']}"
            commit = put_commit(repository, snapshot.commit, {**files, LOG: content}, message)
            if commit is not None:
                self._snapshots[name] = _parse_log(name, commit, lines, repository)
                return self._snapshots[name]
            refused_on = snapshot.commit
        raise RunError(
            f"{repository}: other writers were faster {TRIES} times. Try again when fewer of them publish at the same time."
        )

    def _create_repository(self, name: str) -> _Snapshot:
        """Create an empty repository, or use one that a publish created before it died."""
        repository = self._repository(name)
        with translate_errors(repository):
            open_client().create_repo(repository, private=True, exist_ok=True)
            info = open_client().model_info(repository, revision=MAIN)
        files = {file.rfilename for file in info.siblings or ()}
        if LOG in files:  # another writer was faster
            return self._load_at(name, str(info.sha))
        foreign = sorted(files - {".gitattributes"})
        if foreign:
            raise RegistryError(
                f"{repository} has files ({', '.join(foreign[:3])}) and no {LOG}: it does not belong to this registry. "
                "Publish under another name, or rename that repository."
            )
        return _Snapshot(str(info.sha), EventLog(name))

    def _load_current(self, name: str) -> _Snapshot | None:
        """Load the newest commit of a name's repository. None means that it does not exist or has no log of ours."""
        from huggingface_hub.errors import RemoteEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

        repository = self._repository(name)
        with translate_errors(repository):
            try:
                commit = open_client().get_hf_file_metadata(url=file_url(repository, LOG, MAIN), timeout=PATIENCE).commit_hash
            except (RemoteEntryNotFoundError, RevisionNotFoundError):
                return None
            except RepositoryNotFoundError as error:
                if error.response is not None and error.response.status_code == 404:
                    return None
                raise
        if commit is None:
            raise RegistryError(
                f"{repository}: the server at HF_ENDPOINT does not answer as a hub: the header X-Repo-Commit is missing. Correct HF_ENDPOINT."
            )
        return self._load_at(name, commit)

    def _load_at(self, name: str, commit: str) -> _Snapshot:
        snapshot = self._snapshots.get(name)
        if snapshot is None or snapshot.commit != commit:
            repository = self._repository(name)
            with translate_errors(repository):
                lines = tuple(read_file(file_url(repository, LOG, commit)).splitlines())
            snapshot = self._snapshots[name] = _parse_log(name, commit, lines, repository)
        return snapshot

    def _list_commits(self) -> dict[str, str]:
        """List name → the newest commit of its repository."""
        with translate_errors(f"hf://{self.owner}"):
            infos = list(open_client().list_models(author=self.owner, full=True))
        split = [(info.id.partition("/"), info) for info in infos if any(f.rfilename == LOG for f in info.siblings or ())]
        names = [
            (parse_repository(repository), str(i.sha))
            for (owner, _, repository), i in split
            if owner.lower() == self.owner.lower()
        ]
        return {name: commit for name, commit in names if name is not None}

    def _load_all(self, commits: Mapping[str, str]) -> Iterator[_Snapshot]:
        """Load repositories by name, each at its commit in the list, and a few at the same time."""
        items = sorted(commits.items())
        with ThreadPoolExecutor(READERS) as pool:
            for first in range(0, len(items), READERS):
                yield from pool.map(lambda item: self._load_at(*item), items[first : first + READERS])

    def _list_unread_names(self) -> Iterator[str]:
        yield from (name for name in self.names() if name not in self._snapshots)

    def _locate_version(self, digest: str) -> tuple[_Snapshot, int]:
        """Find a repository and the number of a version with this content. Raises CorruptAdapter if there is none."""
        for name in itertools.chain(list(self._snapshots), self._list_unread_names()):
            snapshot = self._snapshots.get(name) or self._load_current(name)
            entries = snapshot.log.find(Reference(name, digest=digest)) if snapshot else []
            if snapshot and entries:
                return snapshot, entries[0].number
        raise CorruptAdapter(f"hf://{self.owner}: no version has the digest {digest}. Publish the adapter again.")

    def _find_commit(self, snapshot: _Snapshot, number: int) -> str:
        """Find the commit with a version's files."""
        return (
            snapshot.commits.get(number) or list_tags(self._repository(snapshot.log.name)).get(f"v{number}") or snapshot.commit
        )

    def _set_tag(self, snapshot: _Snapshot, number: int) -> None:
        """Set the git tag of a version, so that users of the hub can load it as a revision, unless the tag exists."""
        tag, repository = f"v{number}", self._repository(snapshot.log.name)
        if tag not in list_tags(repository):
            with translate_errors(repository):
                open_client().create_tag(
                    repository, tag=tag, revision=snapshot.commits.get(number, snapshot.commit), exist_ok=True
                )

    def _find_tag_problems(self, snapshot: _Snapshot) -> list[str]:
        name, tags, problems = snapshot.log.name, list_tags(self._repository(snapshot.log.name)), []
        purged = {entry.number for entry in snapshot.log.entries() if PURGED in entry.tags}
        problems += [
            f"{name}@{n} was purged, but its git tag is still there. Purge it again." for n in sorted(purged) if f"v{n}" in tags
        ]
        for number in sorted(set(range(1, len(snapshot.manifests) + 1)) - purged):
            tag, expected = f"v{number}", snapshot.commits.get(number)
            if tag not in tags or expected not in {None, tags[tag]}:
                what = f"is at {tags[tag][:12]}, not at {str(expected)[:12]}. Delete it there" if tag in tags else "is missing"
                repair = f"{', and p' if tag in tags else '. P'}ublish {name}@{number} again"
                problems.append(f"{self._repository(name)}: the git tag {tag} {what}{repair}.")
        return problems


def _parse_log(name: str, commit: str, lines: tuple[bytes, ...], repository: str) -> _Snapshot:
    """Parse a log into a snapshot of its repository. Raises RegistryError if the log was changed."""
    log, commits = EventLog(name), dict[int, str]()
    manifests: list[Mapping[str, Any]] = []
    for content in lines:
        try:
            log.append(content)
        except RegistryError as error:
            raise RegistryError(f"{repository}: {LOG}: {error}") from None
        line = json.loads(content)["line"]
        if "newest_at" in line:
            commits.setdefault(len(manifests), line["newest_at"])
        if line["kind"] == "publish":
            manifests.append(line.get("files", {}))
    return _Snapshot(commit, log, lines, tuple(manifests), commits)
