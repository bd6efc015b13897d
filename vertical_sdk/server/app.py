"""A registry behind HTTP, as an ASGI application."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from vertical_sdk import __version__
from vertical_sdk.errors import CorruptAdapter, VerticalError
from vertical_sdk.paths import cache_home
from vertical_sdk.registry import Registry
from vertical_sdk.server.access import API, Guard, needs
from vertical_sdk.server.answers import refusal, status_of
from vertical_sdk.server.limits import Limits
from vertical_sdk.server.log import Log, Watch, log_to
from vertical_sdk.server.pages import error_page, pages
from vertical_sdk.server.registry_api import registry_api
from vertical_sdk.server.tokens import Tokens
from vertical_sdk.server.uploads import TooLarge, Uploads

__all__ = ["create_app"]


class Health(BaseModel):
    """The server answers."""

    ok: bool = True


def create_app(
    registry: Registry,
    tokens: Tokens,
    *,
    anonymous_read: bool = False,
    limits: Limits | None = None,
    uploads: Path | None = None,
    log: Log | None = None,
) -> FastAPI:
    """The application that serves a registry to those who have tokens.

    anonymous_read  who has no token may read all the same
    uploads         a folder for files that are not published yet; one in the cache folder where it is None
    log             is given a dict for every request; lines on stderr where it is None
    """
    limits = limits or Limits()
    own = hashlib.sha256(registry.location.encode()).hexdigest()[:16]  # several servers may share a cache folder
    waiting = Uploads(uploads or cache_home() / "uploads" / own, limits)
    waiting.sweep()
    app = FastAPI(
        title="vertical registry",
        version=__version__,
        openapi_url=f"{API}/openapi.json",
        docs_url=None,  # FastAPI's own pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.include_router(registry_api(registry, waiting, limits, anonymous=anonymous_read))
    reading = Depends(needs("read", anonymous=anonymous_read))
    app.include_router(pages(registry), dependencies=[reading], include_in_schema=False)

    @app.get(f"{API}/health")
    def health() -> Health:
        """Whether the server answers; everybody may ask."""
        return Health()

    private = _private(registry, waiting)

    @app.exception_handler(VerticalError)
    def told(request: Request, error: VerticalError) -> Response:
        status = 413 if isinstance(error, TooLarge) else status_of(error)
        if isinstance(error, CorruptAdapter) and request.method == "GET":
            status = 404
        kind = "RegistryError" if isinstance(error, TooLarge) else type(error).__name__
        message = str(error)
        for place, name in private:
            message = place.sub(name, message)
        return refusal(status, message, kind=kind)

    @app.exception_handler(RequestValidationError)
    def not_understood(_: Request, error: RequestValidationError) -> Response:
        wrong = (f"{'.'.join(str(step) for step in one['loc'])}: {one['msg']}" for one in error.errors())
        return refusal(422, "; ".join(wrong))

    @app.exception_handler(HTTPException)
    def plain(request: Request, error: HTTPException) -> Response:
        if request.url.path.startswith("/api/"):
            return refusal(error.status_code, str(error.detail), headers=error.headers)
        page = error_page(request, error.status_code, str(error.detail))
        page.headers.update(error.headers or {})
        return page

    @app.exception_handler(TimeoutError)
    def slow(*_: object) -> Response:
        return refusal(408, "the request was not sent to its end in time.")

    @app.exception_handler(ClientDisconnect)
    def gone(*_: object) -> Response:
        return refusal(400, "the request was cut.")

    app.add_middleware(Guard, tokens=tokens, limits=limits)
    app.add_middleware(Watch, log=log or log_to(None))
    return app


def _private(registry: Registry, waiting: Uploads) -> list[tuple[re.Pattern[str], str]]:
    """Places of this machine that no message shall tell, and what it says in their stead."""
    desk = re.compile(re.escape(str(waiting.root)) + r"[/\\]\.desk-[0-9a-f]+[/\\]adapter")
    store = str(Path(registry.location).absolute()) if "://" not in registry.location else registry.location
    return [
        (desk, "the adapter"),
        (re.compile(re.escape(str(waiting.root))), "uploads"),
        (re.compile(re.escape(store)), "registry"),
    ]
