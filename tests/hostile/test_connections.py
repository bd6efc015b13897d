"""Clients that hold connections: they send nothing, or a byte now and then, or do not read what they asked for."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers.http_server import create_certificate, serving

from vertical_sdk.errors import RunError
from vertical_sdk.server.security.connections import (
    ConnectionGuard,
    GuardedListener,
    address_key,
    is_proxy,
    most_connections,
)
from vertical_sdk.server.security.quiet_log import Allowance, limit_library_logs
from vertical_sdk.server.settings import Limits

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer, at /big with more than a client's buffers hold, at /body when the body has come."""
    more = scope["path"] == "/body"
    while more:
        more = (await receive()).get("more_body", False)
    body = b"x" * (64 << 20) if scope["path"] == "/big" else b"fine"
    head = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    for place in range(0, len(body), 1 << 20):
        await send({"type": "http.response.body", "body": body[place : place + (1 << 20)], "more_body": True})
    await send({"type": "http.response.body", "body": b""})


@contextlib.contextmanager
def served(limits: Limits, **settings: Any) -> Iterator[Callable[..., socket.socket]]:
    """Serve the application; yield what opens a connection, from an address of this machine."""
    with serving(app, limits, **settings) as address, contextlib.ExitStack() as opened:
        place = ("127.0.0.1", int(address.rpartition(":")[2]))

        def connect(source: str = "127.0.0.1") -> socket.socket:
            return opened.enter_context(socket.create_connection(place, timeout=20, source_address=(source, 0)))

        yield connect


def lives(connection: socket.socket, *, sent: bytes = b"", most: float = 10.0) -> float:
    """Seconds until the server closes a connection, on which a byte is sent now and then."""
    start = time.monotonic()
    connection.settimeout(0.1)
    while time.monotonic() - start < most and is_open(connection, sent):
        pass
    return time.monotonic() - start


def is_open(connection: socket.socket, sent: bytes) -> bool:
    try:
        connection.sendall(sent)
        return bool(connection.recv(100_000))
    except TimeoutError:
        return True
    except OSError:
        return False


def answered(connection: socket.socket, request: bytes = REQUEST) -> bool:
    """Whether a request gets its whole answer; b"" is a request that was sent already."""
    answer = b""
    with contextlib.suppress(OSError):
        connection.settimeout(20)
        connection.sendall(request)
        while not answer.endswith(b"fine") and (block := connection.recv(1000)):
            answer += block
    return answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"fine")


@pytest.mark.parametrize("sent", [b"", b"x"], ids=["silent", "slow"])
@pytest.mark.parametrize(
    "start", [b"", b"GET / HTTP/1.1\r\nX-Long: ", REQUEST], ids=["nothing", "half a head", "after an answer"]
)
def test_a_connection_without_a_whole_head_is_closed_in_time(start: bytes, sent: bytes) -> None:
    with served(Limits(head=0.5)) as connect:
        connection = connect()
        if start == REQUEST:
            assert answered(connection)
        connection.sendall(b"G" if start == REQUEST else start)

        assert 0.4 < lives(connection, sent=sent) < 4
        assert answered(connect())


def test_a_handshake_that_does_not_begin_or_end_is_closed_in_time(tmp_path: Path) -> None:
    certificate, key = create_certificate(tmp_path)
    context = ssl.create_default_context(cafile=str(certificate))
    with served(Limits(head=0.5), certificate=certificate, key=key) as connect:
        assert 0.4 < lives(connect()) < 4
        half = connect()
        half.sendall(b"\x16\x03\x01\x02\x00\x01")  # the first bytes of a ClientHello
        assert 0.4 < lives(half) < 4
        with context.wrap_socket(connect(), server_hostname="127.0.0.1") as honest:
            time.sleep(0.2)
            assert answered(honest)  # type: ignore[arg-type]


