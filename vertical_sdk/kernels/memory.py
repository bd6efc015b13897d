"""Memory that a training keeps from one step to the next.

glibc returns large blocks to the system when they are freed, and the system clears each page again when it is used again. In training,
which allocates the same gigabytes in every step, that can take a tenth of the time.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

__all__ = ["kept_pages"]

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
"""Parameters of mallopt (malloc.h)."""
LARGEST = 32 << 20
"""What glibc's own rule raises the threshold of mmap to, after larger blocks were freed; it trims at twice of it."""


@contextlib.contextmanager
def kept_pages() -> Iterator[None]:
    """Within it, freed memory stays with the process; afterwards it is returned. Does nothing without glibc."""
    try:
        library = ctypes.CDLL(None)
        change, trim = library.mallopt, library.malloc_trim
    except (OSError, TypeError, AttributeError):  # macOS, Windows, musl
        yield
        return
    change(TRIM_THRESHOLD, -1)
    change(MMAP_MAX, 0)
    try:
        yield
    finally:
        change(MMAP_MAX, 65536)
        change(MMAP_THRESHOLD, LARGEST)
        change(TRIM_THRESHOLD, 2 * LARGEST)
        trim(0)
