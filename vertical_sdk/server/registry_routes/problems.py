"""The body of every response of the registry's API that is an error: {"error": {"type": …, "message": …}}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from starlette.responses import JSONResponse

__all__ = ["Problem", "error_response"]


class ErrorDetail(BaseModel):
    """An error: `type` is the name of a class in `vertical_sdk.errors`."""

    type: str
    message: str


class Problem(BaseModel):
    """The body of every response that is an error. `missing`: the digests of files that must be uploaded first."""

    error: ErrorDetail
    missing: list[str] | None = None


def error_response(
    status: int, message: str, *, kind: str = "RegistryError", headers: Mapping[str, str] | None = None, **more: Any
) -> JSONResponse:
    """A response that is an error. A character that UTF-8 cannot encode (half a surrogate pair) is written as its code."""
    text = message.encode("utf-8", "backslashreplace").decode()
    return JSONResponse({"error": {"type": kind, "message": text}, **more}, status, dict(headers or {}))
