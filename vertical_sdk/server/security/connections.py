"""Who may hold a connection, and for how long: the guard of a server's sockets, whatever the server serves.

A client that connects and sends nothing, or sends and reads a byte now and then, costs it nothing and the server a file descriptor.
So the number of connections is limited, in all and for each address, and a client must send the whole head of a request in time. Above
a limit, the connection that has waited longest gives way to the new one; connections whose request is being answered never do.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import ipaddress
import math
import os
import socket
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

from vertical_sdk.errors import RunError

__all__ = ["Connection", "ConnectionGuard", "GuardedListener", "address_key", "is_proxy", "most_connections"]

EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
AT_ONCE = 64
"""Connections that give way at once, if all are taken."""
NEW = 0.3
"""Seconds for the first data of a connection, in which it does not give way to others."""
PAUSE = 0.001
OWN_FILES = 200
"""Descriptors for the databases of 40 threads, the log and the libraries."""
FEWEST = 32


class Connection:
    """One accepted connection: its address, and until when its client must do what the server waits for.

    state     "head": a request's head is coming; "busy": a request is answered; "idle": the client may send another one
    deadline  of `time.monotonic`; infinity while a request is answered
    served    whether a request came on it
    has_data  whether data has come that the server has not read yet
    cut       closes it at once
    """

    __slots__ = ("address", "closing", "cut", "deadline", "has_data", "served", "state")

    def __init__(self, address: str, deadline: float, has_data: Callable[[], bool], cut: Callable[[], object]) -> None:
        self.address = address
        self.deadline = deadline
        self.has_data = has_data
        self.cut = cut
        self.state: Literal["head", "busy", "idle"] = "head"
        self.served = self.closing = False


class ConnectionGuard:
    """The connections of a server. Only the thread of the event loop uses it.

    most    connections in all
    each    connections of one address; of a /64 network for IPv6
    head    seconds that a client has for the TLS handshake and the whole head of a request
    idle    seconds that a connection may wait for its next request
    stall   seconds that a client may leave an answer unread
    exempt  whether an address may have any number of connections, as a reverse proxy has
    """

    def __init__(
        self,
        most: int,
        each: int,
        *,
        head: float,
        idle: float,
        stall: float,
        exempt: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self.most, self.each = most, each
        self.head, self.idle, self.stall = head, idle, stall
        self.exempt = exempt
        self.refused = self.closed = 0
        self._open: dict[Any, Connection] = {}
        self._of: Counter[str] = Counter()

    @property
    def full(self) -> bool:
        """Whether there are as many connections as there may be."""
        return len(self._open) >= self.most

    def get(self, peer: Any) -> Connection | None:
        """The open connection of a client's address and port."""
        return self._open.get(peer)

    def may_open(self, host: str) -> bool:
        """Whether another connection of this address may be opened; above its limit, the one that has waited longest gives way."""
        key = address_key(host)
        if self.full:
            return False
        return self._of[key] < self.each or self.exempt(host) or bool(self.make_room(1, key)) or self.has_new(key)

    def add(self, peer: Any, opened: GuardedSocket) -> None:
        """Remember a connection that was accepted."""
        deadline = time.monotonic() + self.head
        connection = self._open[peer] = Connection(address_key(peer[0]), deadline, opened.has_data, opened.cut)
        self._of[connection.address] += 1

    def remove(self, peer: Any) -> None:
        """Forget a connection that is closed."""
        connection = self._open.pop(peer, None)
        if connection is not None:
            self._of[connection.address] -= 1
            if not self._of[connection.address]:
                del self._of[connection.address]

    def receive(self, connection: Connection) -> None:
        """Data has come: the first bytes of the next request start the time for its head."""
        if connection.state == "idle":
            connection.state, connection.deadline = "head", time.monotonic() + self.head

    def start_request(self, connection: Connection) -> None:
        """The whole head of a request has come."""
        connection.state, connection.served, connection.deadline = "busy", True, math.inf

    def end_request(self, connection: Connection) -> None:
        """The request was answered."""
        connection.state, connection.deadline = "idle", time.monotonic() + self.idle

    def stop_reading(self, connection: Connection) -> None:
        """The client does not read the answer."""
        connection.deadline = min(connection.deadline, time.monotonic() + self.stall)

    def resume_reading(self, connection: Connection) -> None:
        """The client reads again."""
        if connection.state == "busy":
            connection.deadline = math.inf

    def sweep(self) -> None:
        """Close the connections whose deadline has passed."""
        now = time.monotonic()
        for connection in list(self._open.values()):
            if connection.deadline < now:
                self._close(connection)

    def make_room(self, count: int, address: str | None = None) -> int:
        """Close the connections that have waited longest. One that was of use gives way only if there is none that never sent a request.

        A connection stays if its request is answered, if it has sent data that the server has not read yet, or if it is so new that
        its request may be on its way.

        address  None means all addresses

        Returns how many are being closed.
        """
        waiting = [c for c in self._open.values() if c.state != "busy" and not c.closing and address in {None, c.address}]
        unserved = [connection for connection in waiting if not connection.served]  # in the order in which they were accepted
        if unserved:
            longest = [connection for connection in unserved if not self._is_new(connection) and not connection.has_data()]
        else:
            longest = sorted((c for c in waiting if not c.has_data()), key=lambda connection: connection.deadline)[:1]
        for connection in longest[:count]:
            self._close(connection)
        return len(longest[:count])

    def has_new(self, address: str | None = None) -> bool:
        """Whether a connection is so new that it cannot give way yet."""
        waiting = (c for c in self._open.values() if not c.served and not c.closing and address in {None, c.address})
        return any(map(self._is_new, waiting))

    def _is_new(self, connection: Connection) -> bool:
        return connection.deadline > time.monotonic() + self.head - NEW

    @property
    def closing(self) -> bool:
        """Whether a connection that gave way is not closed yet."""
        return any(connection.closing for connection in self._open.values())

    def take_counts(self) -> dict[str, int]:
        """How many connections were refused and closed since the last call, and how many are open."""
        counts = {"refused": self.refused, "closed": self.closed, "open": len(self._open)}
        self.refused = self.closed = 0
        return counts

    def _close(self, connection: Connection) -> None:
        connection.closing, connection.deadline = True, math.inf
        self.closed += 1
        connection.cut()


