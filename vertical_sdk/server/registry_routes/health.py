"""GET /health: whether the server can serve. GET /live: whether it answers."""

from __future__ import annotations

import anyio
from fastapi import APIRouter
from pydantic import BaseModel
from starlette.responses import Response

from vertical_sdk.server.errors import public_message
from vertical_sdk.server.registry_routes.problems import Problem, error_response
from vertical_sdk.server.registry_routes.service import API, Service

__all__ = ["CHECKS", "routes"]

CHECKS = frozenset({f"{API}/health", f"{API}/live"})
"""The paths of the health checks."""


class Health(BaseModel):
    """All is well."""

    ok: bool = True


def routes(service: Service) -> APIRouter:
    """Build the routes of the health checks, which need no token."""
    router = APIRouter(prefix=API)

    own = anyio.CapacityLimiter(1)  # not in the queue of the other requests

    @router.get("/health", name="health", response_model=Health, responses={503: {"model": Problem}})
    async def check_health() -> Health | Response:
        """Whether requests can be served: the registry and the tokens can be read. 503 if not. For a readiness probe."""
        find_problem = service.presence.find_problem if service.presence else lambda: None
        problem = await anyio.to_thread.run_sync(find_problem, limiter=own)
        return Health() if problem is None else error_response(503, public_message(problem), kind=type(problem).__name__)

    @router.get("/live", name="live")
    async def check_process() -> Health:
        """Whether the server answers, whatever the state of its registry. For a liveness probe."""
        return Health()

    return router
