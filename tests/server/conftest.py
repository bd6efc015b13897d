"""A served registry and its tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from registry.conftest import MakeAdapter, make_adapter  # noqa: F401  (the fixture)
from servers.http_server import serving
from serving.conftest import own, published  # noqa: F401  (fixtures)

from vertical_sdk.registry import Registry
from vertical_sdk.server.registry_app import create_registry_app
from vertical_sdk.server.security.tokens import Tokens
from vertical_sdk.server.settings import Limits, ServerSettings

__all__ = ["MakeAdapter", "Served"]

SCOPES_OF = {"reader": ["read"], "publisher": ["publish"], "boss": ["publish", "promote"]}


@dataclass
class Served:
    """A registry, its address, and the secrets of its tokens."""

    registry: Registry
    tokens: Tokens
    address: str
    secrets: dict[str, str]
    log: list[dict[str, Any]] = field(default_factory=list)

    def ask(self, method: str, path: str, who: str | None = None, **what: Any) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {self.secrets[who]}"} if who else {}
        headers |= what.pop("headers", {})
        # The address is http://: without verify=False each request would load all certificates of the machine.
        return httpx2.request(method, f"{self.address}{path}", headers=headers, verify=False, **what)


class Server:
    """Builds the applications that a test serves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def app(self, limits: Limits | None = None, **settings: Any) -> tuple[Any, Served]:
        registry, tokens = Registry(self.folder / "registry"), Tokens(self.folder / "registry" / "tokens.json")
        secrets = {name: tokens.add(name, scopes) for name, scopes in SCOPES_OF.items()}
        served = Served(registry, tokens, "", secrets)
        chosen = ServerSettings(limits=limits or Limits(), uploads=self.folder / "uploads", **settings)
        return create_registry_app(registry, tokens, chosen, log=served.log.append), served


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


@pytest.fixture
def served(server: Server) -> Iterator[Served]:
    app, served = server.app()
    with serving(app) as served.address:
        yield served


@pytest.fixture
def client(served: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A registry as its users see it, with a token that has all scopes."""
    monkeypatch.setenv("VERTICAL_TOKEN", served.secrets["boss"])
    registry = Registry(served.address)
    yield registry
    registry.close()
