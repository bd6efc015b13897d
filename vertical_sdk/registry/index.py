"""Names, versions, aliases, tags and the audit log, in one SQLite file.

Versions and log lines are append-only: triggers in the file refuse to change or remove them.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import sqlite3
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from vertical_sdk.errors import RegistryError, RunError
from vertical_sdk.paths import report_full_disk
from vertical_sdk.registry.query import Condition
from vertical_sdk.registry.references import Reference
from vertical_sdk.registry.store import (
    PURGED,
    REVOKED,
    Entry,
    Event,
    check_expected_version,
    log_first_tags,
    log_tags,
    replay_tags,
    tag_problems,
)

__all__ = ["Index"]

SqlValue: TypeAlias = str | int | float | bytes | None

PATIENCE = 60.0
"""Seconds to wait for another process that writes."""
SCHEMA_VERSION = 2
REVOKES = f"""instr(evidence, '"{REVOKED}"') > 0"""
"""The lines of the log that may revoke a version. They are few, and have an index of their own."""
COMPLETE_LOG = "revocations"
"""The name of that index. A file without it was made by an earlier version of vertical_sdk, whose log has no first tags and no
signatures."""
SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE names (name TEXT PRIMARY KEY, newest INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE versions (
    name TEXT NOT NULL, number INTEGER NOT NULL, digest TEXT NOT NULL, created TEXT NOT NULL, who TEXT NOT NULL,
    record TEXT NOT NULL, seal BLOB NOT NULL, PRIMARY KEY (name, number), UNIQUE (name, digest)
);
CREATE TABLE facts (
    key TEXT NOT NULL, value TEXT NOT NULL, name TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (key, value, name, number)
) WITHOUT ROWID;
CREATE TABLE metrics (
    key TEXT NOT NULL, name TEXT NOT NULL, number INTEGER NOT NULL, value REAL NOT NULL, PRIMARY KEY (key, name, number)
) WITHOUT ROWID;
CREATE TABLE aliases (
    name TEXT NOT NULL, alias TEXT NOT NULL, number INTEGER NOT NULL, seal BLOB NOT NULL, PRIMARY KEY (name, alias),
    FOREIGN KEY (name, number) REFERENCES versions (name, number)
) WITHOUT ROWID;
CREATE TABLE tags (
    name TEXT NOT NULL, number INTEGER NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, seal BLOB NOT NULL,
    PRIMARY KEY (name, number, key),
    FOREIGN KEY (name, number) REFERENCES versions (name, number)
) WITHOUT ROWID;
CREATE INDEX tagged ON tags (key, value, name, number);
CREATE TABLE history (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, who TEXT NOT NULL, name TEXT NOT NULL, action TEXT NOT NULL,
    alias TEXT, before INTEGER, after INTEGER, why TEXT NOT NULL, evidence TEXT NOT NULL, seal BLOB NOT NULL
);
CREATE INDEX history_by_name ON history (name, id);
CREATE INDEX {COMPLETE_LOG} ON history (name, after) WHERE {REVOKES};
CREATE TRIGGER versions_stay BEFORE UPDATE ON versions BEGIN SELECT RAISE(ABORT, 'a version never changes'); END;
CREATE TRIGGER versions_remain BEFORE DELETE ON versions BEGIN SELECT RAISE(ABORT, 'a version is never removed'); END;
CREATE TRIGGER history_stays BEFORE UPDATE ON history BEGIN SELECT RAISE(ABORT, 'the log never changes'); END;
CREATE TRIGGER history_remains BEFORE DELETE ON history BEGIN SELECT RAISE(ABORT, 'the log is only added to'); END;
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""
COLUMNS = f"""
SELECT v.name, v.number, v.digest, v.created, v.who, v.record, v.seal,
    (SELECT json_group_array(alias) FROM (SELECT alias FROM aliases WHERE name = v.name AND number = v.number ORDER BY alias)),
    (SELECT json_group_array(json_array(key, value, hex(seal))) FROM tags WHERE name = v.name AND number = v.number),
    (SELECT json_group_array(json_array(at, who, name, action, alias, before, after, why, evidence)) FROM
        (SELECT * FROM history WHERE name = v.name AND after = v.number AND {REVOKES} ORDER BY id))
