"""How often a client may send a request, and how many are answered at the same time."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import anyio

__all__ = ["Buckets", "Slots"]

MOST_BUCKETS = 10_000
"""Above this number, buckets that have filled up again are forgotten, once a second."""
AT_ONCE = 8
"""Requests that are started at the same time."""
LONG = 0.1
"""Seconds after which a request no longer counts as one that starts."""


class Buckets:
    """A bucket of `burst` requests for each client, which refills at `rate` requests a second. It is kept in memory."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self.burst = burst
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}
        self._cleaned = -math.inf

    def take(self, client: str) -> int:
        """Take one request out of a client's bucket. Returns 0, or the whole seconds to wait if the bucket is empty."""
        now = self._clock()
        with self._lock:
            if len(self._buckets) >= MOST_BUCKETS and now - self._cleaned > 1:
                self._cleaned = now
                self._buckets = {key: value for key, value in self._buckets.items() if self._level(value, now) < self.burst}
            level = self._level(self._buckets.get(client, (float(self.burst), now)), now)
            if level >= 1:
                self._buckets[client] = (level - 1, now)
                return 0
            self._buckets[client] = (level, now)
            return max(1, math.ceil((1 - level) / self.rate))

    def _level(self, bucket: tuple[float, float], now: float) -> float:
        level, at = bucket
        return min(float(self.burst), level + (now - at) * self.rate)


@dataclass
class _Share:
    """The slots of one client, and how many of its requests have or want one."""

    slots: anyio.Semaphore
    requests: int = 0


class Slot(contextlib.AsyncExitStack):
    """The slot of a request; `held` is False if none became free in time."""

    held = False


class Slots:
    """Requests that are answered at the same time: `most` in all and `each` of one client. The others wait for `patience` seconds.

    Of those, a few are started at the same time, so that a crowd does not make the event loop slow for health checks. A request that
    takes long lets the next one start.
    """

    def __init__(self, most: int, each: int, patience: float) -> None:
        self.each, self.patience = each, patience
        self._all = anyio.Semaphore(most)
        self._starting = anyio.Semaphore(AT_ONCE)
        self._shares: dict[str, _Share] = {}

    @contextlib.asynccontextmanager
    async def hold(self, client: str) -> AsyncIterator[Slot]:
        """Hold a slot until it is closed, or the block ends."""
        share = self._shares.setdefault(client, _Share(anyio.Semaphore(self.each)))
        share.requests += 1
        try:
            async with Slot() as slot:
                with anyio.move_on_after(self.patience):
                    await slot.enter_async_context(share.slots)
                    await slot.enter_async_context(self._all)
                    await self._starting.acquire()
                    slot.held = True
                    let_next_start = _call_once(self._starting.release)
                    slot.callback(let_next_start)
                    asyncio.get_running_loop().call_later(LONG, let_next_start)
                yield slot
        finally:
            share.requests -= 1
            if not share.requests:
                del self._shares[client]


def _call_once(action: Callable[[], None]) -> Callable[[], None]:
    """A function that does something when it is called first."""
    left = [action]

    def call() -> None:
        if left:
            left.pop()()

    return call
