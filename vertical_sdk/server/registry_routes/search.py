"""GET /search: the versions that meet conditions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from vertical_sdk.registry.query import LONGEST, MOST, parse_condition
from vertical_sdk.registry.store import Entry
from vertical_sdk.server.registry_routes.service import LARGEST, PAGE, After, Limit, Service, registry_router

__all__ = ["routes"]


def routes(service: Service) -> APIRouter:
    """Build the route of searches."""
    router, store = registry_router(), service.registry.store

    @router.get("/search", name="search", dependencies=[Depends(service.may_read)])
    def search_versions(
        condition: Annotated[
            list[Annotated[str, Field(max_length=LONGEST)]] | None,
            Query(max_length=MOST, description="Such as domain=medical, macro_f1>0.8."),
        ] = None,
        after_name: After = "",
        after_number: Annotated[int, Query(ge=0, le=LARGEST)] = 0,
        limit: Limit = PAGE,
    ) -> list[Entry]:
        """The versions that meet all conditions, sorted by name and number; those after (after_name, after_number)."""
        conditions = [parse_condition(text) for text in condition or ()]
        return list(store.search(conditions, after=(after_name, after_number) if after_name else None, limit=limit))

    return router
