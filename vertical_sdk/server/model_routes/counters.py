"""What is counted of each request, for Prometheus."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from starlette.requests import ClientDisconnect

from vertical_sdk.errors import VerticalError
from vertical_sdk.serving import Serving
from vertical_sdk.serving.service import Answerer

__all__ = ["Metrics"]

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
WHO = ("adapter", "digest")


class Metrics:
    """Counters of one server. Labels are names and digests of adapters that are served, never texts of clients."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("vertical_requests", "Requests that were answered.", ("endpoint", "outcome", *WHO), **own)
        self.seconds = Histogram(
            "vertical_request_seconds", "Seconds of a request.", ("endpoint", *WHO), buckets=SECONDS, **own
        )
        self.rows = Counter("vertical_rows", "Inputs that were answered.", WHO, **own)
        self.tokens = Counter("vertical_tokens", "Tokens that were read and written.", ("kind", *WHO), **own)
        self.batches = Histogram("vertical_batch_rows", "Rows that were answered together.", buckets=ROWS, **own)
        self.waiting = Gauge("vertical_waiting_requests", "Requests that wait or are being answered.", **own)

    def observe(self, serving: Serving) -> None:
        """Report what is served, and the length of its queues."""
        self.waiting.set_function(lambda: serving.waiting)
        self.registry.register(_Specialists(serving))

    def write(self) -> bytes:
        """All counters in Prometheus's text format."""
        return generate_latest(self.registry)

    @contextmanager
    def measure(self, endpoint: str, answerer: Answerer) -> Iterator[None]:
        """Count a request and its seconds within the block."""
        who, start, outcome = name_answerer(answerer), time.perf_counter(), "ok"
        try:
            yield
        except BaseException as error:
            gone = isinstance(error, ClientDisconnect | asyncio.CancelledError | GeneratorExit)
            outcome = type(error).__name__ if isinstance(error, VerticalError) else "cancelled" if gone else "error"
            raise
        finally:
            self.requests.labels(endpoint, outcome, *who).inc()
            self.seconds.labels(endpoint, *who).observe(time.perf_counter() - start)

    def count(self, answerer: Answerer, *, rows: int = 1, read: int = 0, written: int = 0) -> None:
        """Count the inputs and tokens of an answer."""
        who = name_answerer(answerer)
        self.rows.labels(*who).inc(rows)
        self.tokens.labels("read", *who).inc(read)
        self.tokens.labels("written", *who).inc(written)


class _Specialists:
    """What is served now, as metrics."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The versions that answer for the references, and the references with a problem."""
        served = GaugeMetricFamily("vertical_served", "References that are served.", labels=("reference", "version", *WHO))
        problems = GaugeMetricFamily(
            "vertical_problem", "References whose newest version does not answer.", labels=("reference",)
        )
        for entry in self._serving.specialists.entries:
            version = entry.served.version
            served.add_metric([entry.reference, str(version.number), version.name, version.digest], 1)
            stopped = entry.problem or entry.revoked is not None or entry.served.revoked is not None
            problems.add_metric([entry.reference], float(bool(stopped)))
        return [served, problems]


def name_answerer(answerer: Answerer) -> tuple[str, str]:
    """The labels of who answers: an adapter's name and digest; a base's name without a digest."""
    version = answerer.served.version
    return (answerer.by_base, "") if answerer.by_base else (version.name, version.digest)
