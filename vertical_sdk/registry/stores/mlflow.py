"""The store on an MLflow server, where adapters are also visible in MLflow's own page and client.

    mlflow+http://host:5000   mlflow+https://mlflow.example.org   mlflow:// uses the server in MLFLOW_TRACKING_URI

    medical/icd-chapter        registered model "medical~icd-chapter": MLflow forbids "/", and no adapter's name has a "~"
    version 3, alias, tags     model version 3, its aliases and tags, so that models:/medical~icd-chapter@production works
    the files                  artifacts of a run in the experiment "vertical_sdk": adapter/… is the PEFT folder, manifest.json
    the fixed data             tags of the model version that begin with "vertical_sdk/": digest, entry and a seal of both
    the log                    a tag of the registered model for each line, under a key of time and chance

A publish uploads into a run, and one request then creates the version with its tags. Before that request there is only a run, which
gc removes when it is a day old. Versions without our tags, such as models that other tools logged, are ignored. A version whose tags
were changed by hand raises an error when it is requested, is left out of lists, and is reported by `problems`.

MLflow has no compare-and-swap, so a writer that publishes or moves an alias acquires a lease of the name (`mlflow_lease`): two users
of this store never overwrite each other, and no number has two meanings. These limits remain:

- MLflow's own page and client do not use leases: a move made there between our read and our write (some milliseconds) is overwritten,
  and changes made there are not in the log. `problems` reports aliases that differ from the log.
- A request that the network delays for more than half a minute may arrive when another writer has the lease.
- A line is logged before its change is made: a crash between the two leaves a line whose change did not happen.
- If a server reads from a replica that is out of date, two writers can have a lease at the same time.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
import urllib.parse
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from vertical_sdk.errors import CorruptAdapter, DigestMismatch, RegistryError, SourceError
from vertical_sdk.registry.blob_store import open_downloads, parse_manifest, write_synced
from vertical_sdk.registry.query import Condition
from vertical_sdk.registry.references import Reference
from vertical_sdk.registry.store import (
    PURGED,
    REVOKED,
    Entry,
    Erased,
    Event,
    Manifest,
    check_expected_version,
    check_not_purged,
    log_first_tags,
    log_tags,
    manifest_digest,
    matches,
    replay_tags,
    slice_log,
    tag_problems,
)
from vertical_sdk.registry.stores.mlflow_files import (
    EXPERIMENT,
    FOLDER,
    MANIFEST,
    RunFetcher,
    check_paths,
    create_run,
    download_manifest,
    find_damage,
    upload_files,
)
from vertical_sdk.registry.stores.mlflow_lease import acquire_lease
from vertical_sdk.registry.stores.mlflow_server import EXISTS, MISSING, UNKNOWN_ALIAS, Server
from vertical_sdk.registry.stores.mlflow_tags import (
    DIGEST,
    LINE,
    build_line_tags,
    build_version_tags,
    decode_name,
    encode_name,
    is_adapter_name,
    is_intact,
    is_ours,
    make_key,
    read_entry,
    read_lines,
    read_publish_line,
    select_aliases,
)
from vertical_sdk.registry.tree import tree_problems
from vertical_sdk.types import DAY

__all__ = ["MlflowStore", "open_http", "open_https", "open_tracking_server"]

LARGEST = 2**31 - 1
"""The largest version number in MLflow's databases."""


def open_http(rest: str) -> MlflowStore:
    """Open the store at mlflow+http://REST."""
    return MlflowStore(f"http://{rest}")


def open_https(rest: str) -> MlflowStore:
    """Open the store at mlflow+https://REST."""
    return MlflowStore(f"https://{rest}")


def open_tracking_server(rest: str) -> MlflowStore:
    """Open the store at mlflow://, on the server in MLFLOW_TRACKING_URI. Raises RegistryError if it is not set."""
    if rest:
        raise RegistryError(
            f"mlflow://{rest}: write mlflow+http://{rest} or mlflow+https://{rest}, or set MLFLOW_TRACKING_URI."
        )
    return MlflowStore(os.environ.get("MLFLOW_TRACKING_URI", ""))


