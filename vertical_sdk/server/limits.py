"""How much a server takes: sizes, and how often somebody may ask."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Buckets", "Limits"]

FULL = 10_000
"""Buckets that are kept before those that are full again are let go."""


@dataclass(frozen=True)
class Limits:
    """Sizes in bytes, times in seconds.

    body      of a request that is not a file
    headers   of a request, its line with them
    file      of one file of a version
    version   of all files of a version; a token may have four times as much uploaded and not published yet
    files     how many files a version may have
    rate      requests a second that a token, or an address without one, may make on average
    burst     requests that it may make at once
    silence   how long a client may say nothing in the middle of a request
    keep      how long files wait that were uploaded and not published
    together  requests that are answered at once; those above are told to come back
    """

    body: int = 1 << 20
    headers: int = 32 << 10
    file: int = 4 << 30
    version: int = 8 << 30
    files: int = 1000
    rate: float = 100.0
    burst: int = 1000
    silence: float = 60.0
    keep: float = 24 * 3600.0
    together: int = 200


class Buckets:
    """A bucket of `burst` requests for everybody, which fills again at `rate` a second; kept in memory."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self.burst = burst
        self._clock = clock
        self._lock = threading.Lock()
        self._left: dict[str, tuple[float, float]] = {}

    def wait(self, who: str) -> int:
        """Take one request out of somebody's bucket. 0, or the whole seconds to wait where there is none left."""
        now = self._clock()
        with self._lock:
            if len(self._left) >= FULL:
                self._left = {key: value for key, value in self._left.items() if self._now(value, now) < self.burst}
            left = self._now(self._left.get(who, (float(self.burst), now)), now)
            if left >= 1:
                self._left[who] = (left - 1, now)
                return 0
            self._left[who] = (left, now)
            return max(1, math.ceil((1 - left) / self.rate))

    def _now(self, bucket: tuple[float, float], now: float) -> float:
        left, at = bucket
        return min(float(self.burst), left + (now - at) * self.rate)
