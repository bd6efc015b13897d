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

A message says where, what, and what would be right. Exit code 1 is a bug of ours, 130 is Ctrl-C.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

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
]


class VerticalError(Exception):
    """The root of the tree; `exit_code` is what the command line ends with."""

    exit_code = 1


class RecipeError(VerticalError):
    """A recipe, or a value set on the command line, is wrong."""

    exit_code = 2


class UnknownName(RecipeError):
    """A name that no catalog has."""

    def __init__(self, kind: str, name: str, known: Iterable[str], where: str = "") -> None:
        known = sorted(known)
        at = f"{where}: " if where else ""
        super().__init__(
            f"{at}no {kind} is called {name!r}.{did_you_mean(name, known)} Available: {', '.join(known) or 'none'}."
        )


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
        super().__init__(f"{what} needs the extra '{extra}': pip install 'vertical_sdk[{extra}]'.")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint such as " Did you mean 'focal'?", or nothing where no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""