"""  # noqa: S608
ENTRY = f"{COLUMNS} FROM versions AS v "
AT_ALIAS = f"{COLUMNS}, a.seal FROM aliases AS a JOIN versions AS v USING (name, number) WHERE a.name = ? AND a.alias = ?"
IS_PURGED = f"EXISTS (SELECT 1 FROM tags WHERE name = v.name AND number = v.number AND key = '{PURGED}')"  # noqa: S608
NONE = "[]"
LOGGED = "at, who, name, action, alias, before, after, why, evidence"
RARE = 3000
"""Up to this many versions are checked one by one; above it, tables are merged."""
AFTER_NAMES = "\x7f"
"""Sorts after every character that a name may have."""
ALL = -1
"""The value of SQLite's LIMIT that means no limit."""


class _Connection(sqlite3.Connection):
    """A connection that closes itself when its thread ends, in the process that opened it. `using` is locked during use."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.using = threading.RLock()
        self.process = os.getpid()
        self.gone = False
        self.mode = ""
        _connections.add(self)

    def __del__(self) -> None:
        if self.process == os.getpid():
            with contextlib.suppress(sqlite3.Error):
                self.close()


_connections: weakref.WeakSet[_Connection] = weakref.WeakSet()
_opening = threading.RLock()
_abandoned: list[_Connection] = []
"""Connections inherited over a fork. SQLite forbids the child process to use or even close them."""
_waiting: list[_Connection] = []


def _before_fork() -> None:
    """Close open connections before a fork: the child inherits SQLite's lock state but not the locks."""
    _opening.acquire()
    for connection in list(_connections):
        connection.using.acquire()
        _waiting.append(connection)
        if not connection.in_transaction:
            connection.close()
            connection.gone = True
            _connections.discard(connection)


def _after_fork() -> None:
    while _waiting:
        _waiting.pop().using.release()
    _opening.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


class _ThreadState(threading.local):
    connection: _Connection | None = None
    identity: tuple[int, int, int] = (0, 0, 0)


