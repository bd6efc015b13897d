"""POST /signatures: add a signature to a version."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from pydantic import Field
from starlette.responses import Response

from vertical_sdk.server.errors import error_response
from vertical_sdk.server.registry_routes.service import Body, Digest, Done, Named, Number, Service, registry_router
from vertical_sdk.server.security.tokens import Token

__all__ = ["routes"]


class Signature(Body):
    """A signature, as `model-signing` writes it, and the SHA-256 of its public key."""

    name: Named
    version: Number
    fingerprint: Digest
    signature: str = Field(min_length=1, max_length=32_768)


def routes(service: Service) -> APIRouter:
    """Build the route of signatures."""
    router, registry = registry_router(), service.registry

    @router.post("/signatures", name="sign", response_model=Done)
    def add_signature(body: Signature, token: Token = Depends(service.may_publish)) -> Done | Response:  # noqa: B008
        """Store a signature of a version. Replacing an existing one requires the scope promote."""
        acting = registry.acting_for(token.name)
        version = acting.resolve(f"{body.name}@{body.version}", check=False)
        existing = version.signatures.get(body.fingerprint)
        if existing == body.signature:
            return Done()
        if existing is not None and not token.may("promote"):
            return error_response(409, f"{version} is signed with the key {body.fingerprint[:12]}… already.")
        acting.add_signature(version, body.fingerprint, body.signature)
        return Done()

    return router
