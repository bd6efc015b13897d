"""Turns at a name on an MLflow server, which has no compare-and-swap and no transactions: one writer after the other.

Who publishes or moves an alias first takes a turn: a tag of the registered model under a key that nobody else has. Each writes its
own, then reads all, and goes on when it is alone; of two that see each other the later one steps back until no other is there. A
turn that others have watched for a minute, by their own clocks, is taken to be of a dead process and removed; its holder begins no
change after half of that.
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
from vertical_sdk.registry.stores.mlflow_tags import TURN, new_key

__all__ = ["Turn", "take_turn"]

LEASE = 60.0
"""Seconds after which a turn that was watched so long is taken away."""
PATIENCE = 300.0
"""Seconds to wait for a turn."""


@dataclass(frozen=True)
class Turn:
    """The time in which nobody else changes a name."""

    model: str
    registered: Any
    """The registered model as it is while it lasts."""
    began: float

    def check(self) -> None:
        """See that there is time for a change. Raises RunError."""
        if time.monotonic() - self.began > LEASE / 2:
            raise RunError(f"the MLflow server was too slow: the turn at {self.model!r} is over. Try again.")


@contextlib.contextmanager
def take_turn(server: Server, model: str) -> Iterator[Turn]:
    """Be the only one who changes a name. Raises RunError where others do not stop writing."""
    until = time.monotonic() + PATIENCE
    watched: dict[str, float] = {}
    others: list[str] = []
    mine, began = "", 0.0
    try:
        while True:
            if not mine and not others:
                mine, began = new_key(TURN), time.monotonic()
                server.ask("set_registered_model_tag", model, mine, "a write that is going on")
            registered = server.ask("get_registered_model", model)
            now = time.monotonic()
            others = sorted(key for key in registered.tags if key.startswith(TURN) and key != mine)
            stale = now - began > LEASE / 4  # others have watched it while it waited, so that it would end too soon
            if mine and not others and not stale:
                break
            for other in others:
                if now - watched.setdefault(other, now) > LEASE:
                    server.ask("delete_registered_model_tag", model, other)
            if now > until:
                raise RunError(f"{server.uri}: others have been writing to {model!r} for {PATIENCE:.0f} s. Try again.")
            if mine and (stale or others[0] < mine):
                server.ask("delete_registered_model_tag", model, mine)
                mine = ""
            time.sleep(random.uniform(0.02, 0.1))  # noqa: S311
        yield Turn(model, registered, began)
    finally:
        if mine:
            server.ask("delete_registered_model_tag", model, mine)
