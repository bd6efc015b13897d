"""GET /health: whether the server answers."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from vertical_sdk.server.registry_routes.service import API, Service

__all__ = ["routes"]


class Health(BaseModel):
    """The server answers."""

    ok: bool = True


def routes(_service: Service) -> APIRouter:
    """Build the route of the health check, which needs no token."""
    router = APIRouter(prefix=API)

    @router.get("/health", name="health")
    def check_health() -> Health:
        """Whether the server answers; no token is needed."""
        return Health()

    return router
