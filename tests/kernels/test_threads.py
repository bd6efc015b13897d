from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch

from vertical_sdk.kernels import threads as module
from vertical_sdk.kernels.threads import count_free_threads, use_threads


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of eight cores, on which twice the threads are twice as fast."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(module, "_container_cores", lambda: 1 << 20)
    monkeypatch.setattr(module, "_rate", float)


def test_all_cores_are_used_if_they_are_free(eight: None) -> None:
    assert count_free_threads() == 8


def test_threads_that_wait_for_another_process_are_not_used(eight: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_rate", lambda threads: float(min(threads, 2)))
    assert count_free_threads() == 2


def test_the_process_may_have_fewer_cores(eight: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 5})
    assert count_free_threads() == 2


@pytest.mark.parametrize(("content", "cores"), [("150000 100000", 2), ("max 100000", 8), ("50000 100000", 1), ("broken", 8)])
def test_a_container_has_a_quota(
    content: str, cores: int, eight: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(module, "QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(module, "OLD_QUOTA", (tmp_path / "none", tmp_path / "none"))
    (tmp_path / "cpu.max").write_text(content)
    assert min(module._container_cores(), 8) == cores


def test_the_older_form_of_a_quota(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    quota, period = tmp_path / "quota", tmp_path / "period"
    monkeypatch.setattr(module, "QUOTA", tmp_path / "none")
    monkeypatch.setattr(module, "OLD_QUOTA", (quota, period))
    period.write_text("100000")
    quota.write_text("250000")
    assert module._container_cores() == 3
    quota.write_text("-1")
    assert module._container_cores() > 1000


def test_the_user_decides(eight: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.setattr(module, "_rate", lambda threads: pytest.fail("measured"))
    assert count_free_threads() == 8


def test_the_number_of_threads_is_restored() -> None:
    with use_threads(2):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 1


def test_products_are_counted() -> None:
    assert module._rate(1) > 0


def test_small_work_has_one_thread_and_larger_work_those_measured_in_the_last_minute(
    eight: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    measured: list[float] = []

    def measure() -> int:
        measured.append(now)
        return 4

    monkeypatch.setattr(module, "_measured", (-math.inf, 1))
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    monkeypatch.setattr(module, "count_free_threads", measure)

    assert [module.count_threads_for(size, 100) for size in (99, 100, 10**6)] == [1, 4, 4]
    assert measured == [1000.0]
    now += module.RECENT + 1
    assert module.count_threads_for(100, 100) == 4
    assert len(measured) == 2


def test_a_fit_has_the_threads_of_its_size_and_the_others_come_back() -> None:
    from threadpoolctl import threadpool_info

    def count() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info()}

    before = count()
    with module.use_threads_for(module.SMALL - 1):
        assert count() == {1}
    assert count() == before
