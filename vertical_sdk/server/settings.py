"""How a server runs: where it listens, who may read, and how much it accepts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Limits", "ServerSettings"]


@dataclass(frozen=True)
class Limits:
    """Sizes in bytes, times in seconds.

    body         of a request that is not a file
    headers      of a request, with its first line
    path         characters of the path in a request's address
    file         of one file of a version
    version      of all files of a version; one token may store four times as much in uploads that are not published
    files        number of files of a version
    published    of all versions that one token publishes, as long as the server's token file exists
    rate         requests a second that a token, or an address without a token, may make on average
    burst        requests that it may make at once
    silence      longest time without data in the middle of an upload; for any other body, the time for all of it
    keep         how long uploaded files wait to be published before they are removed
    together     requests that are answered at the same time, half of them for one token or address; others wait
    patience     how long they wait before the server tells them to come back
    connections  at the same time; above it, the one that has waited longest without a request gives way
    each         connections of one address at the same time, but for a reverse proxy
    head         time for the TLS handshake and the whole head of a request
    """

    body: int = 1 << 20
    headers: int = 32 << 10
    path: int = 1000
    file: int = 4 << 30
    version: int = 8 << 30
    published: int = 200 << 30
    files: int = 1000
    rate: float = 100.0
    burst: int = 1000
    silence: float = 60.0
    keep: float = 24 * 3600.0
    together: int = 200
    patience: float = 10.0
    connections: int = 1000
    each: int = 500
    head: float = 10.0


@dataclass(frozen=True)
class ServerSettings:
    """Settings of a server.

    host            address to listen on
    port            0 means any free port
    certificate     PEM file of a certificate with its chain; with it the server uses HTTPS
    key             PEM file of the certificate's key
    proxy           address of a reverse proxy whose X-Forwarded-For header is trusted
    allowed_hosts   host names in the addresses that clients use; () means the names of this machine if the server listens to it
                    alone and has no proxy, and else any
    anonymous       allow reading a registry, or asking specialists, without a token
    uploads         a registry's folder for files that are not published yet; None means one in the cache folder
    log             file for the log of requests; None means stderr
    """

    host: str = "127.0.0.1"
    port: int = 8080
    certificate: Path | None = None
    key: Path | None = None
    proxy: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    anonymous: bool = False
    uploads: Path | None = None
    log: Path | None = None
    limits: Limits = field(default_factory=Limits)