class MlflowStore:
    """A registry on an MLflow server; its methods are described in `Store`."""

    def __init__(self, uri: str) -> None:
        parts = urllib.parse.urlsplit(uri)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise RegistryError(
                f"{f'an address that begins with {parts.scheme}: is not an MLflow server' if uri else 'MLFLOW_TRACKING_URI is not set'}. Write "
                "mlflow+http://host:5000 or mlflow+https://host, or mlflow:// and set MLFLOW_TRACKING_URI to http://host:5000."
            )
        if parts.username or parts.password:
            raise RegistryError(
                f"mlflow+{parts.scheme}://{parts.hostname}: an address cannot contain a user and a password. Leave them out, and set "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
            )
        self.server = Server(uri)
        self.safe_age = DAY
        """Seconds after which a run without a version cannot belong to a running publish."""
        self.manifest = lru_cache(maxsize=1024)(self._manifest)

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
        """Store the files as the name's next version, or return the version that has them already and repair its files."""
        digest, model = manifest_digest(manifest), encode_name(name)
        check_paths(manifest)
        published = self._find_digest(name, digest)
        if published:
            check_not_purged(self._read_entry(*published))
        if published and not find_damage(self.server, published[0].run_id, digest):
            return self._read_entry(*published)
        run = published[0].run_id if published else create_run(self.server, name, digest, event.who)
        source = upload_files(self.server, run, files, manifest)
        if published:
            return self._read_entry(*published)
        self.server.call("create_registered_model", model, none_for={EXISTS})
        with acquire_lease(self.server, model) as lease:
            published = self._find_digest(name, digest)
            if published:  # another writer published the same content meanwhile
                return self._read_entry(*published)
            line = make_key(LINE)
            lease.check()
            version = self.server.call(
                "create_model_version",
                model,
                source,
                run_id=run,
                tags={**tags, **build_version_tags(digest, record, log_first_tags(event, tags), line)},
                await_creation_for=0,
            )
            self._write_line(model, replace(log_first_tags(event, tags), after=int(version.version)), line)
        return self._read_entry(version, ())

    def find(self, reference: Reference) -> list[Entry]:
        """Find the versions that a reference may mean. Raises RegistryError if its tags were changed by hand."""
        model = encode_name(reference.name)
        if reference.digest is not None:
            query = f"name = '{model}' AND tags.`{DIGEST}` LIKE '{reference.digest}%'"
            firsts: dict[str, Any] = {}
            for version in filter(is_ours, self._search_versions(query)):
                firsts.setdefault(version.tags[DIGEST], version)
            registered = self.server.call("get_registered_model", model, none_for={MISSING}) if firsts else None
            return self._read_entries(registered, firsts.values())
        if reference.version is not None:
            if reference.version > LARGEST:
                return []
            version = self.server.call("get_model_version", model, str(reference.version), none_for={MISSING})
        elif reference.alias is not None:
            none_for = {MISSING, UNKNOWN_ALIAS}
            version = self.server.call("get_model_version_by_alias", model, reference.alias, none_for=none_for)
        else:
            registered = self.server.call("get_registered_model", model, none_for={MISSING})
            return [entry for entry in [self._find_newest(registered)] if entry] if registered is not None else []
        if version is None or not is_ours(version):
            return []
        registered = self.server.call("get_registered_model", model, none_for={MISSING})
        return self._read_entries(registered, [version])

    def names(self, prefix: str = "", *, after: str = "", limit: int | None = None) -> list[str]:
        """List the names with a prefix, sorted; at most `limit` of those after `after`."""
        return [entry.name for entry, _ in self.newest(prefix, after=after, limit=limit)]

    def newest(self, prefix: str = "", *, after: str = "", limit: int | None = None) -> list[tuple[Entry, Mapping[str, int]]]:
        """List the newest version of each of these names, with the name's aliases."""
        models = {name: model for name, model in self._iterate_models(prefix) if name > after}
        newest: list[tuple[Entry, Mapping[str, int]]] = []
        for _, model in sorted(models.items()):
            if limit is not None and len(newest) >= limit:
                break
            if (entry := self._find_newest(model)) is not None:
                newest.append((entry, dict(sorted((alias, int(number)) for alias, number in model.aliases.items()))))
        return newest

    def versions(self, name: str, *, before: int | None = None, limit: int | None = None) -> list[Entry]:
        """List the versions of a name, oldest first: the `limit` newest of those below number `before`."""
        model = encode_name(name)
        below = f" AND version_number < {min(before, LARGEST)}" if before is not None else ""
        versions: dict[int, Any] = {}
        for version in self._search_versions(f"name = '{model}'{below}", "version_number DESC"):
            if limit is not None and len(versions) >= limit:
                break
            if is_intact(version):
                versions[int(version.version)] = version
        registered = self.server.call("get_registered_model", model, none_for={MISSING}) if versions else None
        return self._read_entries(registered, (version for _, version in sorted(versions.items())))

    def search(
        self, conditions: Sequence[Condition], *, after: tuple[str, int] | None = None, limit: int | None = None
    ) -> list[Entry]:
        """List the versions that meet all conditions, by name and number. MLflow filters by name; the rest is compared here."""
        wanted = {str(condition.value) for condition in conditions if condition.key == "name" and not condition.metric}
        if len(wanted) > 1 or not all(is_adapter_name(name) for name in wanted):
            return []
        name_filter = f"name = '{encode_name(*wanted)}' AND " if wanted else ""
        versions = {
            (decode_name(version.name), int(version.version)): version
            for version in self._search_versions(f"{name_filter}tags.`{DIGEST}` LIKE '%'")
            if is_intact(version)
        }
        aliases = {model.name: model.aliases for _, model in self._iterate_models(*wanted)} if versions else {}
        entries = [
            self._read_entry(version, select_aliases(aliases.get(version.name, {}), version))
            for _, version in sorted(versions.items())
        ]
        matching = [
            entry for entry in entries if (entry.name, entry.number) > (after or ("", 0)) and matches(entry, conditions)
        ]
        return matching[:limit]

    def folder(self, digest: str) -> Path:
        """A local folder with the files of a manifest. Downloads them if they are missing or were changed."""
        manifest, blobs = self.manifest(digest), open_downloads()
        folder = blobs.tree_path(digest)
        if folder.is_dir():
            if not tree_problems(folder, manifest):
                return folder
            blobs.remove_tree(digest)
        last_error = SourceError(
            f"{self.server.uri}: no version has the digest {digest[:12]}…. List the versions with `vertical registry versions`."
        )
        for run in self._list_runs(digest):
            fetch = RunFetcher(self.server, run, manifest)
            try:
                return blobs.fetch_tree(digest, manifest, fetch)
            except DigestMismatch as error:
                last_error = DigestMismatch(f"{self.server.uri}: run {run}: {fetch.path}: {error}")
            except SourceError as error:
                last_error = error
        raise last_error

    def move_alias(self, name: str, alias: str, number: int | None, expected: int | None, event: Event) -> None:
        """Compare and set, with a lease of the name. Raises RegistryError if the alias is not at the expected version."""
        model = encode_name(name)
        with acquire_lease(self.server, model) as lease:
            before = int(lease.registered.aliases.get(alias, 0)) or None
            check_expected_version(name, alias, before, expected)
            if before == number:
                return
            with self._log_change(model, replace(event, before=before, after=number)):
                lease.check()
                if number is None:
                    self.server.call("delete_registered_model_alias", model, alias)
                else:
                    self.server.call("set_registered_model_alias", model, alias, str(number))

    def tag(self, name: str, number: int, tags: Mapping[str, str | None], event: Event) -> None:
        """Set a version's tags, or remove those that are None."""
        model = encode_name(name)
        with self._log_change(model, replace(log_tags(event, tags), before=number, after=number)):
            for key, value in tags.items():
                if value is None:
                    self.server.call("delete_model_version_tag", model, str(number), key)
                else:
                    self.server.call("set_model_version_tag", model, str(number), key, value)

    def history(self, name: str, *, skip: int = 0, limit: int | None = None, newest_first: bool = False) -> list[Event]:
        """Read the log of a name, or a part of it, ordered by the clocks of the writers."""
        model = encode_name(name)
        registered = self.server.call("get_registered_model", model, none_for={MISSING})
        if registered is None:
            return []
        published = dict(
            read_publish_line(version) for version in self._search_versions(f"name = '{model}'") if is_intact(version)
        )
        lines = {**published, **read_lines(registered.tags, f"{self.server.uri}: {name}")}
        return slice_log([event for _, event in sorted(lines.items())], skip, limit, newest_first)

    def problems(self) -> list[str]:
        """List versions whose tags or files were changed on the server, and aliases that differ from the log.

        Downloads every file of every version again.
        """
        problems: list[str] = []
        damaged: dict[tuple[str, str], list[str]] = {}
        tags_of: dict[str, dict[int, dict[str, str]]] = {}
        for version in self._search_versions(f"tags.`{DIGEST}` LIKE '%'"):
            try:
                entry = self._read_entry(version, ())
            except RegistryError as error:
                problems.append(str(error))
                continue
            if entry.name not in tags_of:
                tags_of[entry.name] = self._read_logged_tags(entry.name)
            problems += tag_problems(entry, tags_of[entry.name].get(entry.number, {}), complete=False)
            if PURGED in entry.tags:
                continue
            files = (version.run_id, entry.digest)
            if files not in damaged:
                damaged[files] = find_damage(self.server, *files)
            problems += [f"{entry.name}@{entry.number}: {line}" for line in damaged[files]]
        for entry, aliases in self.newest():
            try:
                logged = {event.alias: event.after or 0 for event in self.history(entry.name) if event.alias is not None}
            except RegistryError as error:
                problems.append(str(error))
                continue
            for alias in sorted({*aliases, *(alias for alias, number in logged.items() if number)}):
                actual, expected = aliases.get(alias, 0), logged.get(alias, 0)
                if actual != expected:
                    problems.append(
                        f"{entry.name}@{alias} points at {_describe_version(actual)}; in the log it points at {_describe_version(expected)}"
                    )
        return problems

    def _read_logged_tags(self, name: str) -> dict[int, dict[str, str]]:
        try:
            return replay_tags(self.history(name))
        except RegistryError:
            return {}  # `problems` reports it with the aliases

    def erase(self, name: str, number: int) -> Erased:
        """Remove a purged version's files from its run, unless another version uses the run, and this machine's download."""
        version = self.server.call("get_model_version", encode_name(name), str(number))
        entry = self._read_entry(version, ())
        manifest = self.manifest(entry.digest)
        others = [self._read_entry(v, ()) for v in self._search_versions(f"run_id = '{version.run_id}'") if is_intact(v)]
        users = [f"{e.name}@{e.number}" for e in others if PURGED not in e.tags]
        open_downloads().forget(entry.digest, manifest)
        kept = "Machines that downloaded the version keep it in their cache folder; MLflow's storage may keep old versions and backups."
        if users:
            return Erased(0, dict.fromkeys(manifest, users[0]), kept)
        run = self.server.call("get_run", version.run_id)
        freed = self.server.delete_folder(run, FOLDER)
        if freed is None:
            uri = run.info.artifact_uri
            kept = f"The server does not let its clients remove artifacts: remove {uri}/{FOLDER} in its storage. {kept}"
        return Erased(freed or 0, {}, kept)

    def gc(self) -> int:
        """Remove runs that a killed publish left, `safe_age` seconds after they started. Return the freed bytes."""
        experiment = self.server.call("get_experiment_by_name", EXPERIMENT)
        if experiment is None:
            return 0
        old = f"attributes.start_time < {int((time.time() - self.safe_age) * 1000)} AND tags.`{DIGEST}` LIKE '%'"
        runs = list(self.server.search("search_runs", [experiment.experiment_id], old))
        return sum(
            self.server.delete_run(run) for run in runs if not any(self._search_versions(f"run_id = '{run.info.run_id}'"))
        )

    def close(self) -> None:
        """Do nothing: MLflow's client manages its own connections."""

    def _iterate_models(self, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """Yield the registered models whose names spell an adapter's name, with those names."""
        if not re.fullmatch(r"[a-z0-9_./-]*", prefix):
            return
        name_filter = f"name LIKE '{encode_name(prefix)}%'" if prefix else None
        for model in self.server.search("search_registered_models", filter_string=name_filter, order_by=["name ASC"]):
            name = decode_name(model.name)
            if name is not None and name.startswith(prefix):
                yield name, model

    def _search_versions(self, query: str, *order: str) -> Iterator[Any]:
        """Yield MLflow's versions for a filter."""
        return self.server.search("search_model_versions", query, order_by=list(order or ("name ASC", "version_number ASC")))

    def _find_newest(self, model: Any) -> Entry | None:
        """Find the newest version of a registered model that is a registry's version."""
        latest = max(model.latest_versions, key=lambda version: int(version.version), default=None)
        if latest is None or not is_intact(latest):
            latest = next(filter(is_intact, self._search_versions(f"name = '{model.name}'", "version_number DESC")), None)
        return self._read_entries(model, [latest])[0] if latest is not None else None

    def _read_aliases(self, model: str) -> Mapping[str, str]:
        registered = self.server.call("get_registered_model", model, none_for={MISSING})
        return registered.aliases if registered is not None else {}

    def _read_entries(self, registered: Any, versions: Iterable[Any]) -> list[Entry]:
        """Read versions of a registered model, with its aliases. A revocation in its log holds even if the version's tag was removed."""
        if registered is None:
            return []
        lines = read_lines(registered.tags, f"{self.server.uri}: {registered.name}")
        events = [event for _, event in sorted(lines.items())]
        entries = []
        for version in versions:
            entry = self._read_entry(version, select_aliases(registered.aliases, version))
            logged = replay_tags([read_publish_line(version)[1], *events]).get(entry.number, {}).get(REVOKED)
            entries.append(replace(entry, tags={REVOKED: logged, **entry.tags}) if logged is not None else entry)
        return entries

    def _read_entry(self, version: Any, aliases: Iterable[str]) -> Entry:
        return read_entry(version, aliases, self.server.uri)

    def _find_digest(self, name: str, digest: str) -> tuple[Any, Sequence[str]] | None:
        """Find the first version of a name with this content, and its aliases."""
        model = encode_name(name)
        version = next(filter(is_intact, self._search_versions(f"name = '{model}' AND tags.`{DIGEST}` = '{digest}'")), None)
        return (version, select_aliases(self._read_aliases(model), version)) if version is not None else None

    def _list_runs(self, digest: str) -> list[str]:
        """List the runs that should have the files of a manifest."""
        versions = self._search_versions(f"tags.`{DIGEST}` = '{digest}'")
        return list(dict.fromkeys(version.run_id for version in versions if is_ours(version) and version.run_id))

    def _manifest(self, digest: str) -> Manifest:
        """Read the manifest with this digest from the cache folder, or from the first run with an unchanged copy."""
        blobs = open_downloads()
        with contextlib.suppress(OSError, CorruptAdapter):
            return parse_manifest(blobs.blob_path(digest).read_bytes(), digest, str(blobs.blob_path(digest)))
        last_error = CorruptAdapter(
            f"{self.server.uri}: no version has the manifest {digest[:12]}…. Publish the adapter again."
        )
        for run in self._list_runs(digest):
            try:
                content = download_manifest(self.server, run)
                manifest = parse_manifest(content, digest, f"{self.server.uri}: run {run}: {MANIFEST}")
            except (SourceError, CorruptAdapter) as error:
                last_error = CorruptAdapter(str(error))
                continue
            blobs.staging.mkdir(parents=True, exist_ok=True)
            draft = blobs.staging / uuid.uuid4().hex
            write_synced(draft, content)
            blobs.add_blob(draft, digest)
            draft.unlink(missing_ok=True)
            return manifest
        raise last_error

    @contextlib.contextmanager
    def _log_change(self, model: str, event: Event) -> Iterator[None]:
        """Log a change before it is made, and remove the line if MLflow refuses the change."""
        line = make_key(LINE)
        self._write_line(model, event, line)
        try:
            yield
        except RegistryError:
            self.server.call("delete_registered_model_tag", model, line)
            raise

    def _write_line(self, model: str, event: Event, line: str) -> None:
        for key, text in build_line_tags(line, event):
            self.server.call("set_registered_model_tag", model, key, text)


def _describe_version(number: int) -> str:
    return f"version {number}" if number else "no version"