class Index:
    """The SQLite file of a registry, with one connection for each thread and process. The first `writing` creates the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state = _ThreadState()

    def find(self, reference: Reference) -> list[Entry]:
        """Find the versions that a reference may mean. Raises RegistryError if the row of one, or of the alias, was changed by hand."""
        name = reference.name
        if reference.version is not None:
            return self._entries("WHERE v.name = ? AND v.number = ?", name, reference.version)
        if reference.alias is not None:
            rows = self._read(AT_ALIAS, name, reference.alias)
            if rows and rows[0][-1] != _seal(name, reference.alias, rows[0][1]):
                raise self._tampered(f"the alias {name}@{reference.alias}")
            return [self._entry(*row[:-1]) for row in rows]
        if reference.digest is not None:
            between = "WHERE v.name = ? AND v.digest >= ? AND v.digest < ? ORDER BY v.number"
            return self._entries(between, name, reference.digest, reference.digest + "g")
        return self._entries("WHERE v.name = ? ORDER BY v.number DESC LIMIT 1", name)

    def versions(self, name: str, *, before: int | None = None, limit: int | None = None) -> list[Entry]:
        """List versions of a name, oldest first: the `limit` newest with a number below `before`."""
        below = "WHERE v.name = ? AND v.number < ? ORDER BY v.number DESC LIMIT ?"
        return self._entries(below, name, sys.maxsize if before is None else before, ALL if limit is None else limit)[::-1]

    def names(self, prefix: str = "", *, after: str = "", limit: int | None = None) -> list[str]:
        """List the names with a prefix, sorted: at most `limit` names after `after`."""
        between = "SELECT name FROM names WHERE name >= ? AND name < ? AND name > ? ORDER BY name LIMIT ?"
        return [row[0] for row in self._read(between, prefix, prefix + AFTER_NAMES, after, ALL if limit is None else limit)]

    def newest(self, prefix: str = "", *, after: str = "", limit: int | None = None) -> list[tuple[Entry, Mapping[str, int]]]:
        """List the newest version of each of these names, with the aliases of the name."""
        names = (
            "WHERE (v.name, v.number) IN "
            "(SELECT name, newest FROM names WHERE name >= ? AND name < ? AND name > ? ORDER BY name LIMIT ?) ORDER BY v.name"
        )
        entries = self._entries(names, prefix, prefix + AFTER_NAMES, after, ALL if limit is None else limit)
        if not entries:
            return []
        aliases: dict[str, dict[str, int]] = {}
        between = "SELECT name, alias, number FROM aliases WHERE name >= ? AND name <= ? ORDER BY name, alias"
        for name, alias, number in self._read(between, entries[0].name, entries[-1].name):
            aliases.setdefault(name, {})[alias] = number
        return [(entry, aliases.get(entry.name, {})) for entry in entries]

    def search(
        self, conditions: Sequence[Condition], *, after: tuple[str, int] | None = None, limit: int | None = None
    ) -> list[Entry]:
        """Find the versions that meet all conditions, by name and number.

        Within a key, every table is sorted by name and number. If a condition is rare, its versions are looked up and the other
        conditions are checked on them; otherwise the tables are merged while they are read. Both stop at the limit.
        """
        start, most = after or ("", 0), ALL if limit is None else limit
        if not conditions:
            return self._entries("WHERE (v.name, v.number) > (?, ?) ORDER BY v.name, v.number LIMIT ?", *start, most)
        clauses = [_condition_sql(condition) for condition in sorted(conditions, key=lambda condition: condition.metric)]
        for n, (table, where, values) in enumerate(clauses):
            if table != "metrics" and len(self._read(f"SELECT 1 FROM {table} WHERE {where} LIMIT {RARE}", *values)) < RARE:  # noqa: S608
                met = f"SELECT name, number FROM {table} AS rare WHERE {where} AND (name, number) > (?, ?)"  # noqa: S608
                parameters = [*values, *start]
                for other_table, other_where, other_values in clauses[:n] + clauses[n + 1 :]:
                    same = "name = rare.name AND number = rare.number"
                    met += f" AND EXISTS (SELECT 1 FROM {other_table} WHERE {other_where} AND {same})"  # noqa: S608
                    parameters += other_values
                break
        else:
            parts = [f"SELECT name, number FROM {t} WHERE {where} AND (name, number) > (?, ?)" for t, where, _ in clauses]  # noqa: S608
            met, parameters = " INTERSECT ".join(parts), [v for *_, values in clauses for v in (*values, *start)]
        query = f"WHERE (v.name, v.number) IN ({met} ORDER BY name, number LIMIT ?) ORDER BY v.name, v.number"
        return self._entries(query, *parameters, most)

    def digests(self) -> dict[str, bool]:
        """List the digests of all versions, and whether a version that was not purged has it."""
        query = f"SELECT digest, MIN({IS_PURGED}) FROM versions AS v GROUP BY digest ORDER BY digest"  # noqa: S608
        return {digest: not all_purged for digest, all_purged in self._read(query)}

    def users(self, digest: str) -> list[str]:
        """List the versions with this digest that were not purged, as NAME@NUMBER."""
        query = f"SELECT name, number FROM versions AS v WHERE digest = ? AND NOT {IS_PURGED} ORDER BY name, number"  # noqa: S608
        return [f"{name}@{number}" for name, number in self._read(query, digest)]

    def history(self, name: str, *, skip: int = 0, limit: int | None = None, newest_first: bool = False) -> list[Event]:
        """Read the log of a name, or a part of it."""
        order = "id DESC" if newest_first else "id"
        columns = f"SELECT {LOGGED} FROM history WHERE name = ? ORDER BY {order} LIMIT ? OFFSET ?"  # noqa: S608
        return [Event(*row) for row in self._read(columns, name, -1 if limit is None else limit, skip)]

    def add(self, name: str, digest: str, record: Mapping[str, Any], tags: Mapping[str, str], event: Event) -> None:
        """Add the next version of a name; call it inside `writing`."""
        connection = self._open()
        connection.execute("INSERT INTO names VALUES (?, 0) ON CONFLICT DO NOTHING", (name,))
        connection.execute("UPDATE names SET newest = newest + 1 WHERE name = ?", (name,))
        (number,) = connection.execute("SELECT newest FROM names WHERE name = ?", (name,)).fetchone()
        row = _add_seal(name, number, digest, event.at, event.who, json.dumps(record, sort_keys=True))
        connection.execute("INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        facts = [(key, value, name, number) for key, values in record.get("facts", {}).items() for value in values]
        connection.executemany("INSERT OR IGNORE INTO facts VALUES (?, ?, ?, ?)", [*facts, ("name", name, name, number)])
        measured = [(key, name, number, value) for key, value in record.get("metrics", {}).items()]
        connection.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?)", measured)
        connection.executemany(
            "INSERT INTO tags VALUES (?, ?, ?, ?, ?)", [_add_seal(name, number, k, v) for k, v in tags.items()]
        )
        self._log(log_first_tags(event, tags), None, number)

    def move_alias(self, name: str, alias: str, number: int | None, expected: int | None, event: Event) -> None:
        """Move an alias (compare and swap). Raises RegistryError if it does not point at the expected version."""
        with self.writing() as connection:
            row = connection.execute("SELECT number FROM aliases WHERE name = ? AND alias = ?", (name, alias)).fetchone()
            before = row[0] if row else None
            check_expected_version(name, alias, before, expected)
            if before == number:
                return
            if number is None:
                connection.execute("DELETE FROM aliases WHERE name = ? AND alias = ?", (name, alias))
            else:
                connection.execute("INSERT OR REPLACE INTO aliases VALUES (?, ?, ?, ?)", _add_seal(name, alias, number))
            self._log(event, before, number)

    def tag(self, name: str, number: int, tags: Mapping[str, str | None], event: Event) -> None:
        """Set tags; the value None removes a tag."""
        with self.writing() as connection:
            for key, value in tags.items():
                connection.execute("DELETE FROM tags WHERE name = ? AND number = ? AND key = ?", (name, number, key))
                if value is not None:
                    connection.execute("INSERT INTO tags VALUES (?, ?, ?, ?, ?)", _add_seal(name, number, key, value))
            self._log(log_tags(event, tags), number, number)

    def problems(self) -> list[str]:
        """List the results of SQLite's own check, rows that were changed by hand, and differences from the log."""
        lines = [str(row[0]) for row in self._read("PRAGMA integrity_check")]
        problems = [f"{self.path.name}: {line}" for line in lines if line != "ok"]
        checks = (self._log_problems, self._alias_problems, self._version_problems, self._tag_problems, self._search_problems)
        return [*problems, *(line for check in checks for line in _run_check(check))]

    def _log_problems(self) -> list[str]:
        """List each change of the log, and lines that were removed."""
        problems, before, last = [], b"", 0
        for number, *row, seal in self._read(f"SELECT id, {LOGGED}, seal FROM history ORDER BY id"):  # noqa: S608
            if seal != _seal(before.hex(), *row):
                problems.append(
                    f"{self.path.name}: the log was changed at {row[0]} ({row[2]}, {row[3]}), or a line before it was removed"
                )
            before, last = seal, number
        written = self._read("SELECT seq FROM sqlite_sequence WHERE name = 'history'")
        if written and written[0][0] > last:
            problems.append(f"{self.path.name}: the end of the log was removed: {written[0][0] - last} lines")
        return problems

    def _alias_problems(self) -> list[str]:
        logged = {
            (name, alias): after or 0
            for name, alias, after in self._read("SELECT name, alias, after FROM history WHERE alias IS NOT NULL ORDER BY id")
        }
        aliases = {(name, alias): number for name, alias, number in self._read("SELECT name, alias, number FROM aliases")}
        problems = []
        for key in sorted({key for key, number in logged.items() if number} | set(aliases)):
            current, expected = aliases.get(key, 0), logged.get(key, 0)
            if current != expected:
                problems.append(
                    f"{key[0]}@{key[1]} points at version {current or 'none'}, but the log says {expected or 'none'}"
                )
        return problems

    def _version_problems(self) -> list[str]:
        problems = []
        published = set(self._read("SELECT name, after FROM history WHERE alias IS NULL AND action LIKE 'publish%'"))
        rows = self._read("SELECT name, number, digest, created, who, record, seal FROM versions")
        for *row, seal in rows:
            if _seal(*row) != seal:
                problems.append(f"{self.path.name}: the row of {row[0]}@{row[1]} was changed by hand")
        indexed = {(row[0], row[1]) for row in rows}
        problems += [f"{name}@{number} is in the log but not in the index" for name, number in sorted(published - indexed)]
        problems += [f"{name}@{number} was never published" for name, number in sorted(indexed - published)]
        newest = "SELECT n.name FROM names AS n WHERE newest IS NOT (SELECT MAX(number) FROM versions WHERE name = n.name)"
        return problems + [
            f"{self.path.name}: the newest version of {name} is recorded wrongly" for (name,) in self._read(newest)
        ]

    def _tag_problems(self) -> list[str]:
        """List tags that were changed by hand, and those that differ from the log: revocations and signatures among them."""
        problems = []
        tags: dict[tuple[str, int], dict[str, str]] = {}
        for name, number, key, value, seal in self._read("SELECT name, number, key, value, seal FROM tags"):
            if _seal(name, number, key, value) != seal:
                problems.append(f"{self.path.name}: the tag {key} of {name}@{number} was changed by hand")
            tags.setdefault((name, number), {})[key] = value
        complete = bool(self._read("SELECT 1 FROM sqlite_master WHERE name = ?", COMPLETE_LOG))
        events: dict[str, list[Event]] = {}
        for row in self._read(f"SELECT {LOGGED} FROM history WHERE alias IS NULL AND evidence != '' ORDER BY id"):  # noqa: S608
            events.setdefault(row[2], []).append(Event(*row))
        logged = {(name, n): value for name, lines in events.items() for n, value in replay_tags(lines).items()}
        for name, number in sorted(tags.keys() | logged.keys()):
            entry = Entry(name, number, "", "", "", tags=tags.get((name, number), {}))
            problems += tag_problems(entry, logged.get((name, number), {}), complete=complete)
        return problems

    def _search_problems(self) -> list[str]:
        """List versions whose facts or metrics, which searches read, differ from their rows."""
        found: dict[tuple[str, int], int] = {}
        for key, value, name, number in self._read("SELECT key, value, name, number FROM facts"):
            found[name, number] = found.get((name, number), 0) ^ hash((key, value))
        for key, name, number, value in self._read("SELECT key, name, number, value FROM metrics"):
            found[name, number] = found.get((name, number), 0) ^ hash((key, "", value))
        for *row, seal in self._read("SELECT name, number, digest, created, who, record, seal FROM versions"):
            name, number = row[0], row[1]
            if seal != _seal(*row):  # `_version_problems` lists it
                found[name, number] = 0
                continue
            record, expected = json.loads(row[5]), hash(("name", name))
            for key, values in record.get("facts", {}).items():
                for value in set(values) - ({name} if key == "name" else set()):
                    expected ^= hash((key, value))
            for key, value in record.get("metrics", {}).items():
                expected ^= hash((key, "", float(value)))
            found[name, number] = found.get((name, number), 0) ^ expected
        wrong = sorted(version for version, difference in found.items() if difference)
        return [f"{self.path.name}: the facts or metrics of {name}@{number} were changed by hand" for name, number in wrong]

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Open an exclusive write transaction; it is rolled back if the block fails."""
        if not self.path.exists():
            self._create()
        with self._translate_errors(), self._use() as connection:
            if connection is not self._state.connection:
                raise sqlite3.OperationalError("readonly")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close this thread's connection; the next use opens another."""
        connection, self._state.connection = self._state.connection, None
        if connection is None:
            return
        if connection.process == os.getpid():
            connection.close()
        else:
            _abandoned.append(connection)

    def _log(self, event: Event, before: int | None, after: int | None) -> None:
        connection = self._open()
        last = connection.execute("SELECT seal FROM history ORDER BY id DESC LIMIT 1").fetchone()
        row = (event.at, event.who, event.name, event.action, event.alias, before, after, event.why, event.evidence)
        columns = f"INSERT INTO history ({LOGGED}, seal) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
        connection.execute(columns, (*row, _seal(last[0].hex() if last else "", *row)))

    def _entries(self, where: str, *values: SqlValue) -> list[Entry]:
        return [self._entry(*row) for row in self._read(ENTRY + where, *values)]

    def _entry(self, *row: Any) -> Entry:
        """Convert a row of ENTRY to an Entry. Raises RegistryError if it, or a tag, was changed by hand."""
        *columns, seal, aliases, tags_json, revoking = row
        name, number, digest, created, who, record = columns
        if seal != _seal(*columns):
            raise self._tampered(f"the row of {name}@{number}")
        tags = {}
        for key, value, sealed in json.loads(tags_json) if tags_json != NONE else ():
            if sealed != _seal(name, number, key, value).hex().upper():
                raise self._tampered(f"the tag {key} of {name}@{number}")
            tags[key] = value
        if revoking != NONE:  # the log decides, also if the tag's row was removed
            logged = replay_tags(Event(*line) for line in json.loads(revoking)).get(number, {})
            tags |= {key: value for key, value in logged.items() if key == REVOKED and key not in tags}
        named = tuple(json.loads(aliases)) if aliases != NONE else ()
        return Entry(name, number, digest, created, who, json.loads(record), named, tags)

    def _tampered(self, row: str) -> RegistryError:
        message = f"{row} was changed by hand. Run `vertical registry verify`, and restore a backup."
        return RegistryError(message, where=self.path)

    def _read(self, query: str, *values: SqlValue) -> Sequence[Any]:
        try:
            with self._translate_errors(), self._use() as connection:
                return connection.execute(query, values).fetchall()
        except FileNotFoundError:
            return []

    @contextlib.contextmanager
    def _use(self) -> Iterator[_Connection]:
        """Use a connection that no fork closes in the meantime. Raises FileNotFoundError if there is no index yet."""
        while True:
            connection = self._open()
            with connection.using:
                if connection.gone:
                    continue
                try:
                    yield connection
                finally:
                    if connection is not self._state.connection:
                        connection.close()
                return

    def _open(self) -> _Connection:
        """Return this thread's connection, or one for a single read if the folder is read-only and no one else writes.

        Raises FileNotFoundError if there is no index yet.
        """
        stat = self.path.stat()
        identity = (os.getpid(), stat.st_dev, stat.st_ino)
        state = self._state
        if state.connection is not None and state.identity == identity and not state.connection.gone:
            return state.connection
        with _opening:
            self.close()
            connection = self._connect_checked()
        if connection.mode == "mode=rw":
            state.connection, state.identity = connection, identity
        return connection

    def _connect_checked(self) -> _Connection:
        connection = self._connect("mode=rw")
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
        except sqlite3.OperationalError:
            connection.close()
            log = Path(f"{self.path}-wal")
            if os.access(self.path.parent, os.W_OK) or (log.exists() and log.stat().st_size):
                raise
            return self._connect("immutable=1")  # SQLite cannot create its lock file, so it must not look for it
        if version != SCHEMA_VERSION:
            connection.close()
            raise RegistryError(
                f"this registry has format {version}; this version of vertical_sdk reads format {SCHEMA_VERSION}. "
                f"{'Upgrade vertical_sdk' if version > SCHEMA_VERSION else 'Publish its adapters again'}, or choose another registry.",
                where=self.path,
            )
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    def _connect(self, mode: str, path: Path | None = None) -> _Connection:
        address = f"{(path or self.path).absolute().as_uri()}?{mode}"
        connection = sqlite3.connect(
            address, uri=True, timeout=PATIENCE, isolation_level=None, factory=_Connection, check_same_thread=False
        )
        connection.mode = mode
        return connection

    def _create(self) -> None:
        """Create the file under another name and move it to its place, so that no process sees half an index."""
        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}-{threading.get_ident()}")
        with _opening, self._translate_errors(), report_full_disk(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                draft.unlink(missing_ok=True)
                draft.touch(exist_ok=False)
                connection = self._connect("mode=rw", draft)
                try:
                    connection.execute("PRAGMA journal_mode = WAL")
                    connection.executescript(SCHEMA)
                finally:
                    connection.close()
                _place(draft, self.path)
            finally:
                for leftover in (draft, Path(f"{draft}-wal"), Path(f"{draft}-shm")):
                    leftover.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Turn SQLite's errors into errors of vertical_sdk."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            text = str(error)
            if "locked" in text:
                raise RunError(
                    f"another process has been writing for {PATIENCE:.0f} s. Wait until it ends, then try again.",
                    where=self.path,
                ) from error
            number = _find_errno(text, self.path.parent)
            if number == errno.EIO:
                raise RunError(
                    f"the disk cannot be read or written ({text}). Choose another folder.", where=self.path
                ) from error
            if number:
                with report_full_disk(self.path):
                    raise OSError(number, os.strerror(number)) from error
            if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError):
                raise
            raise RegistryError(f"the index is damaged ({text}). Restore a backup of it.", where=self.path) from error


