"""The registry: published adapters by name, version and alias."""

from __future__ import annotations

import getpass
import os
import re
import tempfile
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from vertical_sdk.card import CARD, Card, read_card
from vertical_sdk.errors import CorruptAdapter, RegistryError, find_similar
from vertical_sdk.evaluation_record import EVALUATION, EvaluationRecord, add_evaluation, find_run, read_evaluation
from vertical_sdk.json_text import parse_json
from vertical_sdk.model_card import render_readme
from vertical_sdk.paths import file_digest, registry_home
from vertical_sdk.registry.answers import check_entry, check_found, check_history, check_matching, check_newest, check_versions
from vertical_sdk.registry.checks import (
    README,
    REPORT,
    build_record,
    check_files,
    check_gate,
    check_text_sizes,
    find_adapter_folder,
    require_reason,
    settle_gate,
)
from vertical_sdk.registry.members_only import leave_out_adapter
from vertical_sdk.registry.policy import Policy, check_licenses
from vertical_sdk.registry.public_report import public_report
from vertical_sdk.registry.query import MOST, parse_condition
from vertical_sdk.registry.references import Reference, check_alias, check_name, check_new_name, check_text, parse_reference
from vertical_sdk.registry.revocations import find_trusted_reason, read_revocation
from vertical_sdk.registry.store import (
    BY_FORCE,
    OURS,
    PURGED,
    REPLAYED,
    REVOCATION,
    REVOKED,
    SIGNATURE,
    Entry,
    Erased,
    Event,
    Stored,
)
from vertical_sdk.registry.stores import open_store
from vertical_sdk.registry.tree import read_tree, tree_problems
from vertical_sdk.registry.verification import read_all, version_problems
from vertical_sdk.registry.version import Summary, Version

__all__ = ["Registry"]

TAG = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
LONGEST_TAG = 1000
MANY = 200
"""The most names that are compared with an unknown name to suggest a similar one."""


