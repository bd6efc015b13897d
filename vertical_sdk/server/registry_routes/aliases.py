"""POST /aliases: move or delete an alias."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from pydantic import Field
from starlette.responses import Response

from vertical_sdk.errors import RegistryError
from vertical_sdk.registry.references import check_alias, check_name
from vertical_sdk.registry.store import BY_FORCE, MoveAction
from vertical_sdk.server.errors import public_message
from vertical_sdk.server.registry_routes.problems import error_response
from vertical_sdk.server.registry_routes.service import LARGEST, Body, Done, Named, Number, Service, Why, registry_router
from vertical_sdk.server.security.tokens import Token

__all__ = ["routes"]


class Move(Body):
    """An alias, and the version that it should point at."""

    name: Named
    alias: str = Field(max_length=64)
    version: Number | None = Field(description="None deletes the alias.")
    expected: int | None = Field(
        None, ge=0, le=LARGEST, description="The version that it must point at now; 0: none; not given: any."
    )
    force: bool = Field(False, description="Move it to a version that did not pass its gate; needs a reason in `why`.")
    why: Why = ""
    action: MoveAction = Field("alias", description="What the log calls the move.")
    evidence: str = Field("", max_length=100_000, description="JSON: the evidence for the move.")


def routes(service: Service) -> APIRouter:
    """Build the route of aliases."""
    router, registry = registry_router(), service.registry

    @router.post("/aliases", name="alias", response_model=Done)
    def move_alias(body: Move, token: Token = Depends(service.may_promote)) -> Done | Response:  # noqa: B008
        """Move an alias if it points at the expected version (409 if not) and the new version passed its gate (422 if not)."""
        check_alias(body.alias, check_name(body.name))
        acting = registry.acting_for(token.name)
        try:
            if body.version is None:
                acting.delete_alias(body.name, body.alias, expected=body.expected, why=body.why, evidence=body.evidence)
            else:
                acting.set_alias(
                    body.name,
                    body.alias,
                    body.version,
                    expected=body.expected,
                    force=body.force,
                    why=body.why,
                    evidence=body.evidence,
                    action=body.action + (BY_FORCE if body.force else ""),
                )
        except RegistryError as error:
            return error_response(409, public_message(error))
        return Done()

    return router
