"""GET /versions: the versions of a name."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from vertical_sdk.registry.references import check_name
from vertical_sdk.registry.store import Entry
from vertical_sdk.server.registry_routes.service import LARGEST, PAGE, Limit, Name, Service, registry_router

__all__ = ["routes"]


def routes(service: Service) -> APIRouter:
    """Build the route of versions."""
    router, store = registry_router(), service.registry.store

    @router.get("/versions", name="versions", dependencies=[Depends(service.may_read)])
    def list_versions(
        name: Name, before: Annotated[int | None, Query(ge=1, le=LARGEST)] = None, limit: Limit = PAGE
    ) -> list[Entry]:
        """The `limit` newest versions of a name below number `before`, oldest first."""
        return list(store.versions(check_name(name), before=before, limit=limit))

    return router
