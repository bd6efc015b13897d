"""The servers for the contract tests of stores. Each starts when the first test needs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.http_server import create_certificate, serve_unchecked
from servers.hub_endpoint import hub_server, use_hub


@pytest.fixture
def hub_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an owner without repositories (hf://…), on a simulated hub that this process's client uses."""
    with hub_server(tmp_path / "hub") as hub:
        use_hub(monkeypatch, hub)
        yield "hf://ada"


@pytest.fixture
def registry_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of our own server. This process has a token for it."""
    with serve_unchecked(tmp_path) as (address, token):
        monkeypatch.setenv("VERTICAL_TOKEN", token)
        yield address


@pytest.fixture
def registry_server_with_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The same, with a certificate that this process trusts."""
    from vertical_sdk.registry.stores import http

    certificate, key = create_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    http.trusted_certificates.cache_clear()
    with serve_unchecked(tmp_path, certificate=certificate, key=key) as (address, token):
        monkeypatch.setenv("VERTICAL_TOKEN", token)
        yield address
    http.trusted_certificates.cache_clear()
