"""GET /manifests/DIGEST: the files of a version."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from vertical_sdk.registry.store import Stored
from vertical_sdk.server.registry_routes.service import Service, Sha256, registry_router

__all__ = ["routes"]


def routes(service: Service) -> APIRouter:
    """Build the route of manifests."""
    router, store = registry_router(), service.registry.store

    @router.get("/manifests/{digest}", name="manifest", dependencies=[Depends(service.may_read)])
    def read_manifest(digest: Sha256) -> dict[str, Stored]:
        """Path → SHA-256 and size of every file of a version."""
        return dict(store.manifest(digest))

    return router
