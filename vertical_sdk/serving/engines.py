"""The engines of a service: one for each base, and one for specialists without an adapter."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from vertical_sdk.adapters.folder import Adapter, read_adapter
from vertical_sdk.bases.base import Base, pull_base
from vertical_sdk.card import Card
from vertical_sdk.engines import OnDemandEngine
from vertical_sdk.engines.members import MembersEngine
from vertical_sdk.errors import AdapterError
from vertical_sdk.registry.version import Version
from vertical_sdk.serving.served import Served
from vertical_sdk.serving.settings import ServingSettings
from vertical_sdk.tables import ENGINES
from vertical_sdk.types import Progress, silent

__all__ = ["Engines", "name_base"]


class Engines:
    """Loads versions onto their bases, each base once.

    bases  places of bases, such as folders; a base that is not among them is found by the name on the card
    """

    def __init__(self, settings: ServingSettings, bases: Sequence[str] = (), progress: Progress = silent) -> None:
        self._settings, self._progress = settings, progress
        self._given = [pull_base(place, progress=progress) for place in bases]
        self._engines: dict[str, OnDemandEngine] = {}
        self._members = MembersEngine()
        self._adapters: dict[str, Adapter] = {}
        self._lock = threading.Lock()

    @property
    def bases(self) -> tuple[Base, ...]:
        """The bases that are loaded."""
        return tuple(engine.base for engine in self._engines.values())

    def open(self, version: Version) -> Served:
        """Load a version, whose files are checked and whose self-tests are replayed.

        Raises what `read_adapter`, `pull_base` and the engine's `load` raise.
        """
        adapter = read_adapter(version)
        with self._lock:
            if adapter.card.members_only:
                served = Served(version, adapter, self._members)
                self._members.load(adapter, served.key)
                return served
            engine = self._find_engine(adapter.card)
            served = Served(version, adapter, engine)
            self._adapters[served.key] = adapter
            try:
                engine.pin(served.key)
            except BaseException:
                self._forget(served)
                raise
            engine.unpin(served.key)
            return served

    def pin(self, served: Served, *, pinned: bool) -> None:
        """Keep a version in memory, or let it make room for others. Raises AdapterError if there is no room beside others."""
        engine = served.engine
        if isinstance(engine, OnDemandEngine):
            (engine.pin if pinned else engine.unpin)(served.key)

    def close(self, served: Served) -> None:
        """Unload a version that no request uses."""
        with self._lock:
            self._forget(served)

    def _forget(self, served: Served) -> None:
        engine = served.engine
        self._adapters.pop(served.key, None)
        with contextlib.suppress(AdapterError):  # it was not loaded
            (engine.forget if isinstance(engine, OnDemandEngine) else engine.unload)(served.key)

    def _find_engine(self, card: Card) -> OnDemandEngine:
        """The engine of a card's base, with its memory for adapters."""
        trained_on = card.base
        base = next((given for given in self._given if given.fingerprint.weights == trained_on.weights), None)
        if base is None and self._given:
            base = self._given[0]  # the engine says how it differs
        base = base or pull_base(trained_on.name, revision=trained_on.revision, progress=self._progress)
        known = self._engines.get(base.fingerprint.weights)
        if known is None:
            engine = ENGINES.load("torch")(base, device=self._settings.device, dtype=self._settings.dtype)
            known = OnDemandEngine(engine, self._adapters.__getitem__, memory=self._settings.memory)
            self._engines[base.fingerprint.weights] = known
        return known

    def __iter__(self) -> Iterator[OnDemandEngine]:
        return iter(self._engines.values())


def name_base(base: Base) -> str:
    """The name of a base as clients see it: of a folder of this machine, only its last part."""
    return Path(base.name).name if base.hub_id is None else base.name