def test_a_body_and_the_next_request_may_be_slower_than_a_head() -> None:
    with served(Limits(head=0.5)) as connect:
        connection = connect()
        connection.sendall(b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n")
        for _ in range(3):
            time.sleep(0.4)
            connection.sendall(b"x")
        assert answered(connection, b"")
        time.sleep(1.0)
        assert answered(connection)


def test_a_client_that_does_not_read_its_answer_is_closed_in_time() -> None:
    with served(Limits(silence=0.5)) as connect:
        silent = connect()
        silent.sendall(REQUEST.replace(b"/ ", b"/big ", 1))
        time.sleep(2.5)
        received = 0
        with contextlib.suppress(OSError):
            while block := silent.recv(1 << 20):
                received += len(block)
        assert received < 64 << 20
        honest = connect()
        honest.sendall(REQUEST.replace(b"/ ", b"/big ", 1))
        received = 0
        while received < 64 << 20:
            received += len(honest.recv(1 << 20))


def test_silent_connections_give_way_to_honest_clients_of_the_same_address() -> None:
    with served(Limits(connections=60, each=40, together=8)) as connect:
        kept = connect()
        assert answered(kept)
        silent = [connect() for _ in range(150)]
        time.sleep(0.5)

        honest = [connect() for _ in range(30)]

        assert all(answered(connection) for connection in honest)
        assert all(answered(connection) for connection in [*honest, kept])
        assert sum(lives(connection, most=0.2) < 0.2 for connection in silent) >= 100


def test_one_address_leaves_room_for_others() -> None:
    with served(Limits(connections=60, each=20, together=8)) as connect:
        busy = [connect() for _ in range(20)]
        for connection in busy:
            connection.sendall(b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n")
        time.sleep(0.5)

        assert not answered(connect())
        assert answered(connect("127.0.0.2"))
        assert answered(busy[0], b"xxx")


def test_a_proxy_may_have_all_connections() -> None:
    with served(Limits(connections=60, each=5, together=8), proxy="127.0.0.1") as connect:
        busy = [connect() for _ in range(30)]
        for connection in busy:
            connection.sendall(b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n")
        assert all(answered(connection, b"xxx") for connection in busy)


@pytest.mark.parametrize(
    ("proxy", "host", "expected"),
    [
        (None, "127.0.0.1", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "::ffff:127.0.0.1", True),
        ("10.0.0.0/8, ::1", "10.2.3.4", True),
        ("10.0.0.0/8, ::1", "::1", True),
        ("10.0.0.0/8", "11.0.0.1", False),
        ("*", "8.8.8.8", True),
        ("127.0.0.1", "odd", False),
    ],
)
def test_a_proxy_is_known_by_its_address_or_network(proxy: str | None, host: str, expected: bool) -> None:
    assert is_proxy(proxy)(host) is expected


def test_an_ipv6_client_is_its_network() -> None:
    assert address_key("2001:db8::1") == address_key("2001:db8::ffff:1") == "2001:db8::/64"
    assert address_key("2001:db8:0:1::1") != address_key("2001:db8::1")
    assert address_key("::ffff:10.0.0.1") == address_key("10.0.0.1") == "10.0.0.1"


def test_connections_never_take_the_last_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    assert most_connections(1000, 200) == 624
    assert most_connections(50, 200) == 50
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert most_connections(1000, 200) == 1000
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
    with pytest.raises(RunError, match=r"may open 256 files, and a server needs at least 432.* ulimit -n 432"):
        most_connections(1000, 200)


def test_a_connection_is_refused_without_a_line_in_the_log_if_no_descriptor_is_free(caplog: pytest.LogCaptureFixture) -> None:
    guard = ConnectionGuard(100, 100, head=10, idle=10, stall=10)
    plain = socket.create_server(("127.0.0.1", 0))
    plain.setblocking(False)
    listening = GuardedListener(plain, guard)
    clients = [socket.create_connection(plain.getsockname()) for _ in range(5)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    taken: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 2, hard))
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        with pytest.raises(BlockingIOError):
            listening.accept()
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert guard.take_counts() == {"refused": 5, "closed": 0, "open": 0}
    assert [client.recv(1) for client in clients] == [b""] * 5
    assert caplog.records == []
    clients.append(socket.create_connection(plain.getsockname()))
    accepted, _ = listening.accept()
    assert guard.take_counts()["open"] == 1
    accepted.close()
    assert guard.take_counts()["open"] == 0
    listening.close()
    for client in clients:
        client.close()


def test_a_storm_in_a_library_s_log_is_a_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    limit_library_logs()
    limit_library_logs()
    logger = logging.getLogger("uvicorn.error")
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        for n in range(10_000):
            logger.warning("storm %d", n)
        logger.warning("another message")
    finally:
        logger.removeHandler(handler)

    assert len(lines) <= 6
    assert lines[-1] == "another message"


def test_lines_that_are_left_out_are_counted() -> None:
    now = [0.0]
    allowance = Allowance(2, 60.0, clock=lambda: now[0])

    assert [allowance.take() for _ in range(5)] == [0, 0, None, None, None]
    now[0] = 60.0
    assert [allowance.take() for _ in range(3)] == [3, 0, None]
