"""Requests of many clients in mixed batches: a bounded queue, and a thread that answers what has arrived."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from vertical_sdk.errors import VerticalError
from vertical_sdk.serving.problems import Busy, Closed, TooSlow
from vertical_sdk.serving.served import Served

__all__ = ["Batcher", "Compute", "Job"]

Compute: TypeAlias = "Callable[[Sequence[Job]], Sequence[Any]]"
"""Answers jobs of one engine together: a result for each."""


@dataclass(eq=False)
class Job:
    """What one request wants of one specialist.

    inputs    what `compute` reads
    size      rows
    deadline  of `time.monotonic`; a job that starts later is given up
    """

    served: Served
    compute: Compute
    inputs: Any
    size: int
    deadline: float
    future: Future[Any] = field(default_factory=Future)


class Batcher:
    """The queue of one engine. Jobs that wait are answered together as far as their `compute` is the same.

    waiting  jobs in the queue at most
    rows     of a batch; a job that has more is a batch of its own
    observe  called with the rows of each batch
    """

    def __init__(self, *, waiting: int, rows: int, observe: Callable[[int], None] = lambda _: None) -> None:
        self._waiting, self._rows, self._observe = waiting, rows, observe
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="vertical-batcher", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return len(self._jobs)

    def submit(self, job: Job) -> Future[Any]:
        """Let a job wait for its turn; its specialist stays loaded until then. Raises Busy, Closed."""
        with self._changed:
            if self._closed:
                raise Closed("this server ends, and takes no more requests. Ask another one.")
            if len(self._jobs) >= self._waiting:
                raise Busy(f"{len(self._jobs)} requests are waiting already. Come back later.")
            job.served.acquire()
            job.future.add_done_callback(lambda _: job.served.release())
            self._jobs.append(job)
            self._changed.notify()
        return job.future

    def close(self, timeout: float) -> None:
        """Answer the jobs that wait, and take no more."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._jobs and not self._closed:
                    self._changed.wait()
                if not self._jobs:
                    return
                batch = self._take()
            _answer([job for job in batch if _start_job(job)])
            self._observe(sum(job.size for job in batch))

    def _take(self) -> list[Job]:
        """The first job, and those after it that can be answered with it; the others keep their order."""
        batch, left, size = [self._jobs.popleft()], [], 0
        size = batch[0].size
        for job in self._jobs:
            if job.compute is batch[0].compute and size + job.size <= self._rows:
                batch.append(job)
                size += job.size
            else:
                left.append(job)
        self._jobs = deque(left)
        return batch


def _start_job(job: Job) -> bool:
    """whether a client still waits for a job and its specialist may answer; the future of one that may not has an error."""
    if not job.future.set_running_or_notify_cancel():
        return False
    problem: VerticalError | None = job.served.problem
    if problem is None and time.monotonic() > job.deadline:
        problem = TooSlow("the request has waited too long. Come back later.")
    if problem is not None:
        job.future.set_exception(problem)
    return problem is None


def _answer(jobs: Sequence[Job]) -> None:
    """Compute jobs together; if that fails, each alone, so that only the one that is wrong gets the error."""
    if not jobs:
        return
    try:
        results = jobs[0].compute(jobs)
    except Exception as error:  # noqa: BLE001  (whatever it is, it belongs to the client, and the thread serves the others)
        if len(jobs) == 1:
            jobs[0].future.set_exception(error)
        else:
            for job in jobs:
                _answer([job])
        return
    for job, result in zip(jobs, results, strict=True):
        problem = job.served.problem  # revoked meanwhile
        if problem is None:
            job.future.set_result(result)
        else:
            job.future.set_exception(problem)
