"""How a page is rendered: its template, its headers, its links, and how values are written."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from vertical_sdk.evaluation.headline import describe_rows, headline, metric_title, p_text
from vertical_sdk.evaluation.plots import number
from vertical_sdk.evaluation.result import Evaluation
from vertical_sdk.json_text import parse_json
from vertical_sdk.registry import Registry

__all__ = ["REPORT", "REPORT_GUARDS", "STYLE", "TEMPLATES", "metric_names", "read_count", "redirect", "render", "style_sheet"]

TEMPLATES = Path(__file__).parent / "templates"
STYLE = "page.css"
REPORT = "report.html"
LONGEST_VALUE = 20_000
"""Characters of a fact, and of the evidence in the log, that a page shows."""
LONGEST_README = 100_000
"""Characters of a README that a page shows."""
GUARDS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "private, no-cache",
}
REPORT_GUARDS = GUARDS | {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'; sandbox"
}
"""A report is a publisher's own HTML: it may use its styles and pictures, but no script, form, network or cookie."""


def render(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Render a template as a page."""
    link = functools.partial(_link, request)
    html = _environment().get_template(template).render(link=link, style=_style_digest(), **values)
    return HTMLResponse(html.encode(errors="replace"), status, GUARDS)


def redirect(request: Request, status: int, page: str, **parameters: Any) -> Response:
    """Redirect to a page."""
    return RedirectResponse(_link(request, page, **parameters), status, GUARDS)


def style_sheet(_registry: Registry, _request: Request) -> Response:
    """The style sheet. Its address contains its digest, so browsers may cache it."""
    headers = GUARDS | {"Cache-Control": "public, max-age=86400"}
    return Response((TEMPLATES / STYLE).read_bytes(), media_type="text/css", headers=headers)


def read_count(request: Request, key: str) -> int | None:
    """A whole number from 1 in the query, where the page starts. Anything else is ignored."""
    text = request.query_params.get(key, "")
    return int(text) if re.fullmatch(r"[1-9][0-9]{0,17}", text) else None


def metric_names(evaluation: Evaluation) -> list[str]:
    """The metrics of all systems, each once."""
    return list(dict.fromkeys(name for system in evaluation.systems.values() for name in system.metrics))


def _link(request: Request, page: str, **parameters: Any) -> str:
    """The path of a page, also if the routes are mounted below another path."""
    return request.url_for(page, **parameters).path


@functools.cache
def _style_digest() -> str:
    return hashlib.sha256((TEMPLATES / STYLE).read_bytes()).hexdigest()[:12]


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        number=number,
        p=p_text,
        metric=metric_title,
        headline=headline,
        rows=_describe_rows,
        metrics=metric_names,
        plain=lambda value: _shorten(_format_value(value)),
        when=_format_time,
        pretty=_format_json,
        urlencode=functools.partial(urlencode, errors="replace"),
    )
    environment.globals.update(most_readme=LONGEST_README, report=REPORT)
    return environment


def _describe_rows(evaluation: Evaluation) -> str:
    """How many rows were evaluated, and whether the specialist was trained on them."""
    return describe_rows(evaluation.rows, repeated=evaluation.repeated, unknown=evaluation.unknown, folds=evaluation.folds)


def _format_time(at: str) -> str:
    """A time to the minute."""
    return at[:16].replace("T", " ")


def _format_value(value: Any) -> str:
    """A fact as text: numbers with separators, parts after their names."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_format_value(part)}" for name, part in value.items()) or "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if value >= 10_000 else str(value)
    if isinstance(value, float) and abs(value) > 1e100:
        return str(value)
    return number(value) if value is None or isinstance(value, float) else json.dumps(value, ensure_ascii=False, default=str)


def _format_json(text: str) -> str:
    """JSON on several lines; any other text unchanged. Only the start of a long text."""
    try:
        if len(text) <= LONGEST_VALUE:
            text = json.dumps(parse_json(text), indent=1, ensure_ascii=False)
    except ValueError:
        pass
    return _shorten(text)


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]} …"
