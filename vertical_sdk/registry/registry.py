"""The registry: adapters that passed their gate, by name, version and alias."""

from __future__ import annotations

import builtins
import contextlib
import difflib
import getpass
import json
import os
import re
import tempfile
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from vertical_sdk.card import CARD, read_card
from vertical_sdk.errors import CorruptAdapter, RegistryError
from vertical_sdk.paths import file_digest, registry_home
from vertical_sdk.registry.checks import REPORT, adapter_folder, check_files, check_gate, noted
from vertical_sdk.registry.policy import Policy, check_licenses
from vertical_sdk.registry.query import parse_condition
from vertical_sdk.registry.references import Reference, check_alias, check_name, parse_reference
from vertical_sdk.registry.store import Entry, Event, Stored
from vertical_sdk.registry.stores import open_store
from vertical_sdk.registry.tree import read_tree, tree_problems
from vertical_sdk.registry.version import Summary, Version

__all__ = ["Registry"]

TAG = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
LONGEST_TAG = 1000
MANY = 10_000
"""Names that are compared with one that does not exist, to ask whether one of them was meant."""
OURS = "vertical."
"""Before tags that are none of the user's: what a version was signed with, and why it was revoked."""
REVOKED = f"{OURS}revoked"
SIGNATURE = f"{OURS}signature."


