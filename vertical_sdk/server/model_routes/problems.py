"""Errors in OpenAI's shape: {"error": {"message": …, "type": …, "param": …, "code": …}}."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from vertical_sdk.errors import (
    AdapterError,
    BaseModelError,
    CorruptAdapter,
    DataError,
    MissingExtra,
    RegistryError,
    RunError,
    SourceError,
    VerticalError,
)
from vertical_sdk.server.errors import Refusal, describe_invalid, public_message
from vertical_sdk.serving.problems import Busy, Closed, RevokedModel, TooSlow, UnknownModel, WrongModel

__all__ = ["LoadFailed", "Problem", "Unsupported", "describe", "describe_request_error", "error_body", "refuse", "write_error"]


class LoadFailed(AdapterError):
    """A version that cannot be served: it or its base failed a check, or there is no room for it."""


class Unsupported(DataError):
    """A parameter whose value this server does not offer.

    param  its name
    """

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


class ErrorDetail(BaseModel):
    """An error, as OpenAI describes it."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class Problem(BaseModel):
    """The body of every response that is an error."""

    error: ErrorDetail


KINDS: tuple[tuple[type[VerticalError], int, str], ...] = (
    (UnknownModel, 404, "model_not_found"),
    (RevokedModel, 410, "model_revoked"),
    (WrongModel, 400, "unsupported_model"),
    (Busy, 429, "queue_full"),
    (TooSlow, 504, "timeout"),
    (Closed, 503, "shutting_down"),
    (Unsupported, 400, "unsupported_parameter"),
    (DataError, 400, "invalid_value"),
    (RegistryError, 404, "reference_not_found"),
    (LoadFailed, 422, "adapter_failed"),
    (CorruptAdapter, 500, "adapter_failed"),
    (AdapterError, 500, "adapter_failed"),
    (BaseModelError, 500, "base_failed"),
    (SourceError, 502, "registry_failed"),
    (MissingExtra, 501, "missing_extra"),
    (RunError, 503, "unavailable"),
)
"""The status and the code of each error; the first match counts."""
CODES = {
    401: "invalid_api_key",
    403: "insufficient_permissions",
    404: "not_found",
    405: "method_not_allowed",
    408: "timeout",
    413: "request_too_large",
    429: "rate_limit_exceeded",
}
TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def describe(error: VerticalError) -> tuple[int, ErrorDetail, dict[str, str]]:
    """The status, the body and the headers of an error."""
    status, code = next(((status, code) for kind, status, code in KINDS if isinstance(error, kind)), (500, "server_error"))
    headers = {"Retry-After": str(error.seconds)} if isinstance(error, Busy) else {}
    detail = ErrorDetail(
        message=_readable(public_message(error)),
        type=_find_type(status),
        param="model" if isinstance(error, UnknownModel | RevokedModel | WrongModel) else getattr(error, "param", None),
        code=code,
    )
    return status, detail, headers


def error_body(detail: ErrorDetail) -> str:
    """The body of an answer that is an error, as JSON."""
    return Problem(error=detail).model_dump_json()


def write_error(error: VerticalError) -> Response:
    """An error as an answer."""
    status, detail, headers = describe(error)
    return Response(error_body(detail), status, headers, "application/json")


def describe_request_error(error: RequestValidationError) -> Response:
    """The answer to a request that does not fit its schema: it names the first parameter that is wrong."""
    first = error.errors()[0]
    path = [str(step) for step in first["loc"] if step not in {"body", "query", "path"}]
    codes = {"extra_forbidden": "unknown_parameter", "missing": "missing_required_parameter", "json_invalid": "invalid_json"}
    code = codes.get(first["type"], "invalid_value")
    param = ".".join(path)[:200] if path and code != "invalid_json" else None
    message = describe_invalid(error)
    if code == "unknown_parameter":
        message = f"unknown parameter {param!r}: it is not ignored, as it might change the answer. Leave it out."
    detail = ErrorDetail(message=_readable(message), type=_find_type(400), param=_readable(param) if param else None, code=code)
    return Response(error_body(detail), 400, media_type="application/json")


def refuse(_: Scope, refusal: Refusal) -> Response:
    """Write what the guard, the log and the routing refuse."""
    return _write(refusal.status, refusal.message, refusal.headers)


def _write(status: int, message: str, headers: Mapping[str, str]) -> Response:
    detail = ErrorDetail(
        message=_readable(message), type=_find_type(status), code=CODES.get(status, "server_error" if status >= 500 else None)
    )
    return JSONResponse({"error": detail.model_dump()}, status, dict(headers))


def _find_type(status: int) -> str:
    return TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")


def _readable(text: str) -> str:
    """A text whose characters UTF-8 can encode; half of a surrogate pair is written as its code."""
    return text.encode("utf-8", "backslashreplace").decode()
