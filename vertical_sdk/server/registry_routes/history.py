"""GET /history: the log of a name."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from vertical_sdk.registry.references import check_name
from vertical_sdk.registry.store import Event
from vertical_sdk.server.registry_routes.service import LARGEST, PAGE, Limit, Name, Service, registry_router

__all__ = ["routes"]


def routes(service: Service) -> APIRouter:
    """Build the route of the log."""
    router, store = registry_router(), service.registry.store

    @router.get("/history", name="history", dependencies=[Depends(service.may_read)])
    def list_events(
        name: Name, skip: Annotated[int, Query(ge=0, le=LARGEST)] = 0, limit: Limit = PAGE, newest_first: bool = False
    ) -> list[Event]:
        """The log of a name. It only grows: with the oldest first, `skip` always means the same lines."""
        return list(store.history(check_name(name), skip=skip, limit=limit, newest_first=newest_first))

    return router
