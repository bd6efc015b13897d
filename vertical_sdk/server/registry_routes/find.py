"""GET /find: the versions that a reference may mean."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from vertical_sdk.registry.references import parse_reference
from vertical_sdk.registry.store import Entry
from vertical_sdk.server.registry_routes.service import Service, registry_router

__all__ = ["routes"]


def routes(service: Service) -> APIRouter:
    """Build the route of references."""
    router, store = registry_router(), service.registry.store

    @router.get("/find", name="find", dependencies=[Depends(service.may_read)])
    def find_versions(
        reference: Annotated[str, Query(max_length=300, description="NAME, NAME@3, NAME@ALIAS or NAME@sha256:DIGEST.")],
    ) -> list[Entry]:
        """The versions that a reference may mean: none, one, or several if they share the first digits of a digest."""
        return list(store.find(parse_reference(reference)))

    return router
