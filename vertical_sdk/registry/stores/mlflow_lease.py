"""Leases of a name on an MLflow server, which has no compare-and-swap and no transactions: one writer at a time.

A writer that publishes or moves an alias first acquires a lease: a tag of the registered model under a unique key. Each writer writes
its own tag, then reads all tags, and continues when its tag is the only one. If two writers see each other, the later one withdraws
its tag and waits until no other tag is left. A writer removes another's tag after it has seen it for a minute by its own clock, since
that tag belongs to a dead process. The holder of a lease starts no change after half a minute.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vertical_sdk.errors import RunError
from vertical_sdk.registry.stores.mlflow_server import Server
from vertical_sdk.registry.stores.mlflow_tags import LEASE, make_key

__all__ = ["Lease", "acquire_lease"]

DURATION = 60.0
"""Seconds for which a writer must see another's lease before it removes it."""
PATIENCE = 300.0
"""Seconds to wait for a lease."""


@dataclass(frozen=True)
class Lease:
    """The right to change a name while no other writer does."""

    model: str
    registered: Any
    """The registered model at the start of the lease."""
    start: float

    def check(self) -> None:
        """Check that there is time for a change. Raises RunError if there is not."""
        if time.monotonic() - self.start > DURATION / 2:
            raise RunError(f"the MLflow server was too slow: the lease of {self.model!r} has expired. Try again.")


@contextlib.contextmanager
def acquire_lease(server: Server, model: str) -> Iterator[Lease]:
    """Become the only writer of a name. Raises RunError if other writers do not stop."""
    deadline = time.monotonic() + PATIENCE
    first_seen: dict[str, float] = {}
    other_keys: list[str] = []
    own_key, start = "", 0.0
    try:
        while True:
            if not own_key and not other_keys:
                own_key, start = make_key(LEASE), time.monotonic()
                server.call("set_registered_model_tag", model, own_key, "a write in progress")
            registered = server.call("get_registered_model", model)
            now = time.monotonic()
            other_keys = sorted(key for key in registered.tags if key.startswith(LEASE) and key != own_key)
            stale = now - start > DURATION / 4  # others have seen it while it waited, so they would remove it too soon
            if own_key and not other_keys and not stale:
                break
            for key in other_keys:
                if now - first_seen.setdefault(key, now) > DURATION:
                    server.call("delete_registered_model_tag", model, key)
            if now > deadline:
                raise RunError(f"{server.uri}: others have been writing to {model!r} for {PATIENCE:.0f} s. Try again.")
            if own_key and (stale or other_keys[0] < own_key):
                server.call("delete_registered_model_tag", model, own_key)
                own_key = ""
            time.sleep(random.uniform(0.02, 0.1))  # noqa: S311
        yield Lease(model, registered, start)
    finally:
        if own_key:
            server.call("delete_registered_model_tag", model, own_key)
