"""How often a client may send a request: a token bucket for each client."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

__all__ = ["Buckets"]

MOST_BUCKETS = 10_000
"""Above this number, buckets that have filled up again are forgotten."""


class Buckets:
    """A bucket of `burst` requests for each client, which refills at `rate` requests a second. It is kept in memory."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self.burst = burst
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, client: str) -> int:
        """Take one request out of a client's bucket. Returns 0, or the whole seconds to wait if the bucket is empty."""
        now = self._clock()
        with self._lock:
            if len(self._buckets) >= MOST_BUCKETS:
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
