"""The body of every response that is an error: {"error": {"type": …, "message": …}}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from starlette.responses import JSONResponse

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

__all__ = ["Problem", "TooLarge", "error_response", "public_message", "status_of"]


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


class ErrorDetail(BaseModel):
    """An error: `type` is the name of a class in `vertical_sdk.errors`."""

    type: str
    message: str


class Problem(BaseModel):
    """The body of every response that is an error. `missing`: the digests of files that must be uploaded first."""

    error: ErrorDetail
    missing: list[str] | None = None


def status_of(error: VerticalError, method: str = "POST") -> int:
    """The HTTP status of an error. A GET of something that is missing or damaged is 404."""
    if isinstance(error, CorruptAdapter) and method == "GET":
        return 404
    return next((status for kind, status in STATUS if isinstance(error, kind)), 422)


def public_message(error: VerticalError) -> str:
    """The message of an error without places on this machine: its place is shown only if it is a reference."""
    message = hide_addresses(error.message)
    return f"{error.where}: {message}" if _is_reference(error.where) else message


def error_response(
    status: int, message: str, *, kind: str = "RegistryError", headers: Mapping[str, str] | None = None, **more: Any
) -> JSONResponse:
    """A response that is an error. A character that UTF-8 cannot encode (half a surrogate pair) is written as its code."""
    text = message.encode("utf-8", "backslashreplace").decode()
    return JSONResponse({"error": {"type": kind, "message": text}, **more}, status, dict(headers or {}))


def _is_reference(where: str) -> bool:
    """Whether a place is a reference such as medical/icd-chapter@3. A bare name is not enough: a relative path may look like one."""
    try:
        return "@" in where and bool(parse_reference(where))
    except RegistryError:
        return False
