"""The store that is an owner's repositories on the Hugging Face hub, or on an endpoint that speaks its API ($HF_ENDPOINT).

    hf://OWNER                       all adapters of a user or an organisation: one private model repository a name (so one
                                     repository is no registry, and there is no hf://OWNER/REPOSITORY)
    OWNER/medical.icd-chapter        the repository of medical/icd-chapter
      main                           the newest version's PEFT folder as it is, and beside it
        vertical-log.jsonl           the log, from which versions, aliases and tags follow (`book.Book`)
      v1, v2, …                      git tags, so that `PeftModel.from_pretrained(…, revision="v2")` has that version's files

A publish is one commit of its files and of the log with its line, put on the commit that was read: the hub refuses a commit whose
parent is not the newest any more, and then the log is read anew. So a reader sees whole versions or none, and two publishers never
share a number. That is why the log stands on main: commits to two branches would not be one. It is none of a version's files,
which its manifest lists; `from_pretrained` passes it over. Aliases stand in the log only, for the hub cannot move a tag at once.

A commit cannot name itself, so the line that follows a publish says which commit that was; before there is one, its tag does, and a
publish that died before it set its tag is still the newest commit. Names of adapters are spelled so that the hub takes them and no
two share a repository: "/" is ".", "." is "._", and the second dash of "--", which the hub forbids, is ".-".

The token is that of `hf auth login` or $HF_TOKEN. An endpoint of a company that has no Xet storage needs $HF_HUB_DISABLE_XET=1, as for
everything that uploads to it. `names`, `newest` and `search` go by the hub's list of the owner's repositories.
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
from vertical_sdk.registry.store import Entry, Event, Manifest, Stored, canonical_json, manifest_digest, matches, slice_log
from vertical_sdk.registry.stores.event_log import Book, alias_line, publish_line, tag_line
from vertical_sdk.registry.stores.hf_client import (
    MAIN,
    PATIENCE,
    download,
    file_url,
    get,
    hub,
    name_of,
    put_commit,
    repository_of,
    tags_of,
    telling,
)
from vertical_sdk.registry.tree import tree_problems

__all__ = ["HfStore"]

LOG = "vertical-log.jsonl"
OWNER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9])?")
HEEDED = {".gitattributes", ".gitignore"}
"""Files that the hub reads as orders to itself."""
TRIES = 100
SEVERAL = 3
WAIT = 0.2
"""Seconds, and twice and thrice as many, before a commit that was refused for no visible reason is tried again."""
READERS = 8

Line: TypeAlias = Mapping[str, Any]
Write: TypeAlias = "Callable[[_Shelf], tuple[Line, Mapping[str, Path | None]] | None]"
"""What to commit on what was read: a line of the log, with files to put (a path) or to take away (None); None for nothing."""


@dataclass(frozen=True)
class _Shelf:
    """A repository at one commit."""

    commit: str
    book: Book
    lines: tuple[bytes, ...] = ()
    manifests: tuple[Mapping[str, Any], ...] = ()
    """Version by version, as the log has them."""
    commits: Mapping[int, str] = field(default_factory=dict)
    """Version → the commit with its files; the newest may be missing."""


class HfStore:
    """A registry on the hub; its methods are described in `Store`. What was read is kept in memory by commit."""

    def __init__(self, owner: str) -> None:
        self.owner = owner.strip("/")
        if not OWNER.fullmatch(self.owner):
            raise RegistryError(
                f"hf://{owner}: write hf://OWNER, a user or an organisation of the hub. Each adapter is a repository of theirs."
            )
        self._read: dict[str, _Shelf] = {}

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
        heeded = sorted(path for path in manifest if path == LOG or Path(path).name in HEEDED)
        if heeded:
            raise RegistryError(f"{name}: {heeded[0]} cannot be a file of a version on the hub. Take it out of the folder.")
        plain = json.loads(canonical_json(manifest))
        with report_full_disk(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory() as desk:
            copies = {path: Path(desk, file.sha256) for path, file in manifest.items()}
            for path, file in manifest.items():
                copy_checked(files[path], copies[path], file.sha256)

            def write(shelf: _Shelf) -> tuple[Line, Mapping[str, Path | None]] | None:
                line = publish_line(shelf.book, digest, record, tags, event)
                if line is None:
                    return None
                gone = [path for path in (shelf.manifests[-1] if shelf.manifests else ()) if path not in manifest]
                return {**line, "files": plain}, {**dict.fromkeys(gone), **copies}

            shelf = self._change(name, write, make=True)
        (entry,) = shelf.book.find(Reference(name, digest=digest))
        self._set_tag(shelf, entry.number)
        return entry

    def find(self, reference: Reference) -> list[Entry]:
        """The versions that a reference may mean."""
        shelf = self._shelf(reference.name)
        return shelf.book.find(reference) if shelf else []

    def names(self, prefix: str = "", *, after: str = "", limit: int | None = None) -> list[str]:
        """The names that begin so, as the hub's own list has them; repositories without our log are passed over."""
        return sorted(name for name in self._listed() if name.startswith(prefix) and name > after)[:limit]

    def newest(self, prefix: str = "", *, after: str = "", limit: int | None = None) -> list[tuple[Entry, Mapping[str, int]]]:
        """The newest version of each of these names, and the name's aliases."""
        listed = self._listed()
        wanted = sorted(name for name in listed if name.startswith(prefix) and name > after)[:limit]
        shelves = self._shelves({name: listed[name] for name in wanted})
        return [(entry, dict(sorted(s.book.aliases.items()))) for s in shelves for entry in s.book.entries(limit=1)]

    def versions(self, name: str, *, before: int | None = None, limit: int | None = None) -> list[Entry]:
        """The versions of a name, oldest first."""
        shelf = self._shelf(name)
        return shelf.book.entries(before, limit) if shelf else []

    def search(
        self, conditions: Sequence[Condition], *, after: tuple[str, int] | None = None, limit: int | None = None
    ) -> list[Entry]:
        """The versions that meet all conditions: each name's log is read, those that did not change since are in memory."""
        found: list[Entry] = []
        after = after or ("", 0)
        for shelf in self._shelves({name: commit for name, commit in self._listed().items() if name >= after[0]}):
            found += [e for e in shelf.book.entries() if (e.name, e.number) > after and matches(e, conditions)]
            if limit is not None and len(found) >= limit:
                return found[:limit]
        return found

    def manifest(self, digest: str) -> Manifest:
        """The manifest with this digest, out of the log."""
        shelf, number = self._where(digest)
        content = json.dumps(shelf.manifests[number - 1], sort_keys=True, separators=(",", ":")).encode()
        return parse_manifest(content, digest, f"{self._repository(shelf.book.name)}: {LOG}")

    def folder(self, digest: str) -> Path:
        """The files of a version's commit here; a download that somebody changed since is made anew."""
        blobs, manifest = open_downloads(), self.manifest(digest)
        if blobs.tree_path(digest).is_dir() and tree_problems(blobs.tree_path(digest), manifest):
            blobs.remove_tree(digest)
        paths = {file.sha256: path for path, file in manifest.items()}

        def fetch(file: Stored, part: Path) -> None:
            shelf, number = self._where(digest)
            download(self._repository(shelf.book.name), paths[file.sha256], self._commit(shelf, number), file.size, part)

        return blobs.fetch_tree(digest, manifest, fetch)

    def move_alias(self, name: str, alias: str, number: int | None, expected: int | None, event: Event) -> None:
        """Compare and swap: a line of the log, on the commit that was read."""
        self._write(name, lambda shelf: alias_line(shelf.book, alias, number, expected, event))

    def tag(self, name: str, number: int, tags: Mapping[str, str | None], event: Event) -> None:
        """Set tags, or take those away that are None."""
        self._write(name, lambda shelf: tag_line(shelf.book, number, tags, event))

    def history(self, name: str, *, skip: int = 0, limit: int | None = None, newest_first: bool = False) -> list[Event]:
        """The log of a name, or a part of it."""
        shelf = self._shelf(name)
        return slice_log(shelf.book.events if shelf else (), skip, limit, newest_first)

    def problems(self) -> list[str]:
        """Logs that were changed, manifests that do not fit, and git tags that are missing or stand elsewhere."""
        found = []
        for name in self.names():
            try:
                shelf = self._shelf(name)
                for entry in shelf.book.entries() if shelf else ():
                    self.manifest(entry.digest)
            except (CorruptAdapter, RegistryError) as error:
                found.append(str(error))
                continue
            found += self._tag_problems(shelf) if shelf else []
        return found

    def gc(self) -> int:
        """Nothing: what a killed publish has uploaded belongs to no commit, and is the hub's to remove."""
        return 0

    def close(self) -> None:
        """Nothing is held open but the hub client's own connections, which all of a process share."""

    def _repository(self, name: str) -> str:
        return f"{self.owner}/{repository_of(name)}"

    def _write(self, name: str, line: Callable[[_Shelf], Line | None]) -> None:
        def write(shelf: _Shelf) -> tuple[Line, Mapping[str, Path | None]] | None:
            made = line(shelf)
            return None if made is None else (made, {})

        self._change(name, write)

    def _change(self, name: str, write: Write, *, make: bool = False) -> _Shelf:
        """Commit what `write` wants, on what it was shown; where somebody was faster, it is shown what is there then."""
        repository, refused, still = self._repository(name), "", 0
        for _ in range(TRIES):
            shelf = self._shelf(name)
            if shelf is None:
                if not make:
                    raise RegistryError(f"{repository}: the hub has no such repository any more.")
                shelf = self._made(name)
            still = still + 1 if shelf.commit == refused else 0
            if still:
                time.sleep(WAIT * still)  # what was read may be a moment old
            if still > SEVERAL:
                raise RegistryError(
                    f"{repository}: the hub refuses the commit, though nobody else made one. The token may be one that can only open "
                    "pull requests: give it write access to the repository."
                )
            wanted = write(shelf)
            if wanted is None:
                return shelf
            line, files = wanted
            number = len(shelf.manifests)
            if number:
                line = {**line, "newest_at": self._commit(shelf, number)}
            lines = (*shelf.lines, shelf.book.next(line))
            log = b"".join(line + b"\n" for line in lines)
            told = f"{line['kind']} {name}: {line['event']['why']}"
            made = put_commit(repository, shelf.commit, {**files, LOG: log}, told)
            if made is not None:
                self._read[name] = _parse(name, made, lines, repository)
                return self._read[name]
            refused = shelf.commit
        raise RunError(f"{repository}: others were faster {TRIES} times. Try again when fewer publish at once.")

    def _made(self, name: str) -> _Shelf:
        """A repository with nothing in it: a new one, or one that a publish made before it died."""
        repository = self._repository(name)
        with telling(repository):
            hub().create_repo(repository, private=True, exist_ok=True)
            found = hub().model_info(repository, revision=MAIN)
        files = {file.rfilename for file in found.siblings or ()}
        if LOG in files:  # somebody was faster
            return self._at(name, str(found.sha))
        strange = sorted(files - {".gitattributes"})
        if strange:
            raise RegistryError(
                f"{repository} has files ({', '.join(strange[:3])}) and no {LOG}: it is not this registry's. "
                "Publish under another name, or rename that repository."
            )
        return _Shelf(str(found.sha), Book(name))

    def _shelf(self, name: str) -> _Shelf | None:
        """A name's repository as it is now; None where there is none, or it is not ours."""
        from huggingface_hub.errors import RemoteEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

        repository = self._repository(name)
        with telling(repository):
            try:
                commit = hub().get_hf_file_metadata(url=file_url(repository, LOG, MAIN), timeout=PATIENCE).commit_hash
            except (RemoteEntryNotFoundError, RevisionNotFoundError):
                return None
            except RepositoryNotFoundError as error:
                if error.response is not None and error.response.status_code == 404:
                    return None
                raise
        if commit is None:
            raise RegistryError(f"{repository}: what HF_ENDPOINT names does not answer as a hub: no X-Repo-Commit.")
        return self._at(name, commit)

    def _at(self, name: str, commit: str) -> _Shelf:
        known = self._read.get(name)
        if known is None or known.commit != commit:
            repository = self._repository(name)
            with telling(repository):
                lines = tuple(get(file_url(repository, LOG, commit)).splitlines())
            known = self._read[name] = _parse(name, commit, lines, repository)
        return known

    def _listed(self) -> dict[str, str]:
        """Name → the newest commit of its repository."""
        with telling(f"hf://{self.owner}"):
            listed = list(hub().list_models(author=self.owner, full=True))
        split = [(info.id.partition("/"), info) for info in listed if any(f.rfilename == LOG for f in info.siblings or ())]
        named = [
            (name_of(repository), str(i.sha)) for (owner, _, repository), i in split if owner.lower() == self.owner.lower()
        ]
        return {name: commit for name, commit in named if name is not None}

    def _shelves(self, listed: Mapping[str, str]) -> Iterator[_Shelf]:
        """Repositories by name, each at the commit that the list has; a few are read at once."""
        left = sorted(listed.items())
        with ThreadPoolExecutor(READERS) as pool:
            for first in range(0, len(left), READERS):
                yield from pool.map(lambda one: self._at(*one), left[first : first + READERS])

    def _unread(self) -> Iterator[str]:
        yield from (name for name in self.names() if name not in self._read)

    def _where(self, digest: str) -> tuple[_Shelf, int]:
        """A repository and the number of a version with this content. Raises CorruptAdapter where there is none."""
        for name in itertools.chain(list(self._read), self._unread()):
            shelf = self._read.get(name) or self._shelf(name)
            found = shelf.book.find(Reference(name, digest=digest)) if shelf else []
            if shelf and found:
                return shelf, found[0].number
        raise CorruptAdapter(f"hf://{self.owner}: no version has the digest {digest}. Publish the adapter again.")

    def _commit(self, shelf: _Shelf, number: int) -> str:
        """The commit with a version's files."""
        return shelf.commits.get(number) or tags_of(self._repository(shelf.book.name)).get(f"v{number}") or shelf.commit

    def _set_tag(self, shelf: _Shelf, number: int) -> None:
        """Make a version a revision that the hub's own users can name, unless it is one."""
        tag, repository = f"v{number}", self._repository(shelf.book.name)
        if tag not in tags_of(repository):
            with telling(repository):
                hub().create_tag(repository, tag=tag, revision=shelf.commits.get(number, shelf.commit), exist_ok=True)

    def _tag_problems(self, shelf: _Shelf) -> list[str]:
        name, tags, found = shelf.book.name, tags_of(self._repository(shelf.book.name)), []
        for number in range(1, len(shelf.manifests) + 1):
            tag, right = f"v{number}", shelf.commits.get(number)
            if tag not in tags or right not in {None, tags[tag]}:
                what = f"stands at {tags[tag][:12]}, not at {str(right)[:12]}. Delete it there" if tag in tags else "is missing"
                mend = f"{', and p' if tag in tags else '. P'}ublish {name}@{number} again"
                found.append(f"{self._repository(name)}: the git tag {tag} {what}{mend}.")
        return found


def _parse(name: str, commit: str, lines: tuple[bytes, ...], repository: str) -> _Shelf:
    """The repository that a log describes. Raises RegistryError where the log was changed."""
    book, commits = Book(name), dict[int, str]()
    manifests: list[Mapping[str, Any]] = []
    for content in lines:
        try:
            book.add(content)
        except RegistryError as error:
            raise RegistryError(f"{repository}: {LOG}: {error}") from None
        line = json.loads(content)["line"]
        if "newest_at" in line:
            commits.setdefault(len(manifests), line["newest_at"])
        if line["kind"] == "publish":
            manifests.append(line.get("files", {}))
    return _Shelf(commit, book, lines, tuple(manifests), commits)
