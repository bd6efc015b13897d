"""What all routes of served specialists share: who answers, how long a client is waited for, and who may call a route."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import APIRouter, Depends, Request
from fastapi.security import HTTPBearer
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from vertical_sdk.server.model_routes.bodies import describe_answerer, identity_headers
from vertical_sdk.server.model_routes.counters import Metrics
from vertical_sdk.server.model_routes.problems import Problem
from vertical_sdk.server.security.authentication import require
from vertical_sdk.server.security.tokens import Token
from vertical_sdk.serving import Serving
from vertical_sdk.serving.problems import TooSlow, WrongModel
from vertical_sdk.serving.service import Answerer

__all__ = ["ModelService", "create_id", "model_router", "now", "write_answer"]

Result = TypeVar("Result")
AUTO = "auto"
STATUSES = (400, 401, 403, 404, 405, 408, 410, 413, 414, 422, 429, 431, 500, 501, 502, 503, 504)


@dataclass(frozen=True)
class ModelService:
    """Served specialists.

    anonymous  allow asking without a token
    """

    serving: Serving
    metrics: Metrics
    anonymous: bool = False

    @property
    def may_infer(self) -> Callable[[Request], Awaitable[Token | None]]:
        """A dependency: the caller may ask."""
        return require("infer", anonymous=self.anonymous)

    @property
    def may_admin(self) -> Callable[[Request], Awaitable[Token | None]]:
        """A dependency: the caller's token may change what is served."""
        return require("admin")

    @contextmanager
    def using(self, endpoint: str, model: str, family: str = "") -> Iterator[Answerer]:
        """Find who answers, keep it loaded and measure within the block; for `family` see `Serving.using`.

        Raises UnknownModel, RevokedModel, WrongModel.
        """
        if model == AUTO:
            raise WrongModel("this server has no router, so it cannot choose a specialist. Name one; /v1/models lists them.")
        with self.serving.using(model, family) as answerer, self.metrics.measure(endpoint, answerer):
            yield answerer

    async def wait(self, request: Request, future: Future[Result] | Awaitable[Result]) -> Result:
        """Wait for an answer as long as its client does, and not longer than the server's timeout.

        Raises ClientDisconnect, TooSlow, and the error of the future.
        """
        answer: asyncio.Future[Result] = (
            asyncio.wrap_future(future) if isinstance(future, Future) else asyncio.ensure_future(future)
        )
        gone = asyncio.ensure_future(_wait_until_gone(request))
        both: set[asyncio.Future[Any]] = {answer, gone}
        try:
            await asyncio.wait(both, timeout=self.serving.settings.timeout, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            if gone.done():
                raise ClientDisconnect
            raise TooSlow("the answer was not there in time. Come back later, or ask for less at once.")
        finally:
            gone.cancel()
            answer.cancel()  # a job that has not started is given up


async def _wait_until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def model_router(tag: str) -> APIRouter:
    """A router whose document says that a token is needed and what errors look like."""
    bearer = HTTPBearer(auto_error=False, description="A token, from `vertical registry token add`.")
    errors: dict[int | str, dict[str, Any]] = {status: {"model": Problem} for status in STATUSES}
    return APIRouter(responses=errors, dependencies=[Depends(bearer)], tags=[tag])


def write_answer(answer: BaseModel, answerer: Answerer) -> Response:
    """An answer as JSON, with the headers that say who gave it."""
    headers = identity_headers(describe_answerer(answerer))
    return Response(answer.model_dump_json(), headers=headers, media_type="application/json")


def create_id(kind: str) -> str:
    """A name for an answer, such as chatcmpl-…."""
    return f"{kind}-{uuid.uuid4().hex}"


def now() -> int:
    """The time in seconds since 1970."""
    return int(time.time())
