"""A version that answers, on its engine."""

from __future__ import annotations

import threading

from vertical_sdk.adapters.folder import Adapter
from vertical_sdk.engines import Engine
from vertical_sdk.registry.version import Version
from vertical_sdk.serving.problems import RevokedModel

__all__ = ["Served"]


class Served:
    """A published version that is loaded. What belongs to it is found by its digest, never by a name that may move.

    key      the reference with the digest; the engine knows the adapter by it
    revoked  why the version must not be used any more; None if it may
    """

    def __init__(self, version: Version, adapter: Adapter, engine: Engine) -> None:
        self.key = f"{version.name}@sha256:{version.digest}"
        self.version, self.adapter, self.engine = version, adapter, engine
        self.revoked: str | None = None
        self._users = 0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Served {self.version}>"

    @property
    def in_use(self) -> bool:
        """Whether a request uses it."""
        return self._users > 0

    def acquire(self) -> None:
        """Keep it loaded until `release`."""
        with self._lock:
            self._users += 1

    def release(self) -> None:
        """A request that used it has ended."""
        with self._lock:
            self._users -= 1

    @property
    def problem(self) -> RevokedModel | None:
        """The error of every request, if the version was revoked."""
        return (
            None if self.revoked is None else RevokedModel(f"{self.version} was revoked: {self.revoked}. Ask another version.")
        )

    def require_valid(self) -> None:
        """Raise RevokedModel if the version was revoked."""
        if (problem := self.problem) is not None:
            raise problem
