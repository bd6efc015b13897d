"""Many adapters within a memory budget: each is loaded when it is first named, and the least recently used ones are unloaded."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from vertical_sdk.adapters.folder import Adapter
from vertical_sdk.baselines.frozen_base import FrozenBase
from vertical_sdk.bases.base import Base
from vertical_sdk.engines.engine import LIKELIEST, Engine, Raw, Stream, renumber
from vertical_sdk.errors import AdapterError
from vertical_sdk.families.continuation import Decoding
from vertical_sdk.types import Example, GeneratedText, Message, Progress, silent

__all__ = ["OnDemandEngine"]

Result = TypeVar("Result")


class OnDemandEngine:
    """Another engine, on which adapters are resident as long as they are used.

    engine  runs the adapters; it must not be used besides
    find    returns the adapter of a name, such as `open_adapter` for references and folders. It is called once for each name: a
            reference with an alias ("medical/icd-chapter@production") keeps the version that it had then, until `forget`
    memory  bytes of the resident adapters at most; an adapter counts with the size of its safetensors files

    The weights of the base are loaded once. A call whose adapters do not fit together runs in parts; one that finds too little room
    waits until other calls have ended. Adapters that a running call uses, and those that are pinned, stay.
    """

    def __init__(self, engine: Engine, find: Callable[[str], Adapter], *, memory: int) -> None:
        self._engine = engine
        self._find = find
        self._memory = memory
        self._found: dict[str, Adapter] = {}
        self._sizes: OrderedDict[str, int] = (
            OrderedDict()
        )  # of the resident adapters and those being loaded, least recent first
        self._users: Counter[str] = Counter()
        self._pinned: set[str] = set()
        self._loading: dict[str, threading.Lock] = {}
        self._changed = threading.Condition()

    @property
    def base(self) -> Base:
        """The base model that all adapters share."""
        return self._engine.base

    @property
    def adapters(self) -> tuple[str, ...]:
        """The names of the resident adapters."""
        return self._engine.adapters

    def adapter(self, name: str) -> Adapter:
        """Find an adapter: its card, recipe and folder. Its weights are not loaded; raises what `find` raises."""
        found = self._found.get(name)
        if found is None:
            found = self._found.setdefault(name, self._find(name))
        return found

    def load(self, adapter: Adapter, name: str = "") -> str:
        """Load an adapter that `find` need not know, and pin it.

        Raises what the engine's `load` raises, and AdapterError if it does not fit into the memory.
        """
        name = name or adapter.card.name
        with self._changed:
            if name in self._sizes:
                raise AdapterError(f"an adapter is already called {name!r} here. Give another name=.")
            self._found[name] = adapter
        self.pin(name)
        return name

    def unload(self, name: str) -> None:
        """Unload a resident adapter and forget what `find` returned. Calls that use it already run to their end.

        Raises AdapterError for a name that is not resident.
        """
        with self._changed:
            self._engine.unload(name)
            self._pinned.discard(name)
            self._found.pop(name, None)
            self._sizes.pop(name, None)
            self._changed.notify_all()

    def forget(self, name: str) -> None:
        """Find an adapter again when it is named the next time, such as after an alias has moved."""
        with self._changed:
            if name in self._engine.adapters:
                self.unload(name)
            self._found.pop(name, None)

    def pin(self, name: str) -> None:
        """Load an adapter and keep it until `unpin`. Raises AdapterError if it does not fit into the memory beside other pinned ones."""
        with self._use([name]), self._changed:
            self._pinned.add(name)

    def unpin(self, name: str) -> None:
        """Let an adapter be unloaded again; nothing happens if it is not pinned."""
        with self._changed:
            self._pinned.discard(name)
            self._changed.notify_all()

    def outputs(
        self,
        rows: Sequence[Example],
        adapters: Sequence[str],
        *,
        batch_size: int | None = None,
        progress: Progress = silent,
    ) -> list[Raw]:
        """Compute the raw output of each row by its adapter, as the engine does."""

        def run(positions: list[int], own: list[str]) -> list[Raw]:
            return self._engine.outputs([rows[n] for n in positions], own, batch_size=batch_size, progress=progress)

        return self._run_parts(adapters, run)

    def general(self, name: str, progress: Progress = silent) -> FrozenBase:
        """Return the base without the adapter, reading rows as the adapter does."""
        with self._use([name]):
            return self._engine.general(name, progress)

    def generate(
        self,
        prompts: Sequence[Sequence[Message]],
        adapters: Sequence[str],
        *,
        decoding: Decoding = LIKELIEST,
        batch_size: int = 8,
        stream: Stream | None = None,
        progress: Progress = silent,
    ) -> list[GeneratedText]:
        """Write an answer to each conversation, as the engine does."""

        def run(positions: list[int], own: list[str]) -> list[GeneratedText]:
            part, renumbered = [prompts[n] for n in positions], renumber(stream, positions)
            return self._engine.generate(
                part, own, decoding=decoding, batch_size=batch_size, stream=renumbered, progress=progress
            )

        return self._run_parts(adapters, run)

    def _run_parts(self, adapters: Sequence[str], run: Callable[[list[int], list[str]], list[Result]]) -> list[Result]:
        """Run a call in parts, of which the adapters of each fit into the memory.

        run  gets the positions of a part and their adapters, and returns a result for each
        """
        results: dict[int, Result] = {}
        for names in self._split(adapters) or [[]]:
            positions = [n for n, name in enumerate(adapters) if name in names]
            with self._use(names):
                results |= zip(positions, run(positions, [adapters[n] for n in positions]), strict=True)
        return [results[n] for n in range(len(adapters))]

    def _split(self, adapters: Iterable[str]) -> list[list[str]]:
        """The names in groups that fit into the memory beside what is pinned; one that does not is a group of its own."""
        names = list(dict.fromkeys(adapters))
        with self._changed:
            pinned = {name: self._sizes[name] for name in self._pinned}
        room = self._memory - sum(pinned.values())
        groups: list[list[str]] = []
        left = -1
        for name in names:
            size = 0 if name in pinned else _measure(self.adapter(name))
            if size > left:
                groups.append([])
                left = room
            groups[-1].append(name)
            left -= size
        return groups

    @contextlib.contextmanager
    def _use(self, names: Sequence[str]) -> Iterator[None]:
        """Keep adapters resident within the block; those that are not are loaded before it, each by one thread.

        All of them are counted at once, so no thread waits while it keeps others waiting. Raises AdapterError if they cannot fit.
        """
        sizes = {name: _measure(self.adapter(name)) for name in names}
        with self._changed:
            while not self._reserve(sizes):
                self._changed.wait()
        try:
            for name in names:
                self._load_once(name)
            yield
        finally:
            with self._changed:
                self._users.subtract(names)
                self._users += Counter()  # without those at 0
                for name in set(names) & (set(self._sizes) - set(self._engine.adapters) - set(self._users)):
                    del self._sizes[name]  # its load has failed
                self._changed.notify_all()

    def _reserve(self, sizes: dict[str, int]) -> bool:
        """Count adapters as used if there is room for all of them, and unload others for it, the least recently used first.

        Raises AdapterError if there is not enough room even when no other call runs.
        """
        room = self._memory - sum(size for name, size in self._sizes.items() if name in self._pinned and name not in sizes)
        if sum(sizes.values()) > room:
            raise AdapterError(
                f"{', '.join(sizes)[:200]} needs {sum(sizes.values()):,} bytes, and {room:,} of {self._memory:,} are left beside pinned "
                "adapters. Raise memory, or unpin others."
            )
        busy = sum(size for name, size in self._sizes.items() if name in self._users or name in self._pinned or name in sizes)
        missing = {name: size for name, size in sizes.items() if name not in self._sizes}
        if busy + sum(missing.values()) > self._memory:
            return False
        self._users.update(sizes.keys())
        excess = sum(self._sizes.values()) + sum(missing.values()) - self._memory
        for name in [name for name in self._sizes if name not in self._users and name not in self._pinned]:
            if excess <= 0:
                break
            excess -= self._sizes.pop(name)
            self._engine.unload(name)
            self._found[name] = dataclasses.replace(self._found[name])  # without the members that were read for it
        for name, size in sizes.items():
            self._sizes[name] = size
            self._sizes.move_to_end(name)
        return True

    def _load_once(self, name: str) -> None:
        with self._changed:
            lock = self._loading.setdefault(name, threading.Lock())
        with lock:
            if name not in self._engine.adapters:
                self._engine.load(self.adapter(name), name)


def _measure(adapter: Adapter) -> int:
    """The size of an adapter's safetensors files, in bytes."""
    files = [name for name in adapter.files.digests or () if name.endswith(".safetensors")]
    return sum((adapter.folder / name).stat().st_size for name in files)
