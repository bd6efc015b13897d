"""The routes of the pages, and errors as pages."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from starlette.convertors import PathConvertor, register_url_convertor

from vertical_sdk.errors import RegistryError, RunError, SourceError, VerticalError
from vertical_sdk.registry import Registry
from vertical_sdk.server.errors import public_message
from vertical_sdk.server.pages.adapter import adapter_page, log_page
from vertical_sdk.server.pages.adapters import list_page
from vertical_sdk.server.pages.rendering import STYLE, render, style_sheet
from vertical_sdk.server.pages.version import report_page, version_page

__all__ = ["error_page", "page_routes"]


class _Adapter(PathConvertor):
    """A name in an address. It has no @, so that no address is tried in more than one way."""

    regex = "[^@]+"


class _Version(PathConvertor):
    """What follows the @: a number, an alias or a digest."""

    regex = "[^@/]+"


register_url_convertor("adapter", _Adapter())
register_url_convertor("version", _Version())
Page = Callable[[Registry, Request], Response]
PAGES: tuple[tuple[str, str, Page], ...] = (
    ("/", "page_list", list_page),
    ("/a/{name:adapter}@{version:version}/report", "page_report", report_page),
    ("/a/{name:adapter}@{version:version}", "page_version", version_page),
    ("/a/{name:adapter}", "page_adapter", adapter_page),
    ("/log/{name:adapter}", "page_log", log_page),
    (f"/{STYLE}", "page_style", style_sheet),
)
"""The pages: path, name of the route, function. The first path that matches counts."""
TITLES = {400: "Invalid request", 404: "Not found", 503: "Not available now"}


def page_routes(registry: Registry) -> APIRouter:
    """Build the routes of the pages. They only read, and do not authenticate: the application decides who may see them."""
    router = APIRouter(include_in_schema=False)
    for path, name, page in PAGES:
        router.add_api_route(path, _handle_errors(registry, page), methods=["GET", "HEAD"], name=name)
    return router


def error_page(request: Request, status: int, message: str) -> HTMLResponse:
    """Show an error as a page."""
    title = TITLES.get(status, "Something went wrong")
    return render(request, "error.html", status, title=title, message=message, q="")


def _handle_errors(registry: Registry, page: Page) -> Callable[[Request], Response]:
    """Turn a page into the function of a route, whose errors are pages."""

    def handle(request: Request) -> Response:
        try:
            return page(registry, request)
        except RegistryError as error:
            return error_page(request, 404, public_message(error))
        except (SourceError, RunError) as error:
            return error_page(request, 503, public_message(error))
        except VerticalError as error:
            return error_page(request, 500, public_message(error))

    return handle
