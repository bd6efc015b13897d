"""Errors as answers: the status and the public message of each error. Every server writes them in a form of its own (`Refuse`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Scope

from vertical_sdk.errors import (
    AdapterError,
    CorruptAdapter,
    DigestMismatch,
    GateFailed,
    MissingExtra,
    RegistryError,
    RunError,
    SourceError,
    VerticalError,
)
from vertical_sdk.paths import hide_addresses
from vertical_sdk.registry.references import parse_reference

__all__ = ["Refusal", "Refuse", "TooLarge", "describe_invalid", "handle_http_errors", "public_message", "status_of"]

MOST_PROBLEMS = 20
"""Problems of one request that its answer names."""
LONGEST_KEY = 200
"""Characters of a key in them."""


class TooLarge(RegistryError):
    """More than the server accepts."""


STATUS: tuple[tuple[type[VerticalError], int], ...] = (
    (TooLarge, 413),
    (GateFailed, 422),
    (RegistryError, 422),
    (AdapterError, 422),
    (DigestMismatch, 422),
    (MissingExtra, 501),
    (SourceError, 502),
    (RunError, 507),
)
"""The HTTP status of each error class, the first match counts; 422 for all others."""


@dataclass(frozen=True)
class Refusal:
    """An answer that is an error.

    kind     the name of a class in `vertical_sdk.errors`
    headers  such as Retry-After
    """

    status: int
    message: str
    kind: str = "RegistryError"
    headers: Mapping[str, str] = field(default_factory=dict)


Refuse: TypeAlias = Callable[[Scope, Refusal], Response]
"""How a server writes an error: the request's ASGI scope and the error → the answer."""


def status_of(error: VerticalError, method: str = "POST") -> int:
    """The HTTP status of an error. A GET of something that is missing or damaged is 404."""
    if isinstance(error, CorruptAdapter) and method == "GET":
        return 404
    return next((status for kind, status in STATUS if isinstance(error, kind)), 422)


def public_message(error: VerticalError) -> str:
    """The message of an error without places on this machine: its place is shown only if it is a reference."""
    message = hide_addresses(error.message)
    return f"{error.where}: {message}" if _is_reference(error.where) else message


def describe_invalid(error: RequestValidationError) -> str:
    """What is wrong with a request that does not fit its schema."""
    problems = error.errors()
    shown = [f"{'.'.join(str(step)[:LONGEST_KEY] for step in one['loc'])}: {one['msg']}" for one in problems[:MOST_PROBLEMS]]
    left = [f"and {len(problems) - MOST_PROBLEMS} more"] if len(problems) > MOST_PROBLEMS else []
    return "; ".join([*shown, *left])


def handle_http_errors(app: FastAPI, refuse: Refuse) -> None:
    """Answer what goes wrong with a request itself: an unknown path, a body that does not arrive."""

    @app.exception_handler(HTTPException)
    def handle_http_error(request: Request, error: HTTPException) -> Response:
        return refuse(request.scope, Refusal(error.status_code, str(error.detail), headers=error.headers or {}))

    @app.exception_handler(TimeoutError)
    def handle_timeout(request: Request, _: Exception) -> Response:
        return refuse(request.scope, Refusal(408, "the request did not arrive completely in time."))

    @app.exception_handler(ClientDisconnect)
    def handle_disconnect(request: Request, _: Exception) -> Response:
        return refuse(request.scope, Refusal(400, "the client closed the connection before the request was complete."))


def _is_reference(where: str) -> bool:
    """Whether a place is a reference such as medical/icd-chapter@3. A bare name is not enough: a relative path may look like one."""
    try:
        return "@" in where and bool(parse_reference(where))
    except RegistryError:
        return False
