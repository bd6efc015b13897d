"""uvicorn with a guard of its connections (`connections.py`), whatever application it serves."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from vertical_sdk.server.security.connections import ConnectionGuard, GuardedListener

__all__ = ["GuardedServer", "guarded_protocol"]

TICKS = 10
"""uvicorn ticks ten times a second."""
REPORT_EVERY = 60
"""Seconds between two lines in the log about refused and closed connections."""


class _GuardedProtocol(H11Protocol):
    """HTTP/1.1 on one connection, which tells the guard what the connection is waiting for."""

    def __init__(self, *arguments: Any, guard: ConnectionGuard, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._guard = guard
        self._connection: Any = None

    def connection_made(self, transport: Any) -> None:
        """The connection is open, and encrypted if it should be."""
        super().connection_made(transport)
        self._connection = self._guard.get(transport.get_extra_info("peername"))
        if self._connection is not None:
            self._connection.cut = transport.abort

    def data_received(self, data: bytes) -> None:
        """Data has come."""
        cycle = self.cycle
        if self._connection is not None:
            self._guard.receive(self._connection)
        super().data_received(data)
        self._notice_request(cycle)

    def on_response_complete(self) -> None:
        """The answer is written; the next request may have come already."""
        cycle = self.cycle
        if self._connection is not None:
            self._guard.end_request(self._connection)
        super().on_response_complete()
        self._notice_request(cycle)

    def pause_writing(self) -> None:
        """The client reads more slowly than the server writes."""
        super().pause_writing()
        if self._connection is not None:
            self._guard.stop_reading(self._connection)

    def resume_writing(self) -> None:
        """The client has read what was written."""
        super().resume_writing()
        if self._connection is not None:
            self._guard.resume_reading(self._connection)

    def _notice_request(self, before: object) -> None:
        if self._connection is not None and self.cycle is not before:
            self._guard.start_request(self._connection)


class GuardedServer(uvicorn.Server):
    """A server whose connections are guarded.

    report  receives the numbers of refused, closed and open connections, at most once a minute, if there are any to report
    """

    def __init__(self, config: uvicorn.Config, guard: ConnectionGuard, report: Callable[[dict[str, int]], None]) -> None:
        super().__init__(config)
        self._guard = guard
        self._report = report
        self._ticks = 0

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until the server is stopped. It listens to the given sockets only."""
        guarded: Any = [GuardedListener(listening, self._guard) for listening in sockets or []]
        await super().serve(guarded)

    async def on_tick(self, counter: int) -> bool:
        """Close the connections that are overdue, ten times a second."""
        self._guard.sweep()
        self._ticks += 1
        if self._ticks % (REPORT_EVERY * TICKS) == 0:
            counts = self._guard.take_counts()
            if counts["refused"] or counts["closed"]:
                self._report(counts)
        return await super().on_tick(counter)


def guarded_protocol(guard: ConnectionGuard) -> Callable[..., H11Protocol]:
    """What makes the protocol of a connection, for `uvicorn.Config(http=…)`."""

    def make(*arguments: Any, **options: Any) -> H11Protocol:
        return _GuardedProtocol(*arguments, guard=guard, **options)

    return make
