"""An endpoint is one file with `routes(service)` and one line of ROUTES: shown with one that this test defines."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Depends
from fastapi.testclient import TestClient

from vertical_sdk.registry import Registry
from vertical_sdk.server.registry_app import ROUTES, create_registry_app
from vertical_sdk.server.registry_routes.service import Name, Service, registry_router
from vertical_sdk.server.security.tokens import Tokens
from vertical_sdk.server.settings import ServerSettings


def routes(service: Service) -> APIRouter:
    router = registry_router()

    @router.get("/count", name="count", dependencies=[Depends(service.may_read)])
    def count_versions(name: Name) -> int:
        return len(service.registry.store.versions(name))

    return router


def test_an_endpoint_from_outside_is_served_with_tokens_and_documented(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "tokens.json")
    token = {"Authorization": f"Bearer {tokens.add('ci', ['read'])}"}
    settings = ServerSettings(uploads=tmp_path / "uploads")
    app = create_registry_app(Registry(tmp_path / "registry"), tokens, settings, log=lambda _: None, routes=(*ROUTES, routes))
    client = TestClient(app)

    assert client.get("/api/v1/count?name=a").status_code == 401
    assert client.get("/api/v1/count?name=a", headers=token).json() == 0
    assert client.get("/api/v1/health").json() == {"ok": True}
    assert "/api/v1/count" in client.get("/api/v1/openapi.json", headers=token).json()["paths"]
