"""Every error that vertical_sdk raises on purpose.

    VerticalError                 exit code
    ├── RecipeError                   2   a recipe, or a value set on the command line, is wrong
    │   └── UnknownName               2   a name that no catalog has
    ├── DataError                     3   the rows are wrong: missing column, one label only, nothing to learn from
    ├── SourceError                   4   bytes could not be had: no such file, no network, a cut download
    │   ├── OfflineError              4   the hub or an index cannot be reached
    │   └── DigestMismatch            4   the bytes are not those that were pinned
    ├── BaseModelError                5   no such base model, or one that cannot do the task
    ├── AdapterError                  6   an adapter that cannot be used
    │   ├── CorruptAdapter            6   a file is cut, changed or not safetensors
    │   ├── BaseMismatch              6   made for another base, revision, tokenizer, vocabulary or template
    │   └── IdleAdapter               6   changes nothing, or another thing than when it was made
    ├── RegistryError                 7   no such reference, a taken version, a bad name
    ├── GateFailed                    8   the specialist did not beat what its recipe says it must
    ├── RunError                      9   a run cannot go on: folder in use, read-only or full disk
    └── MissingExtra                 10   an optional dependency is not installed

A message says where, what happened, and what to do. The place (a path, a recipe's key) is a field of its own, `where`, so that
a server can show the message without it. Exit code 1 means a bug in vertical_sdk; 130 means Ctrl-C.
"""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Iterable
from pathlib import Path

__all__ = [
    "AdapterError",
    "BaseMismatch",
    "BaseModelError",
    "CorruptAdapter",
    "DataError",
    "DigestMismatch",
    "GateFailed",
    "IdleAdapter",
    "MissingExtra",
    "OfflineError",
    "RecipeError",
    "RegistryError",
    "RunError",
    "SourceError",
    "UnknownName",
    "VerticalError",
    "did_you_mean",
    "find_similar",
    "install_command",
]

LONGEST_NAME = 129
"""Characters of a name that is compared with others."""
MOST_COMPARED = 500


class VerticalError(Exception):
    """The root of the tree. `exit_code` is the exit code of the command line.

    message  what happened and what to do, without the place
    where    the place: a path on this machine, or a key of a recipe; "" if there is none

    `str(error)` is "where: message".
    """

    exit_code = 1

    def __init__(self, message: str = "", *, where: str | Path = "") -> None:
        self.message = message
        self.where = str(where)
        super().__init__(f"{self.where}: {message}" if self.where else message)


class RecipeError(VerticalError):
    """A recipe, or a value set on the command line, is wrong."""

    exit_code = 2


class UnknownName(RecipeError):
    """A name that no catalog has."""

    def __init__(self, kind: str, name: str, known: Iterable[str], where: str = "") -> None:
        known = sorted(known)
        available = ", ".join(known) or "none"
        super().__init__(f"no {kind} is called {name!r}.{did_you_mean(name, known)} Available: {available}.", where=where)


class DataError(VerticalError):
    """The rows are wrong."""

    exit_code = 3


class SourceError(VerticalError):
    """Bytes could not be had."""

    exit_code = 4


class OfflineError(SourceError):
    """The hub or an index cannot be reached."""


class DigestMismatch(SourceError):
    """The bytes are not those that were pinned."""


class BaseModelError(VerticalError):
    """No such base model, or one that cannot do the task."""

    exit_code = 5


class AdapterError(VerticalError):
    """An adapter that cannot be used."""

    exit_code = 6


class CorruptAdapter(AdapterError):
    """A file of the adapter is cut, changed, missing or not safetensors."""


class BaseMismatch(AdapterError):
    """The adapter was made for another base, revision, tokenizer, vocabulary or chat template."""


class IdleAdapter(AdapterError):
    """The adapter changes nothing, or another thing than when it was made."""


class RegistryError(VerticalError):
    """No such reference, a taken version, a bad name."""

    exit_code = 7


class GateFailed(VerticalError):
    """The specialist did not beat what its recipe says it must."""

    exit_code = 8


class RunError(VerticalError):
    """A run cannot go on."""

    exit_code = 9


class MissingExtra(VerticalError):
    """An optional dependency is not installed."""

    exit_code = 10

    def __init__(self, extra: str, what: str) -> None:
        super().__init__(f"{what} needs the extra '{extra}': {install_command(extra)}.")


def install_command(extra: str) -> str:
    """Write how to install an extra: from the place that this installation came from, as pip recorded it (PEP 610)."""
    import json
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        origin = json.loads(distribution("vertical_sdk").read_text("direct_url.json") or "{}")
    except PackageNotFoundError:  # run from its sources
        origin = {"dir_info": {}}
    except (OSError, ValueError):
        origin = {}
    if "dir_info" in origin:
        return f"pip install -c constraints.txt '.[{extra}]', in the folder of its sources"
    if "url" in origin:
        kind = origin.get("vcs_info", {}).get("vcs")
        return f"pip install 'vertical_sdk[{extra}] @ {kind + '+' if kind else ''}{origin['url']}'"
    return f"pip install 'vertical_sdk[{extra}]'"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Write a hint such as " Did you mean 'focal'?"; "" if no known name is near."""
    near = find_similar(name, known, most=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def find_similar(name: str, known: Iterable[str], *, most: int, cutoff: float = 0.6) -> list[str]:
    """Find the known names that are most similar to a name, the nearest first.

    A comparison is slow, so a very long name has none, and of very many known names those with the same start are compared.
    """
    if len(name) > LONGEST_NAME:
        return []
    candidates = [other for other in known if len(other) <= LONGEST_NAME]
    if len(candidates) > MOST_COMPARED:
        candidates = heapq.nlargest(MOST_COMPARED, candidates, key=lambda other: _common_start(name, other))
    return difflib.get_close_matches(name, candidates, n=most, cutoff=cutoff)


def _common_start(name: str, other: str) -> int:
    """The number of characters at the start that are the same."""
    for place, (one, two) in enumerate(zip(name, other, strict=False)):
        if one != two:
            return place
    return min(len(name), len(other))
