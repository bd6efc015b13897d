"""Specialists served over HTTP, as an ASGI application."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.responses import JSONResponse

from vertical_sdk import __version__
from vertical_sdk.errors import VerticalError
from vertical_sdk.server.errors import handle_http_errors
from vertical_sdk.server.model_routes import (
    adapters,
    chat,
    classify,
    completions,
    embeddings,
    forecast,
    health,
    metrics,
    models,
    moderations,
    tokenize,
)
from vertical_sdk.server.model_routes.counters import Metrics
from vertical_sdk.server.model_routes.problems import describe_request_error, refuse, write_error
from vertical_sdk.server.model_routes.service import ModelService
from vertical_sdk.server.security.access_log import AccessLog, Log, open_log
from vertical_sdk.server.security.guard import Guard, GuardRules
from vertical_sdk.server.security.tokens import Tokens
from vertical_sdk.server.settings import ServerSettings
from vertical_sdk.serving import Serving

__all__ = ["ROUTES", "create_model_app"]

ROUTES: tuple[Callable[[ModelService], APIRouter], ...] = (
    models.routes,
    chat.routes,
    completions.routes,
    embeddings.routes,
    classify.routes,
    moderations.routes,
    forecast.routes,
    tokenize.routes,
    adapters.routes,
    health.routes,
    metrics.routes,
)
"""The endpoints: one function for each."""
METHODS = frozenset({"GET", "HEAD", "POST", "DELETE"})


def create_model_app(
    serving: Serving,
    tokens: Tokens,
    settings: ServerSettings | None = None,
    *,
    metrics: Metrics | None = None,
    log: Log | None = None,
    routes: Sequence[Callable[[ModelService], APIRouter]] = ROUTES,
) -> FastAPI:
    """Build the application that lets clients with a token ask specialists.

    serving  what is served; the caller starts and closes it
    metrics  counts the requests; its `batches` may be what `serving` reports its batches to
    log      receives a dict for every request; None means a line in `settings.log`
    routes   the endpoints
    """
    settings = settings or ServerSettings()
    metrics = metrics or Metrics()
    metrics.observe(serving)
    service = ModelService(serving, metrics, anonymous=settings.anonymous)
    app = FastAPI(
        title="vertical specialists",
        version=__version__,
        openapi_url=None,  # below, for clients with a token
        docs_url=None,  # FastAPI's own pages load scripts from other sites
        redoc_url=None,
        redirect_slashes=False,
    )
    for router in routes:
        app.include_router(router(service))

    @app.get("/openapi.json", dependencies=[Depends(service.may_infer)], include_in_schema=False)
    def read_document() -> Response:
        return JSONResponse(app.openapi())

    handle_http_errors(app, refuse)

    @app.exception_handler(VerticalError)
    def handle_own_error(_: Request, error: VerticalError) -> Response:
        return write_error(error)

    @app.exception_handler(RequestValidationError)
    def handle_invalid_request(_: Request, error: RequestValidationError) -> Response:
        return describe_request_error(error)

    rules = GuardRules(
        health.CHECKS, open_methods=METHODS if settings.anonymous else frozenset(), any_secret=settings.anonymous
    )
    app.add_middleware(Guard, tokens=tokens, limits=settings.limits, rules=rules, refuse=refuse)
    app.add_middleware(AccessLog, log=log or open_log(settings.log), refuse=refuse)
    return app
