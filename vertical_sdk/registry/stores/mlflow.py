"""The store that is a company's MLflow server, where adapters are seen and governed with MLflow's own page and client.

    mlflow+http://host:5000   mlflow+https://mlflow.example.org   mlflow:// is the server that MLFLOW_TRACKING_URI names

    medical/icd-chapter        registered model "medical~icd-chapter": MLflow forbids "/", and no name of ours has a "~"
    version 3, alias, tags     model version 3, its aliases and tags, so that models:/medical~icd-chapter@production works
    the files                  artifacts of a run in the experiment "vertical_sdk": adapter/… is the PEFT folder, manifest.json
    what is kept for ever      tags of the model version that begin with "vertical_sdk/": digest, entry and a seal of both
    the log                    a tag of the registered model for each line, under a key of time and chance

A publish uploads into a run, and one request then creates the version with its tags: before it there is only a run, which gc
removes when it is a day old. Versions without our tags, such as models that others logged, are passed over; one whose tags were
changed by hand is an error where it is asked for, is left out of lists, and `problems` tells of it.

MLflow has no compare-and-swap, so who publishes or moves an alias takes a turn at the name (`mlflow_turns`): two users of this store
never pass each other, and no number has two meanings. What remains:

- MLflow's own page and client know of no turns: a move made there between our look and our write (some milliseconds) is overwritten,
  and nothing of what is done there is in the log. `problems` tells of aliases that do not stand where the log left them.
- A request that the network holds back for more than half a minute may arrive when the turn is another's.
- A line is logged before its change is made: a crash between the two leaves a line whose change did not happen.
- A server that reads from a replica which lags behind what was written lets two take a turn at once.
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
from vertical_sdk.registry.store import Entry, Event, Manifest, check_expected_version, manifest_digest, matches, slice_log
from vertical_sdk.registry.stores.mlflow_files import (
    EXPERIMENT,
    MANIFEST,
    FetchFrom,
    check_paths,
    damage,
    manifest_bytes,
    new_run,
    upload,
)
from vertical_sdk.registry.stores.mlflow_lease import take_turn
from vertical_sdk.registry.stores.mlflow_server import EXISTS, MISSING, UNKNOWN_ALIAS, Server
from vertical_sdk.registry.stores.mlflow_tags import (
    DIGEST,
    LINE,
    at_version,
    is_name,
    is_ours,
    line_tags,
    new_key,
    publish_line,
    read_entry,
    read_lines,
    read_name,
    readable,
    spelled,
    version_tags,
)
from vertical_sdk.registry.tree import tree_problems

__all__ = ["MlflowStore", "over_http", "over_https", "tracked"]

DAY = 24 * 3600.0
LARGEST = 2**31 - 1
"""Of a version's number in MLflow's databases."""


def over_http(rest: str) -> MlflowStore:
    """The store at mlflow+http://REST."""
    return MlflowStore(f"http://{rest}")


def over_https(rest: str) -> MlflowStore:
    """The store at mlflow+https://REST."""
    return MlflowStore(f"https://{rest}")


