"""Start a server and keep it running."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vertical_sdk.errors import DataError, MissingExtra, RegistryError, RunError
from vertical_sdk.registry import Registry
from vertical_sdk.server.security.tokens import FILE, Scope, Tokens
from vertical_sdk.server.settings import ServerSettings
from vertical_sdk.types import Progress, silent

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

    from vertical_sdk.server.errors import Refuse
    from vertical_sdk.server.security.access_log import Log
    from vertical_sdk.serving import ServingSettings

__all__ = ["find_tokens", "make_server", "run_server", "serve_models", "serve_registry"]

IDLE = 15
"""Seconds that a connection waits for its next request."""


def find_tokens(registry: Registry, path: Path | None = None) -> Tokens:
    """The tokens of a registry: in a file, or in the registry's own folder if the path is None.

    Raises RegistryError if no file is given and the registry has no folder.
    """
    if path is not None:
        return Tokens(path)
    location = registry.location.removeprefix("file://")
    if "://" in location:
        raise RegistryError(
            "tokens cannot be stored here: it is not a folder. Give a file with --tokens FILE.", where=registry.location
        )
    return Tokens(Path(location).absolute() / FILE)


def serve_registry(
    registry: Registry,
    tokens: Tokens,
    settings: ServerSettings | None = None,
    *,
    ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve a registry until the process is stopped.

    ready  is called with the server's address once it listens

    Raises RegistryError if no client could use the server or the certificate is invalid, RunError if the port is taken,
    MissingExtra.
    """
    try:
        import uvicorn  # noqa: F401

        from vertical_sdk.server.registry_app import create_registry_app, refuse
        from vertical_sdk.server.registry_routes.health import CHECKS
        from vertical_sdk.server.security.access_log import open_log
    except ImportError:
        raise MissingExtra("server", "`vertical registry serve`") from None
    settings = settings or ServerSettings()
    log = open_log(settings.log)
    if not settings.anonymous:
        _require_tokens(tokens, "read", "allow reading without a token with --anonymous-read")
    app = create_registry_app(registry, tokens, settings, log=log)
    app.openapi()  # builds the routes, for which the first clients would wait
    run_server(app, settings, refuse=refuse, checks=CHECKS, log=log, ready=ready)


def serve_models(
    references: Sequence[str],
    registry: Registry,
    tokens: Tokens,
    settings: ServerSettings | None = None,
    serving_settings: ServingSettings | None = None,
    *,
    bases: Sequence[str] = (),
    ready: Callable[[str], None] = lambda _: None,
    progress: Progress = silent,
) -> None:
    """Serve specialists of a registry until the process is stopped.

    references  what clients may name, such as medical/icd-chapter@production; each is loaded and checked before the server listens
    bases       places of bases, such as folders; without them a base is found by the name on an adapter's card
    ready       is called with the server's address once it listens

    Raises the error of the first specialist that cannot be loaded or fails its self-tests; RegistryError if no client could use the
    server or the certificate is invalid, RunError if the port is taken, DataError without references, MissingExtra.
    """
    try:
        import uvicorn  # noqa: F401

        from vertical_sdk.server.model_app import create_model_app
        from vertical_sdk.server.model_routes.counters import Metrics
        from vertical_sdk.server.model_routes.health import CHECKS
        from vertical_sdk.server.model_routes.problems import refuse
        from vertical_sdk.server.security.access_log import open_log, timestamp
    except ImportError:
        raise MissingExtra("serve", "`vertical serve`") from None
    from vertical_sdk.serving import Serving

    settings = settings or ServerSettings()
    log = open_log(settings.log)
    if not references:
        raise DataError("nothing is to be served. Name at least one reference, such as medical/icd-chapter@production.")
    if not settings.anonymous:
        _require_tokens(tokens, "infer", "allow asking without a token with --anonymous")
    metrics = Metrics()
    serving = Serving(
        registry,
        serving_settings,
        bases=bases,
        log=lambda line: log({"time": timestamp(), **line}),
        observe_batch=metrics.batches.observe,
        progress=progress,
    )
    try:
        serving.start(references)
        app = create_model_app(serving, tokens, settings, metrics=metrics, log=log)
        app.openapi()  # builds the routes, for which the first clients would wait
        run_server(app, settings, refuse=refuse, checks=CHECKS, log=log, ready=ready)
    finally:
        serving.close()


