"""A registry served over HTTP, as an ASGI application."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.types import Scope

from vertical_sdk import __version__
from vertical_sdk.errors import VerticalError
from vertical_sdk.paths import cache_home
from vertical_sdk.registry import Registry
from vertical_sdk.server.errors import (
    Refusal,
    TooLarge,
    describe_invalid,
    handle_http_errors,
    public_message,
    status_of,
)
from vertical_sdk.server.pages.routes import error_page, page_routes
from vertical_sdk.server.registry_files.presence import Presence
from vertical_sdk.server.registry_files.quotas import PublishedBytes
from vertical_sdk.server.registry_files.uploads import Uploads
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
from vertical_sdk.server.registry_routes.health import CHECKS
from vertical_sdk.server.registry_routes.problems import error_response
from vertical_sdk.server.registry_routes.service import API, Service
from vertical_sdk.server.security.access_log import AccessLog, Log, open_log
from vertical_sdk.server.security.authentication import is_api
from vertical_sdk.server.security.guard import Guard, GuardRules
from vertical_sdk.server.security.tokens import Tokens
from vertical_sdk.server.settings import ServerSettings

__all__ = ["ROUTES", "create_registry_app", "refuse"]

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


def create_registry_app(
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
        anonymous_read=settings.anonymous,
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
    handle_http_errors(app, refuse)
    _handle_errors(app)
    rules = GuardRules(
        CHECKS,
        open_methods=frozenset({"GET", "HEAD"} if settings.anonymous else ()),
        unbuffered=(uploads.PREFIX,),
        require_ready=presence.require,
    )
    app.add_middleware(Guard, tokens=tokens, limits=settings.limits, rules=rules, refuse=refuse)
    app.add_middleware(AccessLog, log=log or open_log(settings.log), refuse=refuse)
    return app


def refuse(scope: Scope, refusal: Refusal) -> Response:
    """Write an error as JSON for a client of the API, and as a page for a browser."""
    if is_api(scope["path"]):
        return error_response(refusal.status, refusal.message, kind=refusal.kind, headers=refusal.headers)
    page = error_page(Request(scope), refusal.status, refusal.message)
    page.headers.update(refusal.headers)
    return page


def _handle_errors(app: FastAPI) -> None:
    """Turn the errors that a route raises into responses."""

    @app.exception_handler(VerticalError)
    def handle_own_error(request: Request, error: VerticalError) -> Response:
        kind = "RegistryError" if isinstance(error, TooLarge) else type(error).__name__
        return error_response(status_of(error, request.method), public_message(error), kind=kind)

    @app.exception_handler(RequestValidationError)
    def handle_invalid_request(_: Request, error: RequestValidationError) -> Response:
        return error_response(422, describe_invalid(error))