class Registry:
    """Published adapters. It may be used by many threads and processes at once; nothing is made before the first publish."""

    def __init__(self, location: str | Path | None = None, policy: Policy | None = None) -> None:
        """Open a registry; nothing is read or made yet.

        location  a folder, or an address such as s3://bucket/adapters (`registry.stores`); the user's own registry
                  (`paths.registry_home`) where it is None
        policy    whose signatures count, and which licences may go in; what the environment says where it is None
        """
        self.location = str(location if location is not None else registry_home())
        self.policy = Policy.from_environment() if policy is None else policy
        self.store = open_store(self.location)
        self._who: str | None = None

    def acting_for(self, who: str) -> Registry:
        """This registry, with somebody's name in its log: what a server does, it does for whoever asked."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, _who=who)
        return other

    def __repr__(self) -> str:
        return f"Registry({self.location!r})"

    def __reduce__(self) -> tuple[type[Registry], tuple[str, Policy]]:
        return Registry, (self.location, self.policy)

    def publish(
        self,
        adapter: str | Path,
        name: str | None = None,
        *,
        force: bool = False,
        reason: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> Version:
        """Publish an adapter's folder, or the folder of its run, as the next version of a name.

        name    the card's name where it is None
        force   publish although the gate failed or was never asked; the version and the log say so for ever
        reason  why, for the log

        Content that the name has already gets no new version: the one it has is returned as it stands.
        Raises CorruptAdapter where a file is not as the card says, GateFailed, RegistryError for a bad name, tag, file or licence,
        RunError where the registry cannot be written.
        """
        folder, report = find_adapter_folder(Path(adapter))
        manifest = read_tree(folder)
        card = read_card(folder)
        check_files(folder, card, manifest)
        check_licenses(card, self.policy.licenses)
        gate, forced = check_gate(card, force=force)
        name = check_name(card.name if name is None else name)
        tags = dict(tags or {})
        _check_tags(tags)
        files = {path: folder / path for path in manifest}
        if report is not None and REPORT not in manifest:
            manifest[REPORT] = Stored(file_digest(report), report.stat().st_size)
            files[REPORT] = report
        record = noted(card, gate=gate, forced=forced, reason=reason)
        event = self.event(name, "publish by force" if forced else "publish", why=reason)
        with contextlib.ExitStack() as desk:
            if forced and card.forced is None:  # also in the card, which goes wherever the folder goes
                told = Path(desk.enter_context(tempfile.TemporaryDirectory(prefix="vertical-publish-"))) / CARD
                told.write_text(
                    card.model_copy(update={"forced": reason or "no reason was given"}).model_dump_json(indent=1) + "\n"
                )
                manifest[CARD], files[CARD] = Stored(file_digest(told), told.stat().st_size), told
            return self._version(self.store.put(name, files, manifest, record=record, tags=tags, event=event))

    def resolve(self, reference: str, *, check: bool = True, allow_revoked: Collection[str] = ()) -> Version:
        """The version that a reference means, after its files were compared with their digests.

        check          compare the files, and ask for a signature where the policy does; a file is read once in a process, and again
                       when its inode, size or times have changed. Without it, a version can be looked at and not be used
        allow_revoked  versions ("medical/icd-chapter@3") that may be used although they were revoked

        Raises RegistryError where there is no such version, or it was revoked or not signed by a trusted key; CorruptAdapter that
        names the file where one has changed.
        """
        wanted = parse_reference(reference)
        found = self.store.find(wanted)
        if len(found) != 1:
            raise self._not_one(wanted, found)
        version = self._version(found[0])
        if check:
            if version.revoked is not None and str(version) not in allow_revoked:
                raise RegistryError(
                    f"{version} was revoked: {version.revoked}. Use another version, or allow this one by its name: "
                    f"allow_revoked=['{version}'], --allow-revoked {version}."
                )
            wrong = tree_problems(version.path, self.store.manifest(version.digest))
            if wrong:
                raise CorruptAdapter(
                    f"{version}: {'; '.join(wrong)} (in {version.path}). "
                    "Publish the same adapter again to mend it, or put back a copy."
                )
            if self.policy.requires_signature:
                from vertical_sdk.registry.signing import require_signature

                require_signature(version, self.policy)
        return version

    def list(self, prefix: str | None = None, *, after: str = "", limit: int | None = None) -> Sequence[Summary]:
        """The names that begin with a prefix (all, where it is None), each with what its newest version is.

        At most `limit` of those behind the name `after`, in alphabetical order.
        """
        return [_summary(*found) for found in self.store.newest(prefix or "", after=after, limit=limit)]

    def versions(self, name: str, *, before: int | None = None, limit: int | None = None) -> Sequence[Version]:
        """The versions of a name, oldest first: the `limit` newest of those below number `before`; all, where both are None.

        Raises RegistryError where there is no such name.
        """
        found = self.store.versions(check_name(name), before=before, limit=limit)
        if not found and not self.store.find(Reference(name)):
            raise self._not_one(Reference(name), ())
        return [self._version(entry) for entry in found]

    def search(self, *conditions: str, after: Version | None = None, limit: int | None = None) -> Sequence[Version]:
        """The versions that meet all conditions ("domain=medical", "license=cc-by-4.0", "macro_f1>0.8"), by name and number.

        At most `limit` of those that stand behind the version `after`. Raises RegistryError for what is no condition.
        """
        asked = [parse_condition(text) for text in conditions]
        behind = (after.name, after.number) if after is not None else None
        return [self._version(entry) for entry in self.store.search(asked, after=behind, limit=limit)]

    def set_alias(
        self,
        name: str,
        alias: str,
        version: int,
        *,
        expected: int | None = None,
        why: str = "",
        evidence: str = "",
        action: str = "alias",
    ) -> None:
        """Point an alias at a version.

        expected  the version that it must stand at now, 0 where it must not exist yet; None: wherever it stands
        evidence  what it is moved on, as JSON, for the log
        action    what the log calls it: "promote", "rollback"

        Raises RegistryError where there is no such version, or the alias does not stand where it was expected.
        """
        check_alias(alias, name)
        self._exists(name, version)
        self.store.move_alias(name, alias, version, expected, self.event(name, action, alias, why, evidence))

    def delete_alias(self, name: str, alias: str, *, expected: int | None = None, why: str = "") -> None:
        """Take an alias away; the version stays. Raises RegistryError where there is no such alias."""
        check_alias(alias, name)
        wanted = Reference(check_name(name), alias=alias)
        if not self.store.find(wanted):
            raise self._not_one(wanted, ())
        self.store.move_alias(name, alias, None, expected, self.event(name, "delete alias", alias, why))

    def tag(self, name: str, version: int, tags: Mapping[str, str | None], *, why: str = "") -> None:
        """Set tags of a version; None takes one away. Raises RegistryError."""
        _check_tags(tags)
        self._tag(name, version, tags, "tag", why or ", ".join(f"{k}={v}" for k, v in tags.items()))

    def revoke(self, reference: str, reason: str) -> Version:
        """Refuse to load a version from now on, unless it is allowed by name. It is kept, and aliases stay where they are.

        Raises RegistryError where there is no such version, it is revoked already, or no reason is given.
        """
        version = self.resolve(reference, check=False)
        if not reason.strip():
            raise RegistryError(f"{version}: say why it is revoked; whoever uses it will read that.")
        if version.revoked is not None:
            raise RegistryError(f"{version} was revoked already: {version.revoked}.")
        self._tag(version.name, version.number, {REVOKED: reason}, "revoke", reason)
        return self.resolve(str(version), check=False)

    def add_signature(self, version: Version, fingerprint: str, signature: str) -> None:
        """Keep a signature of a version (`registry.signing` makes and checks them)."""
        self._tag(version.name, version.number, {SIGNATURE + fingerprint: signature}, "sign", f"with the key {fingerprint}")

    def history(self, name: str, *, skip: int = 0, limit: int | None = None, newest_first: bool = False) -> Sequence[Event]:
        """Who published, aliased and tagged what, when and why; at most `limit` lines of those behind the first `skip`.

        Raises RegistryError where nothing has this name.
        """
        found = self.store.history(check_name(name), skip=skip, limit=limit, newest_first=newest_first)
        if not found and not self.store.history(name, limit=1):
            raise self._not_one(Reference(name), ())
        return found

    def verify(self, reference: str | None = None) -> builtins.list[str]:
        """What is wrong with a version, or with everything, a sentence each; every file is read anew.

        Raises RegistryError where there is no such version.
        """
        if reference is not None:
            return self._wrong(self.resolve(reference, check=False))
        found = [line for name in self.store.names() for version in self.versions(name) for line in self._wrong(version)]
        return [*found, *self.store.problems()]

    def gc(self) -> int:
        """Remove what no version uses, such as what a killed publish left; the bytes that were freed."""
        return self.store.gc()

    def close(self) -> None:
        """Let go of what this thread holds open; the registry can still be used, which opens it again."""
        self.store.close()

    def _wrong(self, version: Version) -> builtins.list[str]:
        try:
            manifest = self.store.manifest(version.digest)
        except CorruptAdapter as error:
            return [f"{version}: {error}"]
        return [f"{version}: {line}" for line in tree_problems(version.path, manifest, again=True)]

    def _version(self, entry: Entry) -> Version:
        record = entry.record
        return Version(
            name=entry.name,
            number=entry.number,
            digest=entry.digest,
            created=entry.created,
            who=entry.who,
            aliases=entry.aliases,
            tags={key: value for key, value in entry.tags.items() if not key.startswith(OURS)},
            facts={key: tuple(values) for key, values in record["facts"].items()},
            metrics=record["metrics"],
            metric=record["metric"],
            gate=record["gate"],
            forced=record["forced"],
            reason=record["reason"],
            revoked=entry.tags.get(REVOKED),
            signatures={key.removeprefix(SIGNATURE): value for key, value in entry.tags.items() if key.startswith(SIGNATURE)},
            folder=lambda: self.store.folder(entry.digest),
        )

    def _tag(self, name: str, version: int, tags: Mapping[str, str | None], action: str, why: str) -> None:
        self._exists(name, version)
        told = json.dumps({key: value for key, value in tags.items() if not key.startswith(SIGNATURE)}, sort_keys=True)
        self.store.tag(name, version, tags, self.event(name, action, why=why, evidence=told))

    def event(self, name: str, action: str, alias: str | None = None, why: str = "", evidence: str = "") -> Event:
        """A line for the log: now, and in the name of whoever uses this registry."""
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        return Event(at=now, who=self._who or _who(), name=name, action=action, alias=alias, why=why, evidence=evidence)

    def _exists(self, name: str, version: int) -> None:
        wanted = Reference(check_name(name), version=version)
        if not self.store.find(wanted):
            raise self._not_one(wanted, ())

    def _not_one(self, wanted: Reference, found: Sequence[Entry]) -> RegistryError:
        """Why a reference does not mean one version, and what would."""
        if found:
            several = ", ".join(f"{entry.number} (sha256:{entry.digest[:16]}…)" for entry in found)
            return RegistryError(f"{wanted}: several versions begin so: {several}. Write more digits.")
        name = wanted.name
        newest = self.store.newest(name, limit=1)
        if not newest or newest[0][0].name != name:
            names = self.store.names(limit=MANY)
            same_task = [known for known in names if known.rpartition("/")[2] == name.rpartition("/")[2]]
            near = same_task or difflib.get_close_matches(name, names, n=3)
            hint = f" Did you mean {' or '.join(repr(n) for n in near[:3])}?" if near else ""
            known = (", ".join(names[:10]) + (", …" if len(names) > 10 else "")) or "nothing yet"
            return RegistryError(f"{wanted}: no adapter is called {name!r} in {self.location}.{hint} Published: {known}.")
        ((entry, aliases),) = newest
        has = f"{name} has version{'s 1 to' if entry.number > 1 else ''} {entry.number}"
        if wanted.alias is None:
            what = "version" if wanted.version is not None else "digest"
            return RegistryError(f"{wanted}: there is no such {what}. {has}.")
        told = ", ".join(f"{alias} (version {number})" for alias, number in aliases.items())
        return RegistryError(f"{wanted}: there is no such alias. Aliases: {told or 'none'}. {has}.")


def _summary(newest: Entry, aliases: Mapping[str, int]) -> Summary:
    record: Mapping[str, Any] = newest.record
    return Summary(
        name=newest.name,
        newest=newest.number,
        aliases=aliases,
        task=record["task"],
        base=record["base"],
        metric=record["metric"],
        value=record["value"],
        created=newest.created,
        forced=record["forced"],
        revoked=newest.tags.get(REVOKED),
    )


def _who() -> str:
    """`$VERTICAL_USER`, or the user of this process."""
    named = os.environ.get("VERTICAL_USER")
    if named:
        return named
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container's user without a name
        return f"user {os.getuid()}"


def _check_tags(tags: Mapping[str, str | None]) -> None:
    for key, value in tags.items():
        if key.startswith(OURS):
            raise RegistryError(f"{key!r} cannot be a tag's name: what begins with {OURS!r} is kept for the registry itself.")
        if not TAG.fullmatch(key):
            raise RegistryError(f"{key!r} cannot be a tag's name: write a-z, 0-9, '_', '.' and '-', at most 64 characters.")
        if value is not None and (not isinstance(value, str) or len(value) > LONGEST_TAG):
            raise RegistryError(f"tag {key}: the value must be text of at most {LONGEST_TAG} characters.")