def tracked(rest: str) -> MlflowStore:
    """The store at mlflow://, on the server that MLFLOW_TRACKING_URI names. Raises RegistryError where it names none."""
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
                f"{f'an address that begins with {parts.scheme}:' if uri else 'MLFLOW_TRACKING_URI, which is not set,'} is no MLflow "
                "server: write mlflow+http://host:5000 or mlflow+https://host, or mlflow:// and set MLFLOW_TRACKING_URI to http://host:5000."
            )
        if parts.username or parts.password:
            raise RegistryError(
                f"mlflow+{parts.scheme}://{parts.hostname}: leave the user and the password out of the address, "
                "and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
            )
        self.server = Server(uri)
        self.safe_age = DAY
        """Seconds after which a run that no version names is no publish that still goes on."""
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
        """Keep the files as the name's next version, or return the version that has them already, mended if it was harmed."""
        digest, model = manifest_digest(manifest), spelled(name)
        check_paths(manifest)
        known = self._with_digest(name, digest)
        if known and not damage(self.server, known[0].run_id, digest):
            return self._entry(*known)
        run = known[0].run_id if known else new_run(self.server, name, digest, event.who)
        source = upload(self.server, run, files, manifest)
        if known:
            return self._entry(*known)
        self.server.ask("create_registered_model", model, none_for={EXISTS})
        with take_turn(self.server, model) as turn:
            known = self._with_digest(name, digest)
            if known:  # somebody published the same meanwhile
                return self._entry(*known)
            line = new_key(LINE)
            turn.check()
            made = self.server.ask(
                "create_model_version",
                model,
                source,
                run_id=run,
                tags={**tags, **version_tags(digest, record, event, line)},
                await_creation_for=0,
            )
            self._log(model, replace(event, after=int(made.version)), line)
        return self._entry(made, ())

    def find(self, reference: Reference) -> list[Entry]:
        """The versions that a reference may mean. Raises RegistryError where its tags were changed by hand."""
        model = spelled(reference.name)
        if reference.digest is not None:
            like = f"name = '{model}' AND tags.`{DIGEST}` LIKE '{reference.digest}%'"
            firsts: dict[str, Any] = {}
            for version in filter(is_ours, self._search(like)):
                firsts.setdefault(version.tags[DIGEST], version)
            aliases = self._aliases(model) if firsts else {}
            return [self._entry(version, at_version(aliases, version)) for version in firsts.values()]
        if reference.version is not None:
            if reference.version > LARGEST:
                return []
            version = self.server.ask("get_model_version", model, str(reference.version), none_for={MISSING})
        elif reference.alias is not None:
            none_for = {MISSING, UNKNOWN_ALIAS}
            version = self.server.ask("get_model_version_by_alias", model, reference.alias, none_for=none_for)
        else:
            registered = self.server.ask("get_registered_model", model, none_for={MISSING})
            return [entry for entry in [self._newest(registered)] if entry] if registered is not None else []
        return [self._entry(version, version.aliases)] if version is not None and is_ours(version) else []

    def names(self, prefix: str = "", *, after: str = "", limit: int | None = None) -> list[str]:
        """The names that begin so, sorted; at most `limit` of those behind `after`."""
        return [entry.name for entry, _ in self.newest(prefix, after=after, limit=limit)]

    def newest(self, prefix: str = "", *, after: str = "", limit: int | None = None) -> list[tuple[Entry, Mapping[str, int]]]:
        """The newest version of each of these names, and the name's aliases."""
        models = {name: model for name, model in self._models(prefix) if name > after}
        found: list[tuple[Entry, Mapping[str, int]]] = []
        for _, model in sorted(models.items()):
            if limit is not None and len(found) >= limit:
                break
            if (entry := self._newest(model)) is not None:
                found.append((entry, dict(sorted((alias, int(number)) for alias, number in model.aliases.items()))))
        return found

    def versions(self, name: str, *, before: int | None = None, limit: int | None = None) -> list[Entry]:
        """The versions of a name, oldest first: the `limit` newest of those below number `before`."""
        model = spelled(name)
        below = f" AND version_number < {min(before, LARGEST)}" if before is not None else ""
        found: dict[int, Any] = {}
        for version in self._search(f"name = '{model}'{below}", "version_number DESC"):
            if limit is not None and len(found) >= limit:
                break
            if readable(version):
                found[int(version.version)] = version
        aliases = self._aliases(model) if found else {}
        return [self._entry(version, at_version(aliases, version)) for _, version in sorted(found.items())]

    def search(
        self, conditions: Sequence[Condition], *, after: tuple[str, int] | None = None, limit: int | None = None
    ) -> list[Entry]:
        """The versions that meet all conditions, by name and number. MLflow picks the name; the rest is compared here."""
        named = {str(condition.value) for condition in conditions if condition.key == "name" and not condition.metric}
        if len(named) > 1 or not all(is_name(name) for name in named):
            return []
        which = f"name = '{spelled(*named)}' AND " if named else ""
        found = {
            (read_name(version.name), int(version.version)): version
            for version in self._search(f"{which}tags.`{DIGEST}` LIKE '%'")
            if readable(version)
        }
        aliases = {model.name: model.aliases for _, model in self._models(*named)} if found else {}
        entries = [
            self._entry(version, at_version(aliases.get(version.name, {}), version)) for _, version in sorted(found.items())
        ]
        met = [entry for entry in entries if (entry.name, entry.number) > (after or ("", 0)) and matches(entry, conditions)]
        return met[:limit]

    def folder(self, digest: str) -> Path:
        """A local folder with the files of a manifest, downloaded where they are not here or were harmed."""
        manifest, blobs = self.manifest(digest), open_downloads()
        place = blobs.tree_path(digest)
        if place.is_dir():
            if not tree_problems(place, manifest):
                return place
            blobs.remove_tree(digest)
        failed = SourceError(
            f"{self.server.uri}: no version has the digest {digest[:12]}…. Look at `vertical registry versions`."
        )
        for run in self._runs(digest):
            fetch = FetchFrom(self.server, run, manifest)
            try:
                return blobs.fetch_tree(digest, manifest, fetch)
            except DigestMismatch as error:
                failed = DigestMismatch(f"{self.server.uri}: run {run}: {fetch.path}: {error}")
            except SourceError as error:
                failed = error
        raise failed

    def move_alias(self, name: str, alias: str, number: int | None, expected: int | None, event: Event) -> None:
        """Compare and set, in a turn at the name. Raises RegistryError where the alias does not stand where it was expected."""
        model = spelled(name)
        with take_turn(self.server, model) as turn:
            before = int(turn.registered.aliases.get(alias, 0)) or None
            check_expected_version(name, alias, before, expected)
            if before == number:
                return
            with self._logged(model, replace(event, before=before, after=number)):
                turn.check()
                if number is None:
                    self.server.ask("delete_registered_model_alias", model, alias)
                else:
                    self.server.ask("set_registered_model_alias", model, alias, str(number))

    def tag(self, name: str, number: int, tags: Mapping[str, str | None], event: Event) -> None:
        """Set tags, or take those away that are None."""
        model = spelled(name)
        with self._logged(model, replace(event, before=number, after=number)):
            for key, value in tags.items():
                if value is None:
                    self.server.ask("delete_model_version_tag", model, str(number), key)
                else:
                    self.server.ask("set_model_version_tag", model, str(number), key, value)

    def history(self, name: str, *, skip: int = 0, limit: int | None = None, newest_first: bool = False) -> list[Event]:
        """The log of a name, or a part of it, by the clocks of those who wrote it."""
        model = spelled(name)
        registered = self.server.ask("get_registered_model", model, none_for={MISSING})
        if registered is None:
            return []
        told = dict(publish_line(version) for version in self._search(f"name = '{model}'") if readable(version))
        lines = {**told, **read_lines(registered.tags, f"{self.server.uri}: {name}")}
        return slice_log([event for _, event in sorted(lines.items())], skip, limit, newest_first)

    def problems(self) -> list[str]:
        """Versions whose tags or files were changed on the server, and aliases that do not stand where the log left them.

        Every file of every version is downloaded anew.
        """
        found: list[str] = []
        damaged: dict[tuple[str, str], list[str]] = {}
        for version in self._search(f"tags.`{DIGEST}` LIKE '%'"):
            try:
                entry = self._entry(version, ())
            except RegistryError as error:
                found.append(str(error))
                continue
            place = (version.run_id, entry.digest)
            if place not in damaged:
                damaged[place] = damage(self.server, *place)
            found += [f"{entry.name}@{entry.number}: {line}" for line in damaged[place]]
        for entry, aliases in self.newest():
            try:
                logged = {event.alias: event.after or 0 for event in self.history(entry.name) if event.alias is not None}
            except RegistryError as error:
                found.append(str(error))
                continue
            for alias in sorted({*aliases, *(alias for alias, number in logged.items() if number)}):
                here, told = aliases.get(alias, 0), logged.get(alias, 0)
                if here != told:
                    found.append(
                        f"{entry.name}@{alias} stands at version {here or 'none'}; the log left it at {told or 'none'}"
                    )
        return found

    def gc(self) -> int:
        """Remove runs that a killed publish left, `safe_age` seconds after they began; the bytes that were freed."""
        experiment = self.server.ask("get_experiment_by_name", EXPERIMENT)
        if experiment is None:
            return 0
        old = f"attributes.start_time < {int((time.time() - self.safe_age) * 1000)} AND tags.`{DIGEST}` LIKE '%'"
        runs = list(self.server.pages("search_runs", [experiment.experiment_id], old))
        return sum(self.server.drop(run) for run in runs if not any(self._search(f"run_id = '{run.info.run_id}'")))

    def close(self) -> None:
        """Nothing is held open: MLflow's client keeps its connections to itself."""

    def _models(self, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """The registered models whose names are spelled as ours are, with those names."""
        if not re.fullmatch(r"[a-z0-9_./-]*", prefix):
            return
        like = f"name LIKE '{spelled(prefix)}%'" if prefix else None
        for model in self.server.pages("search_registered_models", filter_string=like, order_by=["name ASC"]):
            name = read_name(model.name)
            if name is not None and name.startswith(prefix):
                yield name, model

    def _search(self, which: str, *order: str) -> Iterator[Any]:
        """MLflow's versions for a filter."""
        return self.server.pages("search_model_versions", which, order_by=list(order or ("name ASC", "version_number ASC")))

    def _newest(self, model: Any) -> Entry | None:
        """The newest version of a registered model that is ours."""
        latest = max(model.latest_versions, key=lambda version: int(version.version), default=None)
        if latest is None or not readable(latest):
            latest = next(filter(readable, self._search(f"name = '{model.name}'", "version_number DESC")), None)
        return self._entry(latest, at_version(model.aliases, latest)) if latest is not None else None

    def _aliases(self, model: str) -> Mapping[str, str]:
        registered = self.server.ask("get_registered_model", model, none_for={MISSING})
        return registered.aliases if registered is not None else {}

    def _entry(self, version: Any, aliases: Iterable[str]) -> Entry:
        return read_entry(version, aliases, self.server.uri)

    def _with_digest(self, name: str, digest: str) -> tuple[Any, Sequence[str]] | None:
        """The first version of a name with this content, and its aliases."""
        model = spelled(name)
        found = next(filter(readable, self._search(f"name = '{model}' AND tags.`{DIGEST}` = '{digest}'")), None)
        return (found, at_version(self._aliases(model), found)) if found is not None else None

    def _runs(self, digest: str) -> list[str]:
        """The runs that should have the files of a manifest."""
        found = self._search(f"tags.`{DIGEST}` = '{digest}'")
        return list(dict.fromkeys(version.run_id for version in found if is_ours(version) and version.run_id))

    def _manifest(self, digest: str) -> Manifest:
        """The manifest with this digest, from the cache folder or the first run that has it unharmed."""
        blobs = open_downloads()
        with contextlib.suppress(OSError, CorruptAdapter):
            return parse_manifest(blobs.blob_path(digest).read_bytes(), digest, str(blobs.blob_path(digest)))
        failed = CorruptAdapter(f"{self.server.uri}: no version has the manifest {digest[:12]}…. Publish the adapter again.")
        for run in self._runs(digest):
            try:
                content = manifest_bytes(self.server, run)
                manifest = parse_manifest(content, digest, f"{self.server.uri}: run {run}: {MANIFEST}")
            except (SourceError, CorruptAdapter) as error:
                failed = CorruptAdapter(str(error))
                continue
            blobs.staging.mkdir(parents=True, exist_ok=True)
            draft = blobs.staging / uuid.uuid4().hex
            write_synced(draft, content)
            blobs.add_blob(draft, digest)
            draft.unlink(missing_ok=True)
            return manifest
        raise failed

    @contextlib.contextmanager
    def _logged(self, model: str, event: Event) -> Iterator[None]:
        """Log a change before it is made, and take the line back where MLflow refuses the change."""
        line = new_key(LINE)
        self._log(model, event, line)
        try:
            yield
        except RegistryError:
            self.server.ask("delete_registered_model_tag", model, line)
            raise

    def _log(self, model: str, event: Event, line: str) -> None:
        for key, text in line_tags(line, event):
            self.server.ask("set_registered_model_tag", model, key, text)
