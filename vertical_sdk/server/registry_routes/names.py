"""GET /names and /newest: the names of a registry, and the newest version of each."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from vertical_sdk.registry.store import Entry
from vertical_sdk.server.registry_routes.service import PAGE, After, Limit, Prefix, Service, registry_router

__all__ = ["routes"]


class Newest(BaseModel):
    """The newest version of a name, and the versions that the name's aliases point at."""

    entry: Entry
    aliases: Mapping[str, int]


def routes(service: Service) -> APIRouter:
    """Build the routes of names."""
    router, store = registry_router(), service.registry.store
    reading = [Depends(service.may_read)]

    @router.get("/names", name="names", dependencies=reading)
    def list_names(prefix: Prefix = "", after: After = "", limit: Limit = PAGE) -> list[str]:
        """The names with this prefix that come after `after`, sorted."""
        return list(store.names(prefix, after=after, limit=limit))

    @router.get("/newest", name="newest", dependencies=reading)
    def list_newest(prefix: Prefix = "", after: After = "", limit: Limit = PAGE) -> list[Newest]:
        """The newest version of each of these names."""
        return [Newest(entry=entry, aliases=aliases) for entry, aliases in store.newest(prefix, after=after, limit=limit)]

    return router
