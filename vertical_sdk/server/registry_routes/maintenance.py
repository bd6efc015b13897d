"""GET /problems and POST /gc: check a store and free space."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from vertical_sdk.server.registry_routes.service import Service, registry_router

__all__ = ["routes"]


class Freed(BaseModel):
    """Bytes that were freed."""

    bytes: int


def routes(service: Service) -> APIRouter:
    """Build the routes of maintenance."""
    router, store = registry_router(), service.registry.store
    promoting = [Depends(service.may_promote)]

    @router.get("/problems", name="problems", dependencies=promoting)
    def list_problems() -> list[str]:
        """What is wrong with the store itself. Reads every file, which takes time."""
        return list(store.problems())

    @router.post("/gc", name="gc", dependencies=promoting)
    def collect_garbage() -> Freed:
        """Remove files that no version uses."""
        service.uploads.sweep()
        return Freed(bytes=store.gc())

    return router
