"""POST /revocations: revoke a version."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field

from vertical_sdk.registry.revocations import LONGEST
from vertical_sdk.server.registry_routes.service import Body, Done, Named, Number, Service, registry_router
from vertical_sdk.server.security.tokens import Token

__all__ = ["routes"]


class Revocation(Body):
    """A version that may not be loaded from now on, and why; or a statement of this that a key signed."""

    name: Named
    version: Number
    reason: Annotated[str, Field(max_length=1000)] = ""
    statement: Annotated[str, Field(max_length=LONGEST, description="As `vertical registry revoke --key` makes it.")] = ""


def routes(service: Service) -> APIRouter:
    """Build the route of revocations."""
    router, registry = registry_router(), service.registry

    @router.post("/revocations", name="revoke")
    def revoke_version(body: Revocation, token: Token = Depends(service.may_promote)) -> Done:  # noqa: B008
        """Refuse to load a version from now on."""
        acting, reference = registry.acting_for(token.name), f"{body.name}@{body.version}"
        if body.statement:
            acting.add_revocation(acting.resolve(reference, check=False), body.statement)
        else:
            acting.revoke(reference, body.reason)
        return Done()

    return router
