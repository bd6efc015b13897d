"""How many threads are worth using now: what the machine, its container and other processes leave free."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import torch

__all__ = ["SMALL_PRODUCT", "SMALL_TABLE", "count_free_threads", "count_threads_for", "use_threads", "use_threads_for"]

QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""The processor time that a container may use, of each period: "200000 100000" are two cores, "max 100000" all (cgroup v2)."""
OLD_QUOTA = (Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us"))
"""The same of cgroup v1; -1 means no quota."""
SECONDS = 0.05
SMALL = 200_000_000
"""Multiplications and additions of a step of a fit below which one thread is used: they take a few hundredths of a second."""
SMALL_PRODUCT = 20_000_000
"""Multiplications and additions of a layer's product below which one thread is used: they take a third of a millisecond."""
SMALL_TABLE = 500_000
"""Cells of a table below which LightGBM uses one thread. Its trees are the same for any number of threads."""
WORTH = 1.2
"""More threads are used if they are so many times as fast as half of them."""
RECENT = 60.0
"""Seconds for which `count_threads_for` uses what was measured: measuring takes a tenth of a second."""
_measured: tuple[float, int] = (-math.inf, 1)
"""When the free threads were measured by `count_threads_for`, and how many there were."""


def count_free_threads() -> int:
    """The number of threads that computes fastest now: measured, since threads that share a core wait for each other.

    At most as many as PyTorch would use, as this process may run on, and as its container may use. `$OMP_NUM_THREADS` decides if it
    is set.
    """
    threads = torch.get_num_threads()
    if threads == 1 or os.environ.get("OMP_NUM_THREADS"):
        return threads
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(1, min(threads, usable, _container_cores()))
    while threads > 1 and _rate(threads) < WORTH * _rate(threads // 2):
        threads //= 2
    return threads


def count_threads_for(size: float, small: float) -> int:
    """The number of threads for some work: one if its steps are small, else `count_free_threads`, measured in the last minute.

    Threads wait for each other at the end of each step. With other processes on both of two cores, a step of 10⁸ operations took 14
    times as long in two threads as in one, trees on 50,000 rows of 30 columns 3 times, and one text in minilm-l6 15 times.
    """
    global _measured  # noqa: PLW0603
    if size < small or torch.get_num_threads() == 1:
        return 1
    if time.monotonic() - _measured[0] > RECENT:
        _measured = time.monotonic(), count_free_threads()
    return min(_measured[1], torch.get_num_threads())


@contextlib.contextmanager
def use_threads_for(operations: float) -> Iterator[None]:
    """Let scikit-learn and its libraries compute with the threads for steps of so many multiplications and additions within it."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(count_threads_for(operations, SMALL)):
        yield


@contextlib.contextmanager
def use_threads(threads: int) -> Iterator[None]:
    """Compute with so many threads within it."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _container_cores() -> int:
    """The cores that the container's quota of processor time is worth, rounded up; a large number without a quota."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = QUOTA.read_text().split()
        return 1 << 20 if quota == "max" else math.ceil(int(quota) / int(period))
    with contextlib.suppress(OSError, ValueError):
        quota, period = (path.read_text() for path in OLD_QUOTA)
        return 1 << 20 if int(quota) < 0 else math.ceil(int(quota) / int(period))
    return 1 << 20


def _rate(threads: int) -> float:
    """Products a second with so many threads, waiting for other processes included."""
    x = torch.randn(512, 512)
    with use_threads(threads), torch.inference_mode():
        x @ x
        calls, began = 0, time.perf_counter()
        while (seconds := time.perf_counter() - began) < SECONDS:
            x @ x
            calls += 1
    return calls / seconds
