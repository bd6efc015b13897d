"""The servers that stores and sources are tested against. Each starts when the first test asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.http_server import self_signed, unchecked
from servers.hub_endpoint import hub_server, use_hub


@pytest.fixture
def hub_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an owner without repositories (hf://…), on a stand-in for the hub that this process's client talks to."""
    with hub_server(tmp_path / "hub") as hub:
        use_hub(monkeypatch, hub)
        yield "hf://ada"


@pytest.fixture
def registry_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of our own server, which this process has a token for."""
    with unchecked(tmp_path) as (address, token):
        monkeypatch.setenv("VERTICAL_TOKEN", token)
        yield address


@pytest.fixture
def registry_server_with_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The same, with a certificate that this process trusts."""
    from vertical_sdk.registry.stores import http

    certificate, key = self_signed(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    http.trusted.cache_clear()
    with unchecked(tmp_path, certificate=certificate, key=key) as (address, token):
        monkeypatch.setenv("VERTICAL_TOKEN", token)
        yield address
    http.trusted.cache_clear()
