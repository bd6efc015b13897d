"""Honest clients of a registry server while others hold connections and send nothing, or a byte now and then.

    python benchmarks/silent_connections.py [--silent 400] [--honest 200] [--seconds 15] [--slow 100] [--files 0] [--tls]

It starts `vertical registry serve` as its own process, opens the silent connections from 127.0.0.1 (half of them) and from other
addresses of this machine (127.0.0.2 …), and lets the honest clients ask for the list of names, each with its own connection, one request
after the other. Meanwhile it asks for /health. It prints one JSON object: answers by status, the clients' longest and 99th-percentile
time, the longest of /health, how long a silent connection lived, and the bytes that the server wrote to stderr.

Bars: every honest request answered with 200, p99 at most 2 s, /health at most 0.5 s.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
REQUEST = "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n"
TIMEOUT = 30.0


def main() -> int:
    """Run the benchmark and print its results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--silent", type=int, default=400, help="connections that send nothing")
    parser.add_argument("--slow", type=int, default=100, help="connections that send a byte of a request a second")
    parser.add_argument("--honest", type=int, default=200, help="clients that read the list of names")
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--files", type=int, default=0, help="files that the server may open (ulimit -n); 0: as here")
    parser.add_argument("--tls", action="store_true", help="serve HTTPS, with a certificate made here")
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
    with tempfile.TemporaryDirectory() as folder, _serving(Path(folder), options, soft) as (port, token, stderr):
        result = asyncio.run(_measure(port, token, options))
        result["stderr_bytes"] = stderr.stat().st_size
    server, own = resource.getrusage(resource.RUSAGE_CHILDREN), resource.getrusage(resource.RUSAGE_SELF)
    result["server_cpu_s"] = round(server.ru_utime + server.ru_stime, 1)
    result["clients_cpu_s"] = round(own.ru_utime + own.ru_stime, 1)
    passed = set(result["answers"]) == {"200"} and result["p99_s"] <= 2 and result["health_longest_s"] <= 0.5
    print(json.dumps({**result, "passed": passed}, indent=1))
    return 0 if passed else 1


@contextlib.contextmanager
def _serving(folder: Path, options: argparse.Namespace, soft: int) -> Iterator[tuple[int, str, Path]]:
    """Start a server; yield its port, a token, and the file with its stderr."""
    from vertical_sdk.server.security.tokens import Tokens

    registry, stderr = folder / "registry", folder / "stderr"
    registry.mkdir()
    token = Tokens(registry / "tokens.json").add("ada", ["read"])
    command = [sys.executable, "-m", "vertical_sdk", "registry", "serve", "--registry", str(registry), "--port", "0"]
    command += ["--rate", "100000", "--log", str(folder / "log")]
    if options.tls:
        sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
        from servers.http_server import create_certificate

        certificate, key = create_certificate(folder)
        command += ["--certificate", str(certificate), "--key", str(key)]
    files = options.files or soft

    def limit_files() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    with stderr.open("wb") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, preexec_fn=limit_files)  # noqa: PLW1509
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            yield int(address.rpartition(":")[2]), token, stderr
        finally:
            process.terminate()
            process.wait(40)


async def _measure(port: int, token: str, options: argparse.Namespace) -> dict[str, Any]:
    end = time.monotonic() + options.seconds
    context = ssl._create_unverified_context() if options.tls else None
    lives: list[float] = []
    others = [asyncio.create_task(_hold(port, place, end, lives, b"")) for place in range(options.silent)]
    others += [asyncio.create_task(_hold(port, place, end, lives, b"GET / HTTP/1.1\r\nX: ")) for place in range(options.slow)]
    await asyncio.sleep(1)
    answers: Counter[str] = Counter()
    honest: list[float] = []
    health: list[float] = []
    ask = REQUEST.format(path="/api/v1/names", token=token).encode()
    check = REQUEST.format(path="/api/v1/health", token=token).encode()
    clients = [asyncio.create_task(_ask(port, context, ask, end, honest, answers, 1.0)) for _ in range(options.honest)]
    clients.append(asyncio.create_task(_ask(port, context, check, end, health, answers, 0.1)))
    await asyncio.gather(*clients)
    for other in others:
        other.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    honest.sort()
    return {
        "silent": options.silent,
        "slow": options.slow,
        "honest": options.honest,
        "seconds": options.seconds,
        "requests": len(honest),
        "answers": dict(answers),
        "p50_s": round(honest[len(honest) // 2], 3),
        "p99_s": round(honest[int(len(honest) * 0.99)], 3),
        "longest_s": round(honest[-1], 3),
        "health_longest_s": round(max(health), 3),
        "silent_connection_lived_at_most_s": round(max(lives), 1) if lives else None,
    }


async def _hold(port: int, place: int, end: float, lives: list[float], sent: bytes) -> None:
    """Hold a connection, and open another one whenever the server closes it."""
    address = HOST if place % 2 else f"127.0.0.{2 + place % 250}"
    while time.monotonic() < end:
        start = time.monotonic()
        try:
            reader, writer = await asyncio.open_connection(HOST, port, local_addr=(address, 0))
        except OSError:
            await asyncio.sleep(0.2)
            continue
        with contextlib.suppress(OSError):
            writer.write(sent)
            while True:
                try:
                    async with asyncio.timeout(1):
                        if not await reader.read(1000):
                            break
                except TimeoutError:
                    writer.write(sent[-1:])
        lives.append(time.monotonic() - start)
        writer.close()
        await asyncio.sleep(0.5)


async def _ask(
    port: int,
    context: ssl.SSLContext | None,
    request: bytes,
    end: float,
    times: list[float],
    answers: Counter[str],
    pause: float,
) -> None:
    """Ask again and again on one connection, which is opened again if the server closes it between requests."""
    reader = writer = None
    while time.monotonic() < end:
        start = time.monotonic()
        try:
            async with asyncio.timeout(TIMEOUT):
                if writer is None or reader is None or reader.at_eof():
                    reader, writer = await asyncio.open_connection(HOST, port, ssl=context)
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(length)
            answers[head.split()[1].decode()] += 1
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            answers[type(error).__name__] += 1
            writer = None
        times.append(time.monotonic() - start)
        await asyncio.sleep(pause)
    if writer is not None:
        writer.close()


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    raise SystemExit(main())