class Registry:
    """Published adapters. Many threads and processes may use it at once. The first publish creates its files."""

    def __init__(self, location: str | Path | None = None, policy: Policy | None = None) -> None:
        """Open a registry. This neither reads nor creates files.

        location  a folder, or an address such as s3://bucket/adapters (`registry.stores`); None means the user's default registry
                  (`paths.registry_home`)
        policy    required signatures and accepted licences; None means the policy of the environment (`Policy.from_environment`)
        """
        self.location = str(location if location is not None else registry_home())
        self.policy = Policy.from_environment() if policy is None else policy
        self.store = open_store(self.location)
        self._who: str | None = None

    def acting_for(self, who: str) -> Registry:
        """Return this registry with another user in its log, such as the user of a server."""
        registry = object.__new__(type(self))
        registry.__dict__.update(self.__dict__, _who=who)
        return registry

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
        alias: str | None = None,
        members_only: bool = False,
    ) -> Version:
        """Publish an adapter's folder, or the folder of its run, as the next version of a name.

        name    None means the name in the card
        force   publish although the gate failed or was not evaluated; the version, its card and the log record this permanently
        reason  why, for the log; needed with `force`
        alias   point this alias at the version too
        members_only  publish the members of the ensemble without the adapter: they answer alone, and need no base. The gate compares
                them with what is not among them

        The evaluation of the run (`evaluation_record`) goes into the published card and README, and its report beside them, without
        rows of data unless the recipe says `report: {rows: true}`; the run is not changed.
        If the name already has a version with this content, that version is returned.
        Raises CorruptAdapter if a file differs from the card, the card claims what cannot be true, or the evaluation is that of another
        adapter; GateFailed, also if a passed gate does not follow from the results in the card; RegistryError for a bad name, alias, tag,
        file or licence, or force without a reason; RunError if the registry cannot be written.
        """
        if force:
            require_reason(reason, "publishing")
        folder, report = find_adapter_folder(Path(adapter))
        manifest = read_tree(folder)
        check_text_sizes(manifest, folder)
        card = original = read_card(folder)
        check_files(folder, card, manifest)
        run = find_run(folder.absolute())
        evaluation = read_evaluation(run) if run is not None else None
        if members_only:
            card, evaluation = leave_out_adapter(folder, card, evaluation)
            manifest, report = {path: file for path, file in manifest.items() if path in {*card.files, CARD, README}}, None
        if evaluation is not None:
            card = add_evaluation(card, evaluation)
        card = settle_gate(card)
        check_licenses(card, self.policy.licenses)
        gate, forced = check_gate(card, force=force)
        name = check_new_name(card.name if name is None else name)
        tags = dict(tags or {})
        _check_tags(tags)
        if alias is not None:
            check_alias(alias, name)
            if not force:
                self.policy.check_alias_gate(name, alias, gate)
        record = build_record(card, gate=gate, forced=forced, reason=reason)
        event = self.new_event(name, "publish by force" if forced else "publish", why=reason)
        if forced and card.forced is None:  # in the card too, so that it stays with every copy of the folder
            card = card.model_copy(update={"forced": reason})
        files = {path: folder / path for path in manifest}
        if report is not None and REPORT not in manifest:
            files[REPORT] = report
        with tempfile.TemporaryDirectory(prefix="vertical-publish-") as staging:
            files |= _write_joined(Path(staging), card, evaluation, rewrite=card != original)
            if REPORT in files:
                _write_public_report(Path(staging), files, card, evaluation)
                manifest = {path: file for path, file in manifest.items() if path in files}
            manifest |= {path: _describe_file(file) for path, file in files.items() if file != folder / path}
            check_text_sizes(manifest, folder)
            entry = self.store.put(name, files, manifest, record=record, tags=tags, event=event)
            version = self._version(check_entry(entry, self.location))
        if alias is None:
            return version
        self.set_alias(name, alias, version.number, force=force, why=reason)
        return self.resolve(str(version), check=False)

    def resolve(self, reference: str, *, check: bool = True, allow_revoked: Collection[str] = ()) -> Version:
        """Find the version of a reference and check its files.

        check          compare the files with their digests, and require a signature if the policy does; a file is read once in a
                       process, and again if its inode, size or times have changed. False is for inspecting a version, not for using it
        allow_revoked  versions ("medical/icd-chapter@3") that may be used although they were revoked

        Raises RegistryError if there is no such version, or it was revoked, purged or not signed by a trusted key; SourceError if the
        registry answers with another version; CorruptAdapter with the name of the file if one has changed.
        """
        wanted = parse_reference(reference)
        entries = self._find(wanted)
        if len(entries) != 1:
            raise self._resolution_error(wanted, entries)
        version = self._version(entries[0])
        if check:
            if version.purged is not None:
                raise _purged_error(version)
            if version.revoked is not None and str(version) not in allow_revoked:
                raise RegistryError(
                    f"{version} was revoked: {version.revoked}. Use another version, or allow this one by name: "
                    f"allow_revoked=['{version}'], --allow-revoked {version}."
                )
            problems = tree_problems(version.path, version.manifest)
            if problems:
                raise CorruptAdapter(
                    f"{version}: {'; '.join(problems)}. Publish the same adapter again to repair it, or restore a backup.",
                    where=version.path,
                )
            if self.policy.requires_signature:
                from vertical_sdk.registry.signature_check import require_signature

                require_signature(version, self.policy)
        return version

    def list_adapters(self, prefix: str | None = None, *, after: str = "", limit: int | None = None) -> Sequence[Summary]:
        """List the names with a prefix (None means all), each with its newest version.

        The result has at most `limit` names after the name `after`, in alphabetical order.
        """
        newest = self.store.newest(check_text(prefix or "", "the prefix"), after=after, limit=limit)
        check_newest(newest, prefix or "", after, self.location)
        return [self._summary(*pair) for pair in newest]

    def versions(self, name: str, *, before: int | None = None, limit: int | None = None) -> Sequence[Version]:
        """List versions of a name, oldest first: the `limit` newest with a number below `before`. Without both, all versions.

        Raises RegistryError if there is no such name.
        """
        entries = self.store.versions(check_name(name), before=before, limit=limit)
        if not entries and not self._find(Reference(name)):
            raise self._resolution_error(Reference(name), ())
        return [self._version(entry) for entry in check_versions(name, entries, self.location, before=before, limit=limit)]

    def search(self, *conditions: str, after: Version | None = None, limit: int | None = None) -> Sequence[Version]:
        """Find the versions that meet all conditions ("domain=medical", "license=cc-by-4.0", "macro_f1>0.8"), by name and number.

        The result has at most `limit` versions after the version `after`. Raises RegistryError for a malformed condition.
        """
        if len(conditions) > MOST:
            raise RegistryError(f"a search has at most {MOST} conditions, not {len(conditions)}. Leave some out.")
        parsed = [parse_condition(text) for text in conditions]
        start = (after.name, after.number) if after is not None else None
        entries = self.store.search(parsed, after=start, limit=limit)
        return [self._version(entry) for entry in check_matching(parsed, entries, self.location, after=start)]

    def set_alias(
        self,
        name: str,
        alias: str,
        version: int,
        *,
        expected: int | None = None,
        force: bool = False,
        why: str = "",
        evidence: str = "",
        action: str = "alias",
    ) -> None:
        """Point an alias at a version that passed its gate; those that the policy names as free, at any version.

        expected  the version that it must point at now, 0 if it must not exist yet; None means any
        force     point it at a version that did not pass its gate or has none; the log records this as "... by force"
        why       the reason, for the log; needed with `force`
        evidence  the reason for the move as JSON, for the log
        action    the action in the log: "alias", "promote", "rollback"

        Raises GateFailed if the version did not pass its gate; RegistryError if there is no such version, the alias does not point
        at the expected one, force has no reason, or the evidence is not JSON.
        """
        check_alias(alias, name)
        _check_evidence(evidence)
        found = self._version(self._find_version(name, version))
        if found.purged is not None:
            raise _purged_error(found)
        gate = found.gate
        if force:
            require_reason(why, "moving an alias")
            if self.policy.needs_force(alias, gate) and not action.endswith(BY_FORCE):
                action += BY_FORCE
        else:
            self.policy.check_alias_gate(f"{name}@{version}", alias, gate)
        self.store.move_alias(name, alias, version, expected, self.new_event(name, action, alias, why, evidence))

    def delete_alias(self, name: str, alias: str, *, expected: int | None = None, why: str = "", evidence: str = "") -> None:
        """Delete an alias; its version remains. Raises RegistryError if there is no such alias."""
        check_alias(alias, name)
        _check_evidence(evidence)
        wanted = Reference(check_name(name), alias=alias)
        if not self._find(wanted):
            raise self._resolution_error(wanted, ())
        self.store.move_alias(name, alias, None, expected, self.new_event(name, "delete alias", alias, why, evidence))

    def tag(self, name: str, version: int, tags: Mapping[str, str | None], *, why: str = "") -> None:
        """Set tags of a version; the value None removes a tag. Raises RegistryError."""
        _check_tags(tags)
        self._tag(name, version, tags, "tag", why or ", ".join(f"{k}={v}" for k, v in tags.items()))

    def revoke(self, reference: str, reason: str) -> Version:
        """Revoke a version: it is loaded only if it is allowed by name. The version is not deleted, and aliases are not moved.

        Raises RegistryError if there is no such version, it is already revoked, or the reason is empty.
        """
        version = self.resolve(reference, check=False)
        if not reason.strip():
            raise RegistryError(f"{version}: the reason is empty. Give the reason of the revocation; its users will read it.")
        if version.revoked is not None:
            raise RegistryError(f"{version} is already revoked: {version.revoked}.")
        self._tag(version.name, version.number, {REVOKED: reason}, "revoke", reason)
        return self.resolve(str(version), check=False)

    def add_revocation(self, version: Version, statement: str) -> Version:
        """Revoke a version with a signed statement (`signing.sign_revocation` makes it). Raises RegistryError if it is not valid."""
        made_by, reason = read_revocation(statement, version.digest)
        tags = self._find_version(version.name, version.number).tags
        new = {key: value for key, value in {REVOKED: reason, REVOCATION + made_by: statement}.items() if key not in tags}
        if new:
            self._tag(version.name, version.number, new, "revoke", f"{reason} (signed by the key {made_by})")
        return self.resolve(str(version), check=False)

    def add_signature(self, version: Version, made_by: str, signature: str) -> None:
        """Check a signature of a version and store it (`registry.signing` makes signatures).

        made_by  the fingerprint of its key or identity

        A version has one signature of each signer, and at most 20 besides those of trusted keys (`signature_check.MOST`). An invalid
        one, which another program stored, makes room for a valid one.
        Raises RegistryError if it is not valid for the version's files, or the version has too many; OfflineError if it was made with
        sigstore and sigstore cannot be reached; MissingExtra.
        """
        from vertical_sdk.registry.signature_check import MOST, check_new_signature, check_signatures, trusted_signers

        current = self._version(self._find_version(version.name, version.number))
        if current.signatures.get(made_by) == signature:
            return
        manifest = self.store.manifest(current.digest)
        check_new_signature(current, made_by, signature, manifest, self.policy)
        removed: dict[str, str | None] = {}
        others = current.signatures.keys() - {made_by}
        if len(others) >= MOST and made_by not in trusted_signers(self.policy):
            removed = {
                SIGNATURE + checked.made_by: None
                for checked in check_signatures(current, manifest, self.policy)
                if checked.state == "invalid" and checked.made_by in others
            }
            if len(others) - len(removed) >= MOST:
                raise RegistryError(f"{current} has {len(others)} signatures; at most {MOST} are stored.")
        tags = {**removed, SIGNATURE + made_by: signature}
        self._tag(current.name, current.number, tags, "sign", f"with the key {made_by}")

    def purge(self, reference: str, reason: str, *, force: bool = False) -> Erased:
        """Remove the files of a version for ever, such as for a request to erase data, or because of a leaked secret.

        force  also if an alias points at the version, which then no longer loads

        The version's number, digest, list of files, metadata and log remain, with the reason; files that other versions have remain
        as well. The same content cannot be published under this name again. After an interruption, call it again (or `gc`).

        Raises RegistryError if there is no such version, the reason is empty, an alias points at it, or the registry is a server's:
        there, the operator purges on the server's machine.
        """
        version = self.resolve(reference, check=False)
        if version.purged is None:
            if not reason.strip():
                raise RegistryError(f"{version}: the reason is empty. Give the reason of the purge; it is recorded.")
            if version.aliases and not force:
                raise RegistryError(
                    f"{version}: these aliases point at it, and would no longer load: {', '.join(version.aliases)}. Move or delete them "
                    "first with `vertical registry alias`, or purge it by force (--force, force=True)."
                )
            self._tag(version.name, version.number, {PURGED: reason}, "purge" + BY_FORCE * bool(version.aliases), reason)
        return self.store.erase(version.name, version.number)

    def record_replay(self, version: Version) -> Version:
        """Record that the self-tests of a version were replayed here, by the user of this registry, today."""
        event = self.new_event(version.name, "check")
        self._tag(
            version.name, version.number, {REPLAYED: f"{event.who}, {event.at[:10]}"}, "check", "its self-tests were replayed"
        )
        return self.resolve(str(version), check=False)

    def history(self, name: str, *, skip: int = 0, limit: int | None = None, newest_first: bool = False) -> Sequence[Event]:
        """Read the audit log of a name: at most `limit` lines after the first `skip`.

        Raises RegistryError if there is no such name.
        """
        events = self.store.history(check_name(name), skip=skip, limit=limit, newest_first=newest_first)
        if not events and not self.store.history(name, limit=1):
            raise self._resolution_error(Reference(name), ())
        return check_history(name, events, self.location)

    def verify(self, reference: str | None = None) -> list[str]:
        """List all problems of one version, or of the whole registry, a sentence each. Every file is read again.

        Versions, tags, revocations, aliases, facts and metrics are compared with the log and with the cards. A file that cannot be
        read is a problem, and the rest is checked. Raises RegistryError if there is no such version.
        """
        if reference is not None:
            return version_problems(self, self.resolve(reference, check=False))
        versions, problems = read_all(self)
        problems += [line for version in versions for line in version_problems(self, version)]
        return list(dict.fromkeys([*problems, *self.store.problems()]))

    def gc(self) -> int:
        """Remove files that no version uses, such as those of an interrupted publish, and return the number of freed bytes."""
        return self.store.gc()

    def close(self) -> None:
        """Close what this thread has open. The registry can still be used; the next use opens it again."""
        self.store.close()

    def _version(self, entry: Entry) -> Version:
        record, purged = entry.record, entry.tags.get(PURGED)

        def folder() -> Path:
            if purged is not None:
                raise _purged_error(version)
            return self.store.folder(entry.digest)

        version = Version(
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
            revoked=self._revoked(entry),
            purged=purged,
            replayed=entry.tags.get(REPLAYED),
            signatures={k.removeprefix(SIGNATURE): value for k, value in entry.tags.items() if k.startswith(SIGNATURE)},
            folder=folder,
            read_manifest=lambda: self.store.manifest(entry.digest),
        )
        return version

    def _revoked(self, entry: Entry) -> str | None:
        """Why a version was revoked, by the registry or by a trusted key; None if it was not."""
        reason = entry.tags.get(REVOKED)
        if reason is None and self.policy.trusted_keys and any(key.startswith(REVOCATION) for key in entry.tags):
            return find_trusted_reason(entry, self.policy)
        return reason

    def _summary(self, newest: Entry, aliases: Mapping[str, int]) -> Summary:
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
            gate=record["gate"],
            forced=record["forced"],
            revoked=self._revoked(newest),
        )

    def _find(self, wanted: Reference) -> Sequence[Entry]:
        """Find the versions that a reference may mean, and check that these are the answer."""
        return check_found(wanted, self.store.find(wanted), self.location)

    def _tag(self, name: str, version: int, tags: Mapping[str, str | None], action: str, why: str) -> None:
        self._find_version(name, version)
        self.store.tag(name, version, tags, self.new_event(name, action, why=why))

    def new_event(self, name: str, action: str, alias: str | None = None, why: str = "", evidence: str = "") -> Event:
        """Create a log line with the current time and the user of this registry. Raises RegistryError for a text that cannot be kept."""
        now, who = datetime.now(timezone.utc).isoformat(timespec="milliseconds"), self._who or _current_user()
        for text, what in ((who, "the user's name"), (why, "the reason"), (evidence, "the evidence")):
            check_text(text, what)
        return Event(at=now, who=who, name=name, action=action, alias=alias, why=why, evidence=evidence)

    def _find_version(self, name: str, version: int) -> Entry:
        wanted = Reference(check_name(name), version=version)
        entries = self._find(wanted)
        if not entries:
            raise self._resolution_error(wanted, ())
        return entries[0]

    def _names_like(self, name: str) -> list[str]:
        """The names with the same start as an unknown name, of which the longest start counts most."""
        found: dict[str, None] = {}
        domain = len(name) - len(name.rpartition("/")[2])
        for length in sorted(
            {len(name) - 1, len(name) * 3 // 4, len(name) // 2, domain + 2, domain + 1, domain, 1}, reverse=True
        ):
            found |= dict.fromkeys(self.store.names(name[:length], limit=MANY))
            if len(found) >= MANY:
                break
        return list(found)[:MANY]

    def _resolution_error(self, wanted: Reference, entries: Sequence[Entry]) -> RegistryError:
        """Explain why a reference does not mean exactly one version, and suggest valid ones."""
        if entries:
            several = ", ".join(f"{entry.number} (sha256:{entry.digest[:16]}…)" for entry in entries)
            return RegistryError(f"{wanted}: several versions start with these digits: {several}. Write more digits.")
        name = wanted.name
        newest = self.store.newest(name, limit=1)
        if not newest or newest[0][0].name != name:
            names = self.store.names(limit=MANY)
            candidates = names if len(names) < MANY else self._names_like(name)
            same_task = [known for known in candidates if known.rpartition("/")[2] == name.rpartition("/")[2]]
            near = same_task or find_similar(name, candidates, most=3)
            hint = f" Did you mean {' or '.join(repr(n) for n in near[:3])}?" if near else ""
            known = (", ".join(names[:10]) + (", …" if len(names) > 10 else "")) or "nothing yet"
            return RegistryError(f"{wanted}: no adapter is called {name!r}.{hint} Published: {known}.", where=self.location)
        ((entry, aliases),) = newest
        available = f"{name} has version{'s 1 to' if entry.number > 1 else ''} {entry.number}"
        if wanted.alias is None:
            what = "version" if wanted.version is not None else "digest"
            return RegistryError(f"{wanted}: there is no such {what}. {available}.")
        known = ", ".join(f"{alias} (version {number})" for alias, number in aliases.items())
        return RegistryError(f"{wanted}: there is no such alias. Aliases: {known or 'none'}. {available}.")


def _purged_error(version: Version) -> RegistryError:
    return RegistryError(f"{version} was purged: {version.purged}. Its files do not exist any more. Use another version.")


def _write_joined(staging: Path, card: Card, evaluation: EvaluationRecord | None, *, rewrite: bool) -> dict[str, Path]:
    """Write the card, if it has to be rewritten, and with an evaluation the README; return path in the version → file."""
    contents = {}
    if rewrite:
        contents[CARD] = card.model_dump_json(indent=1) + "\n"
    if evaluation is not None or card.members_only:
        try:
            contents[README] = render_readme(card, evaluation.hub_id if evaluation is not None else None)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            message = f"{card.name}: {EVALUATION} is malformed ({error}). Run `vertical evaluate` on the run again."
            raise CorruptAdapter(message) from None
    for path, content in contents.items():
        (staging / path).write_text(content, encoding="utf-8")
    return {path: staging / path for path in contents}


def _write_public_report(staging: Path, files: dict[str, Path], card: Card, evaluation: EvaluationRecord | None) -> None:
    """Replace the report among the files by one without rows of data; leave it out if its rows cannot be found in it."""
    report = files.pop(REPORT)
    check_text_sizes({REPORT: Stored("", report.stat().st_size)}, report)
    page = public_report(report, card, evaluation)
    if page is None:
        return
    if page != report.read_text(encoding="utf-8", errors="replace"):
        report = staging / REPORT
        report.write_text(page, encoding="utf-8")
    files[REPORT] = report


def _describe_file(path: Path) -> Stored:
    return Stored(file_digest(path), path.stat().st_size)


def _current_user() -> str:
    """Return `$VERTICAL_USER`, or the user of this process."""
    user = os.environ.get("VERTICAL_USER")
    if user:
        return user
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container's user without a name
        return f"user {os.getuid()}"


def _check_evidence(evidence: str) -> None:
    """Check that the evidence for a move is JSON that every reader of the log can parse. Raises RegistryError."""
    try:
        if evidence:
            parse_json(evidence)
    except ValueError as error:
        raise RegistryError(
            f"the evidence is not JSON that the log can keep: {error}. Leave it out, or write a JSON object."
        ) from None


def _check_tags(tags: Mapping[str, str | None]) -> None:
    for key, value in tags.items():
        if key.startswith(OURS):
            raise RegistryError(
                f"{key!r} cannot be the name of a tag: the prefix {OURS!r} is reserved for the registry. Choose another name."
            )
        if not TAG.fullmatch(key):
            raise RegistryError(f"{key!r} cannot be the name of a tag. Use a-z, 0-9, '_', '.' and '-', at most 64 characters.")
        if value is not None and (not isinstance(value, str) or len(value) > LONGEST_TAG):
            raise RegistryError(f"tag {key}: the value must be text of at most {LONGEST_TAG} characters.")
        check_text(value or "", f"tag {key}: the value")
