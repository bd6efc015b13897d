"""POST /signatures: add a signature to a version."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from pydantic import Field

from vertical_sdk.registry.signature_check import LONGEST
from vertical_sdk.server.registry_routes.service import Body, Digest, Done, Named, Number, Service, registry_router
from vertical_sdk.server.security.tokens import Token

__all__ = ["routes"]


class Signature(Body):
    """A signature, as `model-signing` writes it, and the SHA-256 of its public key."""

    name: Named
    version: Number
    fingerprint: Digest
    signature: str = Field(min_length=1, max_length=LONGEST)


def routes(service: Service) -> APIRouter:
    """Build the route of signatures."""
    router, registry = registry_router(), service.registry

    @router.post("/signatures", name="sign")
    def add_signature(body: Signature, token: Token = Depends(service.may_publish)) -> Done:  # noqa: B008
        """Store a signature of a version, if it is valid: its key, which its fingerprint names, signed the version's files."""
        acting = registry.acting_for(token.name)
        acting.add_signature(acting.resolve(f"{body.name}@{body.version}", check=False), body.fingerprint, body.signature)
        return Done()

    return router
