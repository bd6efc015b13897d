"""Whether what a server serves is still there: the folder of its registry, and the file of its tokens."""

from __future__ import annotations

from pathlib import Path

from vertical_sdk.errors import RunError, VerticalError
from vertical_sdk.registry import Registry
from vertical_sdk.registry.stores.file import FileStore
from vertical_sdk.server.security.tokens import Tokens

__all__ = ["Presence"]


class Presence:
    """Notices that a registry's folder has gone, such as a volume that is no longer mounted: it would read as an empty registry.

    A folder that was never there is a new registry. Other stores raise an error themselves if they cannot be reached.
    """

    def __init__(self, registry: Registry, tokens: Tokens) -> None:
        self._registry, self._tokens = registry, tokens
        store = registry.store
        self._paths: tuple[Path, ...] = (store.root, store.index.path) if isinstance(store, FileStore) else ()
        self._seen: set[Path] = set()
        self.require()

    def require(self) -> None:
        """Raise RunError if the registry's folder or its index was there and is gone."""
        for path in self._paths:
            if path.exists():
                self._seen.add(path)
            elif path in self._seen:
                raise RunError("the registry's folder cannot be found. Mount or restore it.", where=path)

    def find_problem(self) -> VerticalError | None:
        """Read the registry and the tokens; the error if that is not possible."""
        try:
            self.require()
            self._tokens.check()
            self._registry.store.names(limit=1)
        except VerticalError as error:
            return error
        return None