def _require_tokens(tokens: Tokens, scope: Scope, instead: str) -> None:
    """Raise RegistryError if the file has no token: then no client could use the server."""
    if not tokens.list():
        raise RegistryError(
            "there are no tokens, so no client could use the server. Create one with "
            f"`vertical registry token add NAME --scope {scope}`, or {instead}.",
            where=tokens.path,
        )


def run_server(
    app: ASGIApp,
    settings: ServerSettings,
    *,
    refuse: Refuse,
    checks: frozenset[str],
    log: Log,
    ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve an application until the process is stopped; requests that are being answered then have 30 s to end.

    refuse  how the server writes an error
    checks  the paths of the health checks, which answer for every host name
    ready   is called with the server's address once it listens

    Raises what `make_server` raises, and RunError if the port is taken.
    """
    from vertical_sdk.server.security.hosts import HostCheck, accepted_hosts

    hosts = accepted_hosts(settings.host, settings.allowed_hosts, proxy=settings.proxy is not None)
    if hosts is not None:
        app = HostCheck(app, hosts, refuse, exempt=checks)
    server = make_server(app, settings, log=log)
    host, port = settings.host, settings.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        message = f"the server cannot listen here ({error.strerror}). Choose another --port or --host."
        raise RunError(message, where=f"{host}:{port}") from None
    with listening:
        address = f"[{host}]" if ":" in host else host
        ready(f"{'https' if settings.certificate else 'http'}://{address}:{listening.getsockname()[1]}")
        server.run(sockets=[listening])


def make_server(app: ASGIApp, settings: ServerSettings, *, log: Log | None = None) -> uvicorn.Server:
    """Build the uvicorn server of an application: guarded connections, no log of its own, no banner, one process.

    log  receives a dict when connections were refused or closed; None means a line in `settings.log`

    Raises RegistryError if the certificate or its key cannot be used, RunError if the process may open too few files.
    """
    import uvicorn

    from vertical_sdk.server.security.access_log import open_log, timestamp
    from vertical_sdk.server.security.connections import ConnectionGuard, is_proxy, most_connections
    from vertical_sdk.server.security.http_server import GuardedServer, guarded_protocol
    from vertical_sdk.server.security.quiet_log import limit_library_logs

    limits, write = settings.limits, log or open_log(settings.log)
    most = most_connections(limits.connections, limits.together)
    guard = ConnectionGuard(
        most,
        min(limits.each, max(1, most * 2 // 3)),
        head=limits.head,
        idle=IDLE,
        stall=limits.silence,
        exempt=is_proxy(settings.proxy),
    )
    limit_library_logs()
    certificate, key = settings.certificate, settings.key
    if (certificate is None) != (key is None):
        raise RegistryError("a certificate needs its key: give both --certificate FILE and --key FILE.")
    config = uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        server_header=False,
        lifespan="off",
        loop="asyncio",
        http=guarded_protocol(guard),  # type: ignore[arg-type]
        ws="none",
        h11_max_incomplete_event_size=settings.limits.headers,
        timeout_keep_alive=IDLE,
        timeout_graceful_shutdown=30,
        proxy_headers=settings.proxy is not None,
        forwarded_allow_ips=settings.proxy,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        message = f"these files are not a certificate and its key ({error}). Give PEM files."
        raise RegistryError(message, where=f"{certificate}, {key}") from None
    return GuardedServer(config, guard, lambda counts: write({"time": timestamp(), "connections": counts}))
