from __future__ import annotations

import ctypes
import resource
from pathlib import Path

import pytest
import torch

from vertical_sdk.kernels.memory import kept_pages

BYTES = 64 << 20
pytestmark = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="only glibc")


def _faults_of_a_block() -> int:
    """Pages that the system gives to a block of BYTES, which is freed afterwards."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(BYTES // 4)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def _resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_a_block_uses_the_pages_of_those_before() -> None:
    pages = BYTES / resource.getpagesize()

    without = min(_faults_of_a_block() for _ in range(3))
    with kept_pages():
        faults = [_faults_of_a_block() for _ in range(20)]

    assert without > 0.9 * pages or without > 100  # large pages are fewer
    assert max(faults[-5:]) < 0.01 * pages  # glibc leaves a few bytes between the first ones


def test_memory_is_returned_afterwards() -> None:
    before = _resident()
    with kept_pages():
        _faults_of_a_block()
        assert _resident() - before > 0.9 * BYTES

    assert _resident() - before < 0.1 * BYTES
    assert _faults_of_a_block() > 100  # as before: a large block is the system's again
