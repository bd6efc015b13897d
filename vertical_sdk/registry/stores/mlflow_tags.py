"""How names, versions and lines of the log are stored in MLflow's names and tags.

A name's "/" is written "~", which no adapter's name has and which MLflow allows. The fixed data of a version are in tags that begin with
"vertical_sdk/": its digest, its entry as JSON, and a seal of both. No key of a user's tag contains a "/".
"""

from __future__ import annotations

import hashlib
import json
import re
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from vertical_sdk.errors import RegistryError
from vertical_sdk.registry.references import check_name
from vertical_sdk.registry.store import Entry, Event

__all__ = [
    "DIGEST",
    "LEASE",
    "LINE",
    "build_line_tags",
    "build_version_tags",
    "decode_name",
    "encode_name",
    "is_adapter_name",
    "is_intact",
    "is_ours",
    "make_key",
    "read_entry",
    "read_lines",
    "read_publish_line",
    "select_aliases",
]

PREFIX = "vertical_sdk/"
DIGEST = f"{PREFIX}digest"
ENTRY = f"{PREFIX}entry"
SEAL = f"{PREFIX}seal"
LINE = f"{PREFIX}log."
LEASE = f"{PREFIX}lease."
HEAD = re.compile(re.escape(LINE) + r"\d{20}\.[0-9a-f]{16}")
LONGEST_ENTRY, LONGEST_LINE = 30_000, 4_000
"""Characters of one tag, of a version and of a model, that every database of MLflow accepts. A longer text is split over several tags."""


def encode_name(name: str) -> str:
    """Spell an adapter's name as the name of a registered model."""
    return name.replace("/", "~")


def decode_name(model: str) -> str | None:
    """The adapter's name that a registered model's name spells. None means that it does not spell one."""
    name = model.replace("~", "/")
    return name if "/" not in model and is_adapter_name(name) else None


def is_adapter_name(name: str) -> bool:
    """Whether an adapter may have this name."""
    try:
        return bool(check_name(name))
    except RegistryError:
        return False


def make_key(prefix: str) -> str:
    """Make a unique key that sorts by time."""
    return f"{prefix}{time.time_ns():020d}.{uuid.uuid4().hex[:16]}"


def build_version_tags(digest: str, record: Mapping[str, Any], event: Event, line: str) -> dict[str, str]:
    """Build our tags of a version. They include the log line of its publish, so a crash cannot separate the two."""
    fixed = {"created": event.at, "who": event.who, "record": record, "line": line, "event": asdict(event)}
    text = json.dumps(fixed, sort_keys=True)
    return {DIGEST: digest, SEAL: _seal(digest, text), **_split_text(ENTRY, text, LONGEST_ENTRY)}


def is_ours(version: Any) -> bool:
    """Whether an MLflow version is a finished version of a registry."""
    has_tags = DIGEST in version.tags and ENTRY in version.tags
    return has_tags and version.status == "READY" and decode_name(version.name) is not None


def is_intact(version: Any) -> bool:
    """Whether it is a version of a registry with unchanged tags."""
    return is_ours(version) and version.tags.get(SEAL) == _seal(version.tags[DIGEST], _join_text(version.tags, ENTRY))


def read_entry(version: Any, aliases: Iterable[str], where: str) -> Entry:
    """Read the entry of a version. Raises RegistryError if its tags were changed by hand."""
    name, number = decode_name(version.name) or version.name, int(version.version)
    if not is_intact(version):
        raise RegistryError(
            f"{name}@{number}: the tags {PREFIX}… of version {number} of {version.name!r} at {where} were changed by hand. "
            "Run `vertical registry verify`, and publish the adapter again."
        )
    fixed = json.loads(_join_text(version.tags, ENTRY))
    tags = {key: value for key, value in sorted(version.tags.items()) if not key.startswith(PREFIX)}
    digest = version.tags[DIGEST]
    return Entry(name, number, digest, fixed["created"], fixed["who"], fixed["record"], tuple(sorted(aliases)), tags)


def read_publish_line(version: Any) -> tuple[str, Event]:
    """Read the log line of its publish from an intact version, with the key of the line."""
    fixed = json.loads(_join_text(version.tags, ENTRY))
    return fixed["line"], Event(**{**fixed["event"], "name": decode_name(version.name), "after": int(version.version)})


def build_line_tags(line: str, event: Event) -> list[tuple[str, str]]:
    """Build the tags of a log line, its head last: a line with a head is complete."""
    return list(_split_text(line, json.dumps(asdict(event), sort_keys=True), LONGEST_LINE).items())[::-1]


def read_lines(tags: Mapping[str, str], where: str) -> dict[str, Event]:
    """Read the log lines in a registered model's tags. Raises RegistryError if a line was changed by hand."""
    return {key: _read_line(tags, key, where) for key in tags if HEAD.fullmatch(key)}


def _read_line(tags: Mapping[str, str], key: str, where: str) -> Event:
    try:
        return Event(**json.loads(_join_text(tags, key)))
    except (ValueError, TypeError):
        raise RegistryError(
            f"{where}: the log was changed by hand: the tag {key} is not a log line. Restore the tag, or delete it."
        ) from None


def select_aliases(aliases: Mapping[str, str], version: Any) -> list[str]:
    """Select the aliases of a registered model that point at a version."""
    return [alias for alias, number in aliases.items() if int(number) == int(version.version)]


def _split_text(key: str, text: str, longest: int) -> dict[str, str]:
    """Split a text into tags that are short enough for MLflow: key, key.1, key.2, …"""
    starts = range(0, len(text), longest)
    return {f"{key}.{n}" if n else key: text[start : start + longest] for n, start in enumerate(starts)}


def _join_text(tags: Mapping[str, str], key: str) -> str:
    """Join the tags that `_split_text` made."""
    text, n = tags.get(key, ""), 1
    while (piece := tags.get(f"{key}.{n}")) is not None:
        text, n = text + piece, n + 1
    return text


def _seal(digest: str, entry: str) -> str:
    """SHA-256 of the fixed data. It shows an edit by hand; it does not protect against an attacker with write access."""
    return hashlib.sha256(f"{digest}\n{entry}".encode()).hexdigest()
