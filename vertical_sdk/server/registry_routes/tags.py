"""POST /tags: set or delete the tags of a version."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from pydantic import Field

from vertical_sdk.server.registry_routes.service import (
    MOST_TAGS,
    Body,
    Done,
    Key,
    Named,
    Number,
    Service,
    Tag,
    Why,
    registry_router,
)
from vertical_sdk.server.security.tokens import Token

__all__ = ["routes"]


class Tags(Body):
    """Tags to set, or to delete (None)."""

    name: Named
    version: Number
    tags: dict[Key, Tag | None] = Field(max_length=MOST_TAGS)
    why: Why = ""


def routes(service: Service) -> APIRouter:
    """Build the route of tags."""
    router, registry = registry_router(), service.registry

    @router.post("/tags", name="tag")
    def set_tags(body: Tags, token: Token = Depends(service.may_promote)) -> Done:  # noqa: B008
        """Set or delete tags of a version."""
        registry.acting_for(token.name).tag(body.name, body.version, body.tags, why=body.why)
        return Done()

    return router
