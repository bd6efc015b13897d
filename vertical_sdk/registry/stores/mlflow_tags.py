"""How names, versions and lines of the log are written into names and tags of MLflow's.

A name's "/" is written "~", which no name of ours has and MLflow does not forbid. What a version keeps for ever stands in tags that
begin with "vertical_sdk/": its digest, its entry as JSON, and a seal of both. No tag of a user's has a "/" in its key.
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
    "LINE",
    "TURN",
    "at_version",
    "is_name",
    "is_ours",
    "line_tags",
    "new_key",
    "publish_line",
    "read_entry",
    "read_lines",
    "read_name",
    "readable",
    "spelled",
    "version_tags",
]

OURS = "vertical_sdk/"
DIGEST = f"{OURS}digest"
ENTRY = f"{OURS}entry"
SEAL = f"{OURS}seal"
LINE = f"{OURS}log."
TURN = f"{OURS}turn."
HEAD = re.compile(re.escape(LINE) + r"\d{20}\.[0-9a-f]{16}")
LONGEST_ENTRY, LONGEST_LINE = 30_000, 4_000
"""Characters of one tag, of a version and of a model, that every database of MLflow's takes; what is longer stands in several."""


def spelled(name: str) -> str:
    """A name of ours as MLflow's."""
    return name.replace("/", "~")


def read_name(model: str) -> str | None:
    """The name of ours that a registered model's name spells; None where it is none."""
    name = model.replace("~", "/")
    return name if "/" not in model and is_name(name) else None


def is_name(name: str) -> bool:
    """Whether an adapter may be called so."""
    try:
        return bool(check_name(name))
    except RegistryError:
        return False


def new_key(prefix: str) -> str:
    """A key that nobody else writes, which sorts by time."""
    return f"{prefix}{time.time_ns():020d}.{uuid.uuid4().hex[:16]}"


def version_tags(digest: str, record: Mapping[str, Any], event: Event, line: str) -> dict[str, str]:
    """Our tags of a version. The line of its publish is among them, so that no crash can part the two."""
    kept = {"created": event.at, "who": event.who, "record": record, "line": line, "event": asdict(event)}
    text = json.dumps(kept, sort_keys=True)
    return {DIGEST: digest, SEAL: _seal(digest, text), **_pieces(ENTRY, text, LONGEST_ENTRY)}


def is_ours(version: Any) -> bool:
    """Whether a version of MLflow's is a version of a registry, to be seen."""
    tagged = DIGEST in version.tags and ENTRY in version.tags
    return tagged and version.status == "READY" and read_name(version.name) is not None


def readable(version: Any) -> bool:
    """Whether it is a version of ours whose tags nobody changed."""
    return is_ours(version) and version.tags.get(SEAL) == _seal(version.tags[DIGEST], _joined(version.tags, ENTRY))


def read_entry(version: Any, aliases: Iterable[str], where: str) -> Entry:
    """A version of ours. Raises RegistryError where its tags were changed by hand."""
    name, number = read_name(version.name) or version.name, int(version.version)
    if not readable(version):
        raise RegistryError(
            f"{name}@{number}: the tags {OURS}… of version {number} of {version.name!r} at {where} were changed by hand. "
            "Run `vertical registry verify`, and publish the adapter again."
        )
    kept = json.loads(_joined(version.tags, ENTRY))
    tags = {key: value for key, value in sorted(version.tags.items()) if not key.startswith(OURS)}
    digest = version.tags[DIGEST]
    return Entry(name, number, digest, kept["created"], kept["who"], kept["record"], tuple(sorted(aliases)), tags)


def publish_line(version: Any) -> tuple[str, Event]:
    """The line of the log that a readable version carries itself, and its key."""
    kept = json.loads(_joined(version.tags, ENTRY))
    return kept["line"], Event(**{**kept["event"], "name": read_name(version.name), "after": int(version.version)})


def line_tags(line: str, event: Event) -> list[tuple[str, str]]:
    """The tags that are a line of the log, its head last: a line whose head is there is whole."""
    return list(_pieces(line, json.dumps(asdict(event), sort_keys=True), LONGEST_LINE).items())[::-1]


def read_lines(tags: Mapping[str, str], where: str) -> dict[str, Event]:
    """The lines of the log in a registered model's tags. Raises RegistryError where one was changed by hand."""
    return {key: _line(tags, key, where) for key in tags if HEAD.fullmatch(key)}


def _line(tags: Mapping[str, str], key: str, where: str) -> Event:
    try:
        return Event(**json.loads(_joined(tags, key)))
    except (ValueError, TypeError):
        raise RegistryError(f"{where}: the log was changed by hand: the tag {key} is no line of it.") from None


def at_version(aliases: Mapping[str, str], version: Any) -> list[str]:
    """The aliases of a registered model that stand at a version."""
    return [alias for alias, number in aliases.items() if int(number) == int(version.version)]


def _pieces(key: str, text: str, longest: int) -> dict[str, str]:
    """A text as tags of a length that MLflow takes: key, key.1, key.2, …"""
    starts = range(0, len(text), longest)
    return {f"{key}.{n}" if n else key: text[start : start + longest] for n, start in enumerate(starts)}


def _joined(tags: Mapping[str, str], key: str) -> str:
    """What `_pieces` took apart."""
    text, n = tags.get(key, ""), 1
    while (piece := tags.get(f"{key}.{n}")) is not None:
        text, n = text + piece, n + 1
    return text


def _seal(digest: str, kept: str) -> str:
    """SHA-256 of what is kept for ever: not against an enemy who may write here, but against a hand that "mends" a tag."""
    return hashlib.sha256(f"{digest}\n{kept}".encode()).hexdigest()
