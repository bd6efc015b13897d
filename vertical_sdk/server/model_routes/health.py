"""GET /health: whether the server answers. GET /ready: whether it can answer for everything that it serves."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.responses import Response

from vertical_sdk.server.model_routes.service import ModelService

__all__ = ["CHECKS", "routes"]

CHECKS = frozenset({"/health", "/ready"})
"""The paths of the health checks, which need no token."""


class Health(BaseModel):
    """The process answers."""

    ok: bool = True


class Ready(BaseModel):
    """Whether each reference that is served is answered by the version that it means.

    specialists  how many references are served
    problems     how many of them mean a version that does not answer; the version before answers, or none if it was revoked
    """

    ok: bool
    specialists: int
    problems: int


def routes(service: ModelService) -> APIRouter:
    """Build the routes of the health checks."""
    router = APIRouter(tags=["server"])

    @router.get("/health", name="health")
    async def check_process() -> Health:
        """Whether the process answers. For a liveness probe."""
        return Health()

    @router.get("/ready", name="ready", response_model=Ready, responses={503: {"model": Ready}})
    async def check_specialists() -> Response:
        """Whether requests can be answered. 503 if nothing can be: no reference is served, or each one was revoked. For a readiness probe."""
        entries = service.serving.specialists.entries
        stopped = [entry for entry in entries if entry.revoked is not None or entry.served.revoked is not None]
        problems = sum(1 for entry in entries if entry.problem or entry in stopped)
        ready = Ready(ok=len(stopped) < len(entries), specialists=len(entries), problems=problems)
        return Response(ready.model_dump_json(), 200 if ready.ok else 503, media_type="application/json")

    return router
