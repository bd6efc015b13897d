"""Which version answers for a reference: aliases are followed, revoked versions stop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vertical_sdk.errors import RegistryError, VerticalError
from vertical_sdk.registry import Registry
from vertical_sdk.registry.references import parse_reference
from vertical_sdk.registry.version import Version
from vertical_sdk.serving.engines import Engines
from vertical_sdk.serving.problems import RevokedModel, UnknownModel
from vertical_sdk.serving.served import Served

__all__ = ["Entry", "Specialists"]

SHOWN = 20
"""References that a message names."""


@dataclass
class Entry:
    """A reference that clients may name.

    served   the version that answers new requests
    pinned   whether it stays in memory
    problem  why the version that the reference means now does not answer, such as a self-test that failed; "" if it does
    revoked  why the version that the reference means now must not be used, if it is another one than `served`
    """

    reference: str
    served: Served
    pinned: bool = False
    problem: str = ""
    revoked: str | None = None


class Specialists:
    """The references that are served. Many threads may use it.

    A reference with an alias, or a bare name, is followed: `refresh` loads and checks the version that it means now, and only then new
    requests get it. requests that have started keep their version, which is unloaded after the last of them.

    log  receives a dict for each change
    """

    def __init__(self, registry: Registry, engines: Engines, log: Callable[[dict[str, Any]], None] = lambda _: None) -> None:
        self._registry, self._engines, self._log = registry, engines, log
        self._entries: dict[str, Entry] = {}
        self._retired: list[Served] = []
        self._changing = threading.Lock()  # one change at a time; look-ups do not wait for it
        self._lock = threading.Lock()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The references in the order in which they were added."""
        with self._lock:
            return tuple(self._entries.values())

    def find(self, model: str) -> Served:
        """Find the version that answers for a model: a reference that is served, or the number or digest of a version that is loaded.

        Raises UnknownModel, RevokedModel.
        """
        with self._lock:
            return self._find(model)

    def take(self, model: str) -> Served:
        """Find the version that answers for a model, as `find` does, and keep it loaded until its `release`."""
        with self._lock:  # so that it is not unloaded in between
            served = self._find(model)
            served.acquire()
            return served

    def take_reader(self, family: str, base: str) -> Served | None:
        """Find a specialist of a family that reads with a base, by the digest of its weights, and keep it loaded until its `release`."""
        with self._lock:
            for entry in self._entries.values():
                card = entry.served.adapter.card
                if entry.served.revoked is None and (card.family, card.base.weights) == (family, base):
                    entry.served.acquire()
                    return entry.served
        return None

    def add(self, reference: str, *, pinned: bool = False) -> Entry:
        """Serve a reference; if it is served already, set whether it is pinned.

        Raises RegistryError for a reference that does not exist or was revoked, and what loading raises.
        """
        with self._changing:
            entry = self._entries.get(reference)
            if entry is None:
                version = self._registry.resolve(reference)
                entry = Entry(reference, self._open(version))
                with self._lock:
                    self._entries[reference] = entry
                self._log({"specialist": reference, "loaded": str(version), "digest": version.digest})
            entry.pinned = pinned
            self._pin(entry.served)
            return entry

    def remove(self, reference: str) -> None:
        """Serve a reference no more; requests that have started end as usual. Raises UnknownModel."""
        with self._changing:
            with self._lock:
                entry = self._entries.pop(reference, None)
            if entry is None:
                raise UnknownModel(
                    f"{reference!r:.200} is not served here. Served: {', '.join(self._entries)[:2000] or 'none'}."
                )
            self._pin(entry.served)
            self._retire(entry.served)
            self._log({"specialist": reference, "unloaded": str(entry.served.version)})

    def refresh(self) -> None:
        """Follow aliases that moved, stop revoked versions, and unload what no one uses.

        If the registry cannot be read, or a new version fails its checks, the version before answers, and `Entry.problem` says why.
        """
        with self._changing:
            for entry in self.entries:
                self._note(entry, self._follow(entry))
            for served in dict.fromkeys([*(entry.served for entry in self.entries), *self._retired]):
                self._check_revoked(served)
            for served in [served for served in self._retired if not served.in_use]:
                self._retired.remove(served)
                self._engines.close(served)

    def _follow(self, entry: Entry) -> str:
        """Let new requests be answered by the version that a reference means now. Returns why that is not possible, "" if it is."""
        try:
            self._switch(entry)
        except VerticalError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001  (whatever one version does to its loading, the others are followed)
            return f"{type(error).__name__}: {error}"
        return ""

    def _switch(self, entry: Entry) -> None:
        now = self._registry.resolve(entry.reference, check=False)
        reason = _find_reason(now)
        if str(now) == str(entry.served.version):
            entry.revoked = None  # `_check_revoked` tells
        elif reason is not None:
            entry.revoked = reason
        else:
            before, new = entry.served, self._open(self._registry.resolve(str(now)))
            with self._lock:
                entry.served, entry.revoked = new, None
            self._pin(new)
            self._pin(before)
            self._retire(before)
            self._log({"specialist": entry.reference, "loaded": str(now), "digest": now.digest, "before": str(before.version)})

    def _check_revoked(self, served: Served) -> None:
        try:
            reason = _find_reason(self._registry.resolve(str(served.version), check=False))
        except Exception:  # noqa: BLE001  (the registry cannot be read; `_follow` has noted it)
            return
        if reason != served.revoked:
            served.revoked = reason
            self._log({"specialist": str(served.version), "revoked": reason})

    def _note(self, entry: Entry, problem: str) -> None:
        if problem and problem != entry.problem:
            self._log({"specialist": entry.reference, "problem": problem})
        entry.problem = problem

    def _open(self, version: Version) -> Served:
        """Load a version, unless it is loaded already."""
        for served in [*(entry.served for entry in self.entries), *self._retired]:
            if str(served.version) == str(version):
                if served in self._retired:
                    self._retired.remove(served)
                return served
        return self._engines.open(version)

    def _retire(self, served: Served) -> None:
        """Unload a version later if no entry has it any more."""
        if all(entry.served is not served for entry in self.entries):
            self._retired.append(served)

    def _pin(self, served: Served) -> None:
        """Keep a version in memory if one of its entries is pinned. Raises AdapterError if there is no room beside others."""
        self._engines.pin(served, pinned=any(entry.pinned for entry in self.entries if entry.served is served))

    def _find(self, model: str) -> Served:
        entry = self._entries.get(model)
        served = entry.served if entry is not None else self._find_version(model)
        if served is None:
            known = [*self._entries]
            more = ", …" if len(known) > SHOWN else ""
            raise UnknownModel(f"no model is called {model!r:.200} here. Served: {', '.join(known[:SHOWN]) or 'none'}{more}.")
        if entry is not None and entry.revoked is not None:
            raise RevokedModel(f"{model} means a version that was revoked: {entry.revoked}. Ask another one.")
        served.require_valid()
        return served

    def _find_version(self, model: str) -> Served | None:
        """The loaded version that a number or a digest means."""
        try:
            wanted = parse_reference(model)
        except RegistryError:
            return None
        for entry in self._entries.values():
            version = entry.served.version
            if version.name == wanted.name and (
                version.number == wanted.version or (wanted.digest is not None and version.digest.startswith(wanted.digest))
            ):
                return entry.served
        return None


def _find_reason(version: Version) -> str | None:
    """Why a version must not be used; None if it may."""
    return version.revoked if version.revoked is not None else version.purged
