"""Start a server and keep it running."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertical_sdk.errors import MissingExtra, RegistryError, RunError
from vertical_sdk.registry import Registry
from vertical_sdk.server.limits import Limits
from vertical_sdk.server.tokens import FILE, Tokens

if TYPE_CHECKING:
    import uvicorn

__all__ = ["make_server", "serve_registry", "tokens_of"]


def tokens_of(registry: Registry, path: Path | None = None) -> Tokens:
    """The tokens of a registry: in a file, or, where it is None, in the registry's own folder.

    Raises RegistryError where the registry has no folder and no file is given.
    """
    if path is not None:
        return Tokens(path)
    location = registry.location.removeprefix("file://")
    if "://" in location:
        raise RegistryError(f"{registry.location} is no folder that tokens could be kept in: say where, with --tokens FILE.")
    return Tokens(Path(location).absolute() / FILE)


def serve_registry(
    registry: Registry,
    tokens: Tokens,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    certificate: Path | None = None,
    key: Path | None = None,
    anonymous_read: bool = False,
    log: Path | None = None,
    proxy: str | None = None,
    limits: Limits | None = None,
    uploads: Path | None = None,
    ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve a registry until the process is told to stop.

    port         0: any that is free
    certificate  PEM files of a certificate (with those above it) and its key: the server then speaks HTTPS
    proxy        the address of a reverse proxy, whose X-Forwarded-For is believed
    ready        is called with the server's address once it listens

    Raises RegistryError where nobody could use it, or a certificate is none; RunError where the port is taken; MissingExtra.
    """
    try:
        import uvicorn  # noqa: F401

        from vertical_sdk.server.app import create_app
        from vertical_sdk.server.log import log_to
    except ImportError:
        raise MissingExtra("server", "`vertical registry serve`") from None
    if not tokens.list() and not anonymous_read:
        raise RegistryError(
            f"{tokens.path}: there are no tokens, and nobody could use the server. Make one with "
            "`vertical registry token add NAME --scope read`, or let everybody read with --anonymous-read."
        )
    limits = limits or Limits()
    app = create_app(
        registry, tokens, anonymous_read=anonymous_read, limits=limits, uploads=uploads, log=log_to(log) if log else None
    )
    server = make_server(app, limits, certificate=certificate, key=key, proxy=proxy)
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=1024)
    except OSError as error:
        raise RunError(f"{host}:{port} cannot be listened at ({error.strerror}). Choose another --port or --host.") from None
    with listening:
        place = f"[{host}]" if ":" in host else host
        ready(f"{'https' if certificate else 'http'}://{place}:{listening.getsockname()[1]}")
        server.run(sockets=[listening])


def make_server(
    app: Any, limits: Limits, *, certificate: Path | None = None, key: Path | None = None, proxy: str | None = None
) -> uvicorn.Server:
    """A uvicorn server as we run it: no log of its own, no banner, one process.

    Raises RegistryError where the certificate, or its key, cannot be used.
    """
    import uvicorn

    if (certificate is None) != (key is None):
        raise RegistryError("a certificate and its key are given together: --certificate FILE --key FILE.")
    config = uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        server_header=False,
        lifespan="off",
        loop="asyncio",
        http="h11",
        ws="none",
        h11_max_incomplete_event_size=limits.headers,
        limit_concurrency=limits.together,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=30,
        proxy_headers=proxy is not None,
        forwarded_allow_ips=proxy,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise RegistryError(f"{certificate}, {key}: cannot be used as a certificate and its key ({error}).") from None
    return uvicorn.Server(config)
