from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from vertical_sdk.cli import main
from vertical_sdk.errors import MissingExtra, RegistryError, RunError
from vertical_sdk.registry import Registry
from vertical_sdk.server.serve import find_tokens, serve_registry
from vertical_sdk.server.settings import ServerSettings


def test_a_token_is_created_shown_once_listed_and_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = ["--registry", str(tmp_path / "registry")]

    assert main(["registry", "token", "add", "ci", "--scope", "read", "--scope", "publish", "--days", "30", *at]) == 0
    secret = capsys.readouterr().out.strip()
    assert main(["registry", "token", "list", "--json", *at]) == 0
    listed = capsys.readouterr().out
    assert main(["registry", "token", "list", *at]) == 0
    table = capsys.readouterr().out
    assert main(["registry", "token", "remove", "ci", *at]) == 0
    assert main(["registry", "token", "remove", "ci", *at]) == RegistryError.exit_code
    assert main(["registry", "token", "add", "x", "--scope", "all", *at]) == RegistryError.exit_code

    assert secret.startswith("vertical_")
    assert [(row["name"], row["scopes"]) for row in json.loads(listed)] == [("ci", ["read", "publish"])]
    assert "sha256" not in listed
    assert "read, publish" in table
    assert secret not in listed + table + (tmp_path / "registry" / "tokens.json").read_text()


def test_a_registry_is_served_until_ctrl_c(tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    secret = find_tokens(Registry(registry)).add("ci", ["read"])
    log = tmp_path / "logs" / "requests.jsonl"
    command = [
        sys.executable,
        "-m",
        "vertical_sdk.cli",
        "registry",
        "serve",
        "--port",
        "0",
        "--registry",
        str(registry),
        "--log",
        str(log),
    ]

    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as server:
        try:
            assert server.stdout
            address = server.stdout.readline().strip()
            answer = httpx2.get(f"{address}/api/v1/names", headers={"Authorization": f"Bearer {secret}"})
            assert (answer.status_code, answer.json()) == (200, [])
            assert httpx2.get(f"{address}/api/v1/names").status_code == 401
        finally:
            server.send_signal(signal.SIGINT)
            server.communicate(timeout=30)

    assert server.returncode == 130
    assert [json.loads(line)["status"] for line in log.read_text().splitlines()] == [200, 401]


def test_a_server_without_tokens_does_not_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["registry", "serve", "--registry", str(tmp_path)]) == RegistryError.exit_code
    assert "there are no tokens" in capsys.readouterr().err


def test_invalid_server_settings_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry(tmp_path / "registry")
    tokens = find_tokens(registry)
    tokens.add("ci", ["read"])
    (tmp_path / "no.pem").write_text("no certificate")

    with pytest.raises(RegistryError, match="a certificate needs its key"):
        serve_registry(registry, tokens, ServerSettings(port=0, certificate=tmp_path / "no.pem"))
    with pytest.raises(RegistryError, match="not a certificate and its key"):
        serve_registry(registry, tokens, ServerSettings(port=0, certificate=tmp_path / "no.pem", key=tmp_path / "no.pem"))
    with pytest.raises(RunError, match="the server cannot listen here"):
        serve_registry(registry, tokens, ServerSettings(host="192.0.2.1", port=0))
    with pytest.raises(RegistryError, match="tokens cannot be stored here: it is not a folder"):
        find_tokens(Registry("memory://x"))
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(MissingExtra, match=r"needs the extra 'server': pip install .*\[server\]"):
        serve_registry(registry, tokens)
