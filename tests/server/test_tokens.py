from __future__ import annotations

import hashlib
import json
import stat
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx2
import pytest
from servers.http_server import serving

from vertical_sdk.errors import RegistryError
from vertical_sdk.registry import Registry
from vertical_sdk.server.registry_app import create_registry_app
from vertical_sdk.server.security.rate_limit import Buckets
from vertical_sdk.server.security.tokens import Tokens
from vertical_sdk.server.settings import ServerSettings


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(tmp_path / "registry" / "tokens.json")


def test_the_token_file_holds_only_digests_and_only_its_owner_may_read_it(tokens: Tokens) -> None:
    secret = tokens.add("ci", ["publish", "read"])

    content = tokens.path.read_text()
    assert secret not in content
    assert secret.removeprefix("vertical_") not in content
    assert json.loads(content)["tokens"][0]["sha256"] == hashlib.sha256(secret.encode()).hexdigest()
    assert stat.S_IMODE(tokens.path.stat().st_mode) == 0o600
    assert len(secret) >= len("vertical_") + 43  # 256 bits in base 64


def test_a_token_is_found_by_its_secret_and_by_nothing_else(tokens: Tokens) -> None:
    secret = tokens.add("ci", ["publish"])
    tokens.add("boss", ["promote"])

    token = tokens.find(secret)

    assert token is not None
    assert (token.name, token.scopes) == ("ci", ("publish",))
    assert (token.may("read"), token.may("publish"), token.may("promote")) == (True, True, False)
    assert [tokens.find(wrong) for wrong in ("", "ci", secret[:-1], secret + "A", token.sha256, "\udcff")] == [None] * 6


def test_a_removed_or_expired_token_is_rejected(tokens: Tokens) -> None:
    gone, over = tokens.add("gone", ["read"]), tokens.add("over", ["read"], days=1)
    assert tokens.find(gone)
    assert tokens.find(over)

    Tokens(tokens.path).remove("gone")  # as another process does it
    rows = json.loads(tokens.path.read_text())
    rows["tokens"][0]["expires"] = (datetime.now(timezone.utc) - timedelta(seconds=1)).isoformat()
    tokens.path.write_text(json.dumps(rows))

    assert tokens.find(gone) is None
    assert tokens.find(over) is None
    assert [(token.name, token.expired) for token in tokens.list()] == [("over", True)]


def test_invalid_names_and_scopes_are_refused(tokens: Tokens) -> None:
    tokens.add("ci", ["read"])

    for name, scopes, message in (
        ("ci", ["read"], "already"),
        ("../ci", ["read"], "cannot be a token's name"),
        ("b", ["write"], "'write' is not a scope. Scopes: read, publish, promote"),
        ("b", [], "has no scope"),
    ):
        with pytest.raises(RegistryError, match=message):
            tokens.add(name, scopes)
    with pytest.raises(RegistryError, match=r"no token is called 'b'\. Tokens: ci"):
        tokens.remove("b")


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"tokens": [{"name": "x"}]}', '{"tokens": [1]}', "\x00"])
def test_a_malformed_token_file_admits_no_token(tokens: Tokens, content: str) -> None:
    secret = tokens.add("ci", ["read"])
    tokens.path.write_text(content)

    with pytest.raises(RegistryError, match="does not contain tokens"):
        tokens.find(secret)


def test_a_token_file_that_others_may_read_admits_no_token(tokens: Tokens) -> None:
    secret = tokens.add("ci", ["read"])
    tokens.path.chmod(0o640)

    with pytest.raises(RegistryError, match="chmod 600"):
        Tokens(tokens.path).find(secret)


def test_tokens_created_at_the_same_time_are_all_stored(tokens: Tokens) -> None:
    makers = [threading.Thread(target=Tokens(tokens.path).add, args=(f"t{n}", ["read"])) for n in range(8)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()

    assert [token.name for token in tokens.list()] == [f"t{n}" for n in range(8)]


def test_each_client_has_its_own_bucket_that_refills() -> None:
    now = 0.0
    buckets = Buckets(rate=2, burst=3, clock=lambda: now)

    assert [buckets.take("ada") for _ in range(5)] == [0, 0, 0, 1, 1]
    assert buckets.take("bob") == 0
    now = 0.5  # half a second is one request
    assert [buckets.take("ada") for _ in range(2)] == [0, 1]
    now = 100.0
    assert [buckets.take("ada") for _ in range(4)] == [0, 0, 0, 1]
    slow = Buckets(rate=0.1, burst=1, clock=lambda: now)
    assert [slow.take("ada"), slow.take("ada")] == [0, 10]


def test_full_buckets_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vertical_sdk.server.security.rate_limit.MOST_BUCKETS", 10)
    now = 0.0
    buckets = Buckets(rate=1, burst=2, clock=lambda: now)
    for n in range(100):
        now = float(n)
        buckets.take(f"address {n}")

    assert len(buckets._buckets) <= 10


@pytest.mark.parametrize("gone", ["registry", "registry/index.sqlite", "registry/tokens.json"])
def test_a_server_without_its_registry_is_not_ready_and_says_so(
    server: Any, tmp_path: Path, make_adapter: Any, gone: str
) -> None:
    app, served = server.app(anonymous=True)
    served.registry.publish(make_adapter(1))
    names, away = "/api/v1/names", tmp_path / "away"
    with serving(app) as served.address:
        assert [served.ask("GET", names, who).status_code for who in ("reader", None)] == [200, 200]
        assert served.ask("GET", "/api/v1/health").json() == {"ok": True}

        (tmp_path / gone).rename(away)
        health = served.ask("GET", "/api/v1/health")
        answers = [served.ask("GET", path, "reader") for path in (names, "/")]

        assert health.status_code == 503
        assert "cannot be found" in health.json()["error"]["message"]
        assert {answer.status_code for answer in answers} == {503}
        assert str(tmp_path) not in health.text + "".join(answer.text for answer in answers)
        if gone != "registry/tokens.json":
            assert served.ask("GET", names).status_code == 503
        assert served.ask("GET", "/api/v1/live").json() == {"ok": True}

        away.rename(tmp_path / gone)
        assert served.ask("GET", "/api/v1/health").json() == {"ok": True}
        assert served.ask("GET", names, "reader").json() == ["medical/triage"]


def test_a_new_registry_without_a_folder_is_healthy(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "tokens.json")
    app = create_registry_app(
        Registry(tmp_path / "registry"), tokens, ServerSettings(uploads=tmp_path / "uploads", anonymous=True), log=print
    )
    with serving(app) as address:
        assert httpx2.get(f"{address}/api/v1/health", verify=False).json() == {"ok": True}
        assert httpx2.get(f"{address}/api/v1/names", verify=False).json() == []