class GuardedSocket(socket.socket):
    """The socket of an accepted connection, which tells the guard when it is closed."""

    forget: Callable[[], None] | None = None

    def close(self) -> None:
        """Close the socket."""
        super().close()
        if self.forget is not None:
            forget, self.forget = self.forget, None
            forget()

    def has_data(self) -> bool:
        """Whether data has come that was not read yet."""
        try:
            return bool(self.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False

    def cut(self) -> None:
        """End the connection: its transport reads the end, and closes it."""
        with contextlib.suppress(OSError):  # the client was faster
            self.shutdown(socket.SHUT_RDWR)


class GuardedListener:
    """A listening socket for an event loop of asyncio, whose `accept` asks the guard.

    If the descriptors run out because of other files, a spare one is used to refuse the connection. The event loop itself would log
    thousands of lines.
    """

    def __init__(self, listening: socket.socket, guard: ConnectionGuard) -> None:
        self._listening = listening
        self._guard = guard
        self._spare = _open_spare()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listening, name)

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept the next connection that the guard allows. Raises BlockingIOError if there is none, or no room yet."""
        guard = self._guard
        while True:
            if guard.full and (guard.closing or guard.make_room(AT_ONCE)):
                raise BlockingIOError  # the event loop closes those that gave way, and asks again
            if guard.full and guard.has_new():
                time.sleep(PAUSE)  # the event loop asks again at once: leave the time to other threads
                raise BlockingIOError
            try:
                accepted, peer = self._listening.accept()
            except OSError as error:
                if error.errno not in EXHAUSTED:
                    raise
                self._refuse_with_spare()
                continue
            if not guard.may_open(peer[0]):
                guard.refused += 1
                accepted.close()
                continue
            connection = GuardedSocket(accepted.family, accepted.type, accepted.proto, fileno=accepted.detach())
            connection.forget = functools.partial(guard.remove, peer)
            guard.add(peer, connection)
            return connection, peer

    def close(self) -> None:
        """Stop listening."""
        self._listening.close()
        spare, self._spare = self._spare, None
        if spare is not None:
            os.close(spare)

    def _refuse_with_spare(self) -> None:
        """Refuse a connection although no descriptor is free. Raises BlockingIOError if that is not possible either."""
        self._guard.make_room(AT_ONCE)
        if self._spare is None:
            self._spare = _open_spare()
            raise BlockingIOError
        os.close(self._spare)
        self._spare = None
        try:
            self._listening.accept()[0].close()
            self._guard.refused += 1
        except OSError:
            raise BlockingIOError from None
        finally:
            self._spare = _open_spare()


def _open_spare() -> int | None:
    try:
        return os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return None


def address_key(host: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 network of an IPv6 address, which one client has to itself."""
    address = _parse_address(host)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
    return str(address or host)


def most_connections(wanted: int, requests: int) -> int:
    """How many connections this process can have: what is wanted, or what its limit of open files (`ulimit -n`) leaves.

    requests  answered at the same time; each may have a file open

    Raises RunError if that is too few for a server.
    """
    import resource

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    left = wanted if files == resource.RLIM_INFINITY else min(wanted, files - OWN_FILES - requests)
    if left < min(wanted, FEWEST):
        need = OWN_FILES + requests + FEWEST
        raise RunError(
            f"this process may open {files} files, and a server needs at least {need}. Raise the limit: ulimit -n {need}."
        )
    return left


def is_proxy(proxy: str | None) -> Callable[[str], bool]:
    """Whether an address is that of the reverse proxy: addresses and networks, separated by commas, or "*" for every address."""
    places = [place.strip() for place in (proxy or "").split(",")]
    networks = []
    for place in places:
        with contextlib.suppress(ValueError):
            networks.append(ipaddress.ip_network(place, strict=False))

    def check(host: str) -> bool:
        address = _parse_address(host)
        return "*" in places or host in places or any(address in network for network in networks if address is not None)

    return check


def _parse_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address without its zone, as IPv4 if it is an IPv4 address inside IPv6; None for anything else."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address
