"""Logs that a client cannot fill: of lines that anybody can cause, only some are written, and the others are counted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

__all__ = ["Allowance", "limit_library_logs"]

LIBRARIES = ("asyncio", "uvicorn.error")
LINES = 5
MINUTE = 60.0


class Allowance:
    """So many lines in each period; those above are counted."""

    def __init__(self, lines: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.lines, self.seconds = lines, seconds
        self._clock = clock
        self._start, self._used, self._left_out = clock(), 0, 0

    def take(self) -> int | None:
        """None if the next line must be left out; else the number of lines that were left out before it."""
        now = self._clock()
        if now - self._start >= self.seconds:
            self._start, self._used = now, 0
        if self._used >= self.lines:
            self._left_out += 1
            return None
        self._used += 1
        left_out, self._left_out = self._left_out, 0
        return left_out


class _Filter(logging.Filter):
    """Lets a few records of each message through in a minute: a message has the same text before its values are put in."""

    def __init__(self) -> None:
        super().__init__()
        self._allowances: dict[object, Allowance] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is written."""
        kind = record.name, record.levelno, record.lineno
        left_out = self._allowances.setdefault(kind, Allowance(LINES, MINUTE)).take()
        if left_out:
            record.msg = f"{record.msg} ({left_out} like it were left out)"
        return left_out is not None


def limit_library_logs() -> None:
    """Limit what asyncio and uvicorn log: a line with a trace for each connection that fails would fill a disk."""
    for name in LIBRARIES:
        logger = logging.getLogger(name)
        if not any(isinstance(present, _Filter) for present in logger.filters):
            logger.addFilter(_Filter())
