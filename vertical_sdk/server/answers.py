"""How a server says what went wrong: {"error": {"type": …, "message": …}}, the same for every error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from starlette.responses import JSONResponse

from vertical_sdk.errors import (
    AdapterError,
    DigestMismatch,
    GateFailed,
    MissingExtra,
    RegistryError,
    RunError,
    SourceError,
    VerticalError,
)

__all__ = ["Problem", "refusal", "status_of"]

STATUS: tuple[tuple[type[VerticalError], int], ...] = (
    (GateFailed, 422),
    (RegistryError, 422),
    (AdapterError, 422),
    (DigestMismatch, 422),
    (MissingExtra, 501),
    (SourceError, 502),
    (RunError, 507),
)
"""What an error of ours is in HTTP; 422 where it is none of these."""


class Told(BaseModel):
    """An error: `type` is the name of a class in `vertical_sdk.errors`."""

    type: str
    message: str


class Problem(BaseModel):
    """The body of every answer that is an error. `missing`: the digests of files that are to be uploaded first."""

    error: Told
    missing: list[str] | None = None


def status_of(error: VerticalError) -> int:
    """The HTTP status that an error of ours is."""
    return next((status for kind, status in STATUS if isinstance(error, kind)), 422)


def refusal(
    status: int, message: str, *, kind: str = "RegistryError", headers: Mapping[str, str] | None = None, **more: Any
) -> JSONResponse:
    """An answer that is an error. What is no text (half a surrogate pair) is written as its code."""
    told = message.encode("utf-8", "backslashreplace").decode()
    return JSONResponse({"error": {"type": kind, "message": told}, **more}, status, dict(headers or {}))
