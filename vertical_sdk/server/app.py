"""A registry served over HTTP, as an ASGI application."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from vertical_sdk import __version__
from vertical_sdk.errors import VerticalError
from vertical_sdk.paths import cache_home
from vertical_sdk.registry import Registry
from vertical_sdk.server.errors import TooLarge, error_response, public_message, status_of
from vertical_sdk.server.pages.routes import error_page, page_routes
from vertical_sdk.server.presence import Presence
from vertical_sdk.server.quotas import PublishedBytes
from vertical_sdk.server.registry_routes import (
    aliases,
    files,
    find,
    health,
    history,
    maintenance,
    manifests,
    names,
    publish,
    revocations,
    search,
    signatures,
    tags,
    uploads,
    versions,
)
from vertical_sdk.server.registry_routes.service import API, Service
from vertical_sdk.server.security.access_log import AccessLog, Log, open_log
from vertical_sdk.server.security.authentication import is_api
from vertical_sdk.server.security.guard import Guard
from vertical_sdk.server.security.tokens import Tokens
from vertical_sdk.server.settings import ServerSettings
from vertical_sdk.server.uploads import Uploads

__all__ = ["ROUTES", "create_app"]

ROUTES: tuple[Callable[[Service], APIRouter], ...] = (
    names.routes,
    versions.routes,
    find.routes,
    search.routes,
    history.routes,
    manifests.routes,
    files.routes,
    uploads.routes,
    publish.routes,
    aliases.routes,
    tags.routes,
    signatures.routes,
    revocations.routes,
    maintenance.routes,
    health.routes,
)
"""The endpoints of the API: one function for each resource."""

MOST_PROBLEMS = 20
"""Problems of one request that its answer names."""
LONGEST_KEY = 200
"""Characters of a key in them."""


def create_app(
    registry: Registry,
    tokens: Tokens,
    settings: ServerSettings | None = None,
    *,
    log: Log | None = None,
    routes: Sequence[Callable[[Service], APIRouter]] = ROUTES,
) -> FastAPI:
    """Build the application that serves a registry to clients with a token.

    log     receives a dict for every request; None means a line in `settings.log`
    routes  the endpoints of the API
    """
    settings = settings or ServerSettings()
    own = hashlib.sha256(registry.location.encode()).hexdigest()[:16]  # several servers may share a cache folder
    waiting = Uploads(settings.uploads or cache_home() / "uploads" / own, settings.limits)
    waiting.sweep()
    presence = Presence(registry, tokens)
    service = Service(
        registry,
        waiting,
        settings.limits,
        anonymous_read=settings.anonymous_read,
        presence=presence,
        published=PublishedBytes(tokens.path, settings.limits.published),
    )
    app = FastAPI(
        title="vertical registry",
        version=__version__,
        openapi_url=f"{API}/openapi.json",
        docs_url=None,  # FastAPI's own pages load scripts from other sites
        redoc_url=None,
        redirect_slashes=False,
    )
    for router in routes:
        app.include_router(router(service))
    app.include_router(page_routes(registry), dependencies=[Depends(service.may_read)], include_in_schema=False)
    _handle_errors(app)
    app.add_middleware(
        Guard,
        tokens=tokens,
        limits=settings.limits,
        unbuffered=uploads.PREFIX,
        presence=presence,
        refuse=_refuse,
        anonymous_read=settings.anonymous_read,
    )
    app.add_middleware(AccessLog, log=log or open_log(settings.log))
    return app


def _refuse(scope: Scope, status: int, message: str, headers: Mapping[str, str]) -> Response:
    """An error as JSON for a client of the API, and as a page for a browser."""
    if is_api(scope["path"]):
        return error_response(status, message, headers=headers)
    page = error_page(Request(scope), status, message)
    page.headers.update(headers)
    return page


def _handle_errors(app: FastAPI) -> None:
    """Turn every error that a route may raise into a response."""

    @app.exception_handler(VerticalError)
    def handle_own_error(request: Request, error: VerticalError) -> Response:
        kind = "RegistryError" if isinstance(error, TooLarge) else type(error).__name__
        return error_response(status_of(error, request.method), public_message(error), kind=kind)

    @app.exception_handler(RequestValidationError)
    def handle_invalid_request(_: Request, error: RequestValidationError) -> Response:
        problems = error.errors()
        shown = [
            f"{'.'.join(str(step)[:LONGEST_KEY] for step in one['loc'])}: {one['msg']}" for one in problems[:MOST_PROBLEMS]
        ]
        left = [f"and {len(problems) - MOST_PROBLEMS} more"] if len(problems) > MOST_PROBLEMS else []
        return error_response(422, "; ".join([*shown, *left]))

    @app.exception_handler(HTTPException)
    def handle_http_error(request: Request, error: HTTPException) -> Response:
        return _refuse(request.scope, error.status_code, str(error.detail), error.headers or {})

    @app.exception_handler(TimeoutError)
    def handle_timeout(*_: object) -> Response:
        return error_response(408, "the request did not arrive completely in time.")

    @app.exception_handler(ClientDisconnect)
    def handle_disconnect(*_: object) -> Response:
        return error_response(400, "the client closed the connection before the request was complete.")