def _run_check(check: Callable[[], list[str]]) -> list[str]:
    """Run a check; an error, such as a page of the file that cannot be read, is its result."""
    try:
        return check()
    except RegistryError as error:
        return [str(error)]


def _seal(*row: object) -> bytes:
    """SHA-256 of a row. It detects a flipped bit and an edit by hand, not an attacker with write access."""
    return hashlib.sha256(json.dumps(row, default=repr).encode()).digest()


def _add_seal(*row: SqlValue) -> tuple[SqlValue, ...]:
    return (*row, _seal(*row))


def _condition_sql(condition: Condition) -> tuple[str, str, list[SqlValue]]:
    """The table, the WHERE clause and its parameters for a condition."""
    if condition.metric:
        return "metrics", f"key = ? AND value {condition.test} ?", [condition.key, condition.value]
    if condition.key.startswith("tag."):
        return "tags", "key = ? AND value = ?", [condition.key.removeprefix("tag."), condition.value]
    return "facts", "key = ? AND value = ?", [condition.key, condition.value]


def _place(draft: Path, path: Path) -> None:
    """Give the draft its final name, unless another process was faster."""
    try:
        os.link(draft, path)
    except (FileExistsError, FileNotFoundError):
        return
    except OSError:  # a file system without hard links
        from filelock import FileLock

        with FileLock(f"{path}.lock"):
            if not path.exists():
                draft.rename(path)


def _find_errno(text: str, folder: Path) -> int:
    """The system's error number for an error text of SQLite; 0 if there is none."""
    if "is full" in text:
        return errno.ENOSPC
    if "readonly" in text or "unable to open" in text:
        return errno.EROFS
    if "disk I/O error" in text:
        return errno.ENOSPC if shutil.disk_usage(folder).free < 1 << 17 else errno.EIO
    return 0
