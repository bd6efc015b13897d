"""A registry that a server serves, as its users see it."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from registry.conftest import sign_with_new_key
from safetensors.numpy import load_file
from servers.http_server import create_certificate, serving

from vertical_sdk.card import Verdict, read_card, write_card
from vertical_sdk.errors import CorruptAdapter, GateFailed, OfflineError, RegistryError, SourceError
from vertical_sdk.paths import cache_home
from vertical_sdk.registry import Registry
from vertical_sdk.registry.copying import copy_versions
from vertical_sdk.registry.policy import Policy
from vertical_sdk.registry.store import Entry, Event, Store
from vertical_sdk.registry.stores import http, open_store
from vertical_sdk.registry.tree import read_tree
from vertical_sdk.server.registry_app import create_registry_app
from vertical_sdk.server.security.tokens import Tokens
from vertical_sdk.server.settings import Limits

MakeAdapter = Callable[..., Path]
FAILED = Verdict(passed=False, reasons=("0.50 against 0.55",))


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the client would have waited."""
    waited: list[float] = []
    monkeypatch.setattr(http, "sleep", waited.append)
    return waited


class Proxy:
    """Forwards bytes between a client and a server, and cuts each of the first answers after the given number of bytes."""

    def __init__(self, address: str, cuts: list[int]) -> None:
        self.target = (urlsplit(address).hostname, urlsplit(address).port)
        self.cuts = cuts
        self.asked: list[bytes] = []
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self.listening.accept()[0]
                threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        """Forward one request a connection: the answer has to close it."""
        with contextlib.suppress(OSError), client, socket.create_connection(self.target) as server:
            asked = b""
            while b"\r\n\r\n" not in asked:
                asked += client.recv(65536)
            self.asked.append(asked)
            server.sendall(asked.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            left = self.cuts.pop(0) if b"/files/" in asked and self.cuts else None
            while block := server.recv(65536):
                client.sendall(block if left is None else block[:left])
                if left is not None:
                    left -= len(block)
                    if left <= 0:
                        return


@pytest.fixture
def cutting(served: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[list[int]], Proxy]]:
    monkeypatch.setenv("VERTICAL_TOKEN", served.secrets["reader"])
    proxies: list[Proxy] = []

    def make(cuts: list[int]) -> Proxy:
        proxies.append(Proxy(served.address, cuts))
        return proxies[-1]

    yield make
    for proxy in proxies:
        proxy.listening.close()


@pytest.fixture
def large(make_adapter: MakeAdapter) -> Path:
    """An adapter with a file of 300 kB."""
    folder = make_adapter(1)
    (folder / "tokenizer.json").write_bytes(os.urandom(150_000).hex().encode())
    write_card(folder, read_card(folder))
    return folder


def put(store: Store, folder: Path) -> Entry:
    """Publish a folder without the checks of `publish`."""
    manifest = read_tree(folder)
    event = Event(at="2026-01-01T00:00:00+00:00", who="ceo", name="medical/triage", action="publish")
    record = {"gate": "passed", "forced": False}
    return store.put("medical/triage", {p: folder / p for p in manifest}, manifest, record=record, tags={}, event=event)


def test_a_version_published_through_a_server_comes_back_unchanged(
    client: Registry, served: Any, make_adapter: MakeAdapter
) -> None:
    folder = make_adapter(1)

    version = client.publish(folder, reason="first", tags={"ticket": "42"})

    assert (str(version), version.who, version.reason) == ("medical/triage@1", "boss", "first")
    assert version.tags == {"ticket": "42"}
    assert client.resolve("medical/triage").path != served.registry.resolve("medical/triage").path
    assert sorted(p.name for p in version.path.iterdir()) == sorted(p.name for p in folder.iterdir())
    assert list(load_file(version.path / "adapter_model.safetensors")) == ["base_model.model.query.lora_A.weight"]
    assert served.registry.resolve("medical/triage@1").digest == version.digest
    assert client.verify() == []


def test_a_run_is_published_with_its_report(client: Registry, make_adapter: MakeAdapter, tmp_path: Path) -> None:
    make_adapter(folder=tmp_path / "run" / "adapter")
    (tmp_path / "run" / "report.html").write_text("<p>good</p>")

    assert (client.publish(tmp_path / "run").path / "report.html").read_text() == "<p>good</p>"


def test_publishing_the_same_adapter_again_uploads_nothing(client: Registry, served: Any, make_adapter: MakeAdapter) -> None:
    folder = make_adapter(1)
    first = client.publish(folder)
    before = len(served.log)

    assert client.publish(folder).number == first.number
    assert [line["method"] for line in served.log[before:]] == ["POST"]


def test_every_method_of_a_registry_works_through_a_server(
    client: Registry, served: Any, make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    for seed in range(3):
        client.publish(make_adapter(seed))
    client.publish(make_adapter(9, name="legal/clause"))

    client.set_alias("medical/triage", "production", 1, expected=0, why="go", evidence='{"p": 0.01}')
    client.set_alias("medical/triage", "old", 1)
    client.delete_alias("medical/triage", "old")
    client.tag("medical/triage", 2, {"stage": "pilot"})
    signer = sign_with_new_key(client, "medical/triage@2", tmp_path / "ada")
    client.revoke("medical/triage@3", "wrong rows")

    assert [s.name for s in client.list_adapters()] == ["legal/clause", "medical/triage"]
    assert client.list_adapters("medical/")[0].aliases == {"production": 1}
    assert [v.number for v in client.versions("medical/triage", limit=2)] == [2, 3]
    assert [str(v) for v in client.search("macro_f1>0.8", "name=medical/triage", limit=2)] == [
        "medical/triage@1",
        "medical/triage@2",
    ]
    assert [str(v) for v in client.search(after=client.resolve("medical/triage@1"))] == ["medical/triage@2", "medical/triage@3"]
    assert [str(v) for v in client.search("tag.stage=pilot")] == ["medical/triage@2"]
    assert list(client.resolve("medical/triage@2").signatures) == [signer]
    with pytest.raises(RegistryError, match="was revoked: wrong rows"):
        client.resolve("medical/triage")
    assert client.history("medical/triage") == served.registry.history("medical/triage")
    assert {event.who for event in client.history("medical/triage")} == {"boss"}
    assert client.history("medical/triage")[3].evidence == '{"p": 0.01}'
    assert client.gc() == 0


def test_lists_longer_than_a_page_are_complete(
    client: Registry, served: Any, make_adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(5):
        served.registry.publish(make_adapter(seed), "a/b")
        served.registry.publish(make_adapter(10 + seed, name=f"n{seed}"))
    monkeypatch.setattr(http, "PAGE", 2)
    store = client.store

    assert store.names() == ["a/b", "n0", "n1", "n2", "n3", "n4"]
    assert store.names(limit=3) == ["a/b", "n0", "n1"]
    assert store.names("n", after="n1") == ["n2", "n3", "n4"]
    assert [entry.name for entry, _ in store.newest()] == store.names()
    assert [e.number for e in store.versions("a/b")] == [1, 2, 3, 4, 5]
    assert [e.number for e in store.versions("a/b", before=5, limit=3)] == [2, 3, 4]
    assert len(store.search([])) == 10
    assert [e.number for e in store.search([], after=("a/b", 2), limit=3)] == [3, 4, 5]
    assert len(store.history("a/b")) == 5


def test_an_alias_that_another_client_moved_is_not_moved(client: Registry, make_adapter: MakeAdapter) -> None:
    client.publish(make_adapter(1))
    client.publish(make_adapter(2))
    client.set_alias("medical/triage", "production", 2)

    with pytest.raises(RegistryError, match="points at version 2, but it was expected to point at version 1"):
        client.set_alias("medical/triage", "production", 1, expected=1)


def test_the_server_checks_what_a_client_did_not_check(client: Registry, make_adapter: MakeAdapter) -> None:
    failed, changed = make_adapter(1, verdict=FAILED), make_adapter(2)
    (changed / "adapter_config.json").write_text("{}")

    with pytest.raises(GateFailed, match=r"medical/triage did not pass its gate: 0\.50 against 0\.55"):
        put(client.store, failed)
    with pytest.raises(CorruptAdapter, match=r"adapter_config\.json has changed since its card was written"):
        put(client.store, changed)
    assert client.list_adapters() == []


def test_the_server_s_licence_policy_applies_to_every_client(
    served: Any, make_adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served.registry, "policy", Policy(licenses=("cc-by-*",)))
    monkeypatch.setenv("VERTICAL_TOKEN", served.secrets["publisher"])

    with pytest.raises(RegistryError, match=r"states no licence\. This registry accepts cc-by"):
        Registry(served.address).publish(make_adapter(1))


def test_the_server_records_publishing_by_force(client: Registry, make_adapter: MakeAdapter) -> None:
    version = client.publish(make_adapter(1, verdict=FAILED), force=True, reason="a demonstration")

    assert (version.forced, version.gate, version.reason) == (True, "failed", "a demonstration")
    assert client.history("medical/triage")[0].action == "publish by force"


def test_the_server_moves_an_alias_past_a_failed_gate_only_by_force(client: Registry, make_adapter: MakeAdapter) -> None:
    client.publish(make_adapter(1, verdict=FAILED), force=True, reason="a demonstration")
    careless = Registry(client.location, Policy(free_aliases=("production",)))  # the server's own policy decides

    with pytest.raises(GateFailed, match="medical/triage@1 failed its gate, so the alias 'production' does not move to it"):
        careless.set_alias("medical/triage", "production", 1, why="it is urgent")
    client.set_alias("medical/triage", "production", 1, force=True, why="a pilot")

    event = client.history("medical/triage")[-1]
    assert (event.action, event.after, event.why) == ("alias by force", 1, "a pilot")
    careless.close()


def test_a_malformed_card_is_refused(client: Registry, make_adapter: MakeAdapter) -> None:
    folder = make_adapter(1)
    card = read_card(folder)
    recipes: list[dict[str, Any]] = [
        {"evaluate": ["x"]},
        {"evaluate": {"metrics": [{}]}},
        {"evaluate": {"metrics": 3}},
        {"domain": ["x"]},
    ]

    for recipe in recipes:
        write_card(folder, card.model_copy(update={"recipe": recipe}))
        with contextlib.suppress(CorruptAdapter, RegistryError):
            put(client.store, folder)
    for metrics in ({"systems": []}, {"systems": {"adapter": {"metrics": []}}}, {"systems": {"adapter": 1}}):
        write_card(folder, card.model_copy(update={"metrics": metrics}))
        with contextlib.suppress(CorruptAdapter, RegistryError):
            put(client.store, folder)


def test_an_error_names_the_scope_that_a_token_lacks(
    served: Any, make_adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.registry.publish(make_adapter(1))
    monkeypatch.setenv("VERTICAL_TOKEN", served.secrets["reader"])
    client = Registry(served.address)

    assert client.resolve("medical/triage").number == 1
    with pytest.raises(RegistryError, match="the token 'reader' may not do this: it needs the scope publish, and has read"):
        client.publish(make_adapter(2))
    with pytest.raises(RegistryError, match="needs the scope promote"):
        client.set_alias("medical/triage", "production", 1)


def test_an_interrupted_download_resumes_where_it_stopped(
    served: Any, cutting: Callable[[list[int]], Proxy], large: Path
) -> None:
    served.registry.publish(large)
    proxy = cutting([100_000] * 6)  # every file's answer, and the first three of the large one

    version = Registry(proxy.address).resolve("medical/triage")

    assert (version.path / "tokenizer.json").read_bytes() == (large / "tokenizer.json").read_bytes()
    begins = [int(m[1]) for asked in proxy.asked if (m := re.search(rb"bytes=(\d+)-", asked))]
    assert begins
    assert begins == sorted(begins)
    assert begins[0] > 90_000  # the headers of an answer count as well


def test_a_failed_download_resumes_on_the_next_call(
    served: Any, cutting: Callable[[list[int]], Proxy], large: Path, waits: list[float]
) -> None:
    served.registry.publish(large)
    proxy = cutting([10**6] * 3 + [100_000] + [0] * 100)

    with pytest.raises(SourceError, match=r"was interrupted after|does not answer"):
        Registry(proxy.address).resolve("medical/triage")
    assert waits
    proxy.cuts.clear()
    proxy.asked.clear()
    version = Registry(proxy.address).resolve("medical/triage")

    assert (version.path / "tokenizer.json").stat().st_size == 300_000
    assert [asked for asked in proxy.asked if b"/tokenizer.json" in asked and b"bytes=" in asked]


def test_a_file_changed_in_transit_is_refused(served: Any, client: Registry, make_adapter: MakeAdapter) -> None:
    version = served.registry.publish(make_adapter(1))
    (version.path / "README.md").chmod(0o644)
    (version.path / "README.md").write_text("# Triagf\n")

    with pytest.raises(SourceError, match="the downloaded file is not the published one"):
        client.resolve("medical/triage")
    assert not list((cache_home() / "registry").rglob(f"trees/{version.digest}"))


def test_a_busy_server_is_retried_after_the_time_that_it_states(
    server: Any, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    app, served = server.app(Limits(rate=0.1, burst=1))
    monkeypatch.setenv("VERTICAL_TOKEN", served.secrets["reader"])
    with serving(app) as served.address:
        registry = Registry(served.address)
        assert registry.list_adapters() == []
        with pytest.raises(RegistryError, match="too many requests"):
            registry.list_adapters()

    assert waits == [10, 10, 10, 10]


def test_an_unreachable_server_is_reported_after_retries(waits: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    with pytest.raises(OfflineError, match=rf"http://127\.0\.0\.1:{port}: the server cannot be reached"):
        Registry(f"http://127.0.0.1:{port}").list_adapters()
    assert waits == [0.25, 0.5, 1.0, 2.0]


def test_only_a_trusted_certificate_is_accepted(
    server: Any, make_adapter: MakeAdapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = create_certificate(tmp_path)
    app, served = server.app()
    monkeypatch.setenv("VERTICAL_TOKEN", served.secrets["boss"])
    http.trusted_certificates.cache_clear()
    with serving(app, certificate=certificate, key=key) as served.address:
        with pytest.raises(SourceError, match="this machine does not trust its certificate"):
            Registry(served.address).list_adapters()
        http.trusted_certificates.cache_clear()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert Registry(served.address).publish(make_adapter(1)).number == 1
        assert [line["status"] for line in served.log] == [409] + [200] * (len(served.log) - 1)
    http.trusted_certificates.cache_clear()


@pytest.mark.parametrize(
    "address",
    [
        "https://user:pass@host",
        "https://:vertical_x@host",
        "https://host?token=x",
        "https://host#x",
        "https://",
        "http://host:x",
    ],
)
def test_an_address_with_credentials_or_a_query_is_refused(address: str) -> None:
    with pytest.raises(RegistryError, match="VERTICAL_TOKEN") as caught:
        open_store(address)
    assert "pass" not in str(caught.value)


def test_a_token_is_not_sent_unencrypted_to_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERTICAL_TOKEN", "vertical_secret")

    with pytest.raises(RegistryError, match="not sent over http://") as caught:
        open_store("http://registry.example").names()
    assert "vertical_secret" not in str(caught.value)
    monkeypatch.setenv("VERTICAL_TOKEN", "two words")
    with pytest.raises(RegistryError, match="is not a token"):
        open_store("https://registry.example").names()


async def answer(send: Any, body: bytes, status: int = 200, **headers: str) -> None:
    fields = [(key.encode(), value.encode()) for key, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


def test_a_redirect_does_not_receive_the_token(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def elsewhere(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"", 307, location=f"{served.address}{scope['path']}")

    monkeypatch.setenv("VERTICAL_TOKEN", served.secrets["boss"])
    with serving(elsewhere) as address, pytest.raises(SourceError, match="the server redirects to"):
        Registry(address).list_adapters()

    assert served.log == []


ENTRY = '{"name": "a", "number": 1, "digest": "%s", "created": "", "who": "", "record": {}, "aliases": [], "tags": {}}'


@pytest.mark.parametrize(
    "body",
    [
        "<html>", "null", "3", '{"a": 1}', "[1]", "[{}]", "[" * 100_000, "\x00",
        "[" + ENTRY % "../../../tmp/x" + "]", "[" + ENTRY % ("A" * 64) + "]", "[" + ENTRY % ("0" * 63) + "]",
        '[{"name": "a", "number": 1, "digest": 3, "created": "", "who": "", "aliases": []}]',
    ],
    ids=range(12),
)  # fmt: skip
def test_a_malformed_answer_of_a_server_is_refused(body: str) -> None:
    async def nonsense(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, body.encode())

    with serving(nonsense) as address, pytest.raises(SourceError, match="does not answer as a registry does"):
        Registry(address).resolve("a")
    assert not (cache_home() / "registry").exists()


def test_an_answer_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"[" + b" " * 2000 + b"]")

    monkeypatch.setattr(http, "LARGEST", 1000)
    with serving(endless) as address, pytest.raises(SourceError, match="more than 1000 bytes"):
        Registry(address).list_adapters()


def test_an_error_page_of_a_proxy_is_reported(waits: list[float]) -> None:
    async def gateway(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"<h1>Bad gateway</h1>", 502)

    with serving(gateway) as address, pytest.raises(SourceError, match="answered 502, not as a registry does"):
        Registry(address).list_adapters()
    assert len(waits) == 4


def test_a_request_that_must_not_be_repeated_is_not_retried(waits: list[float]) -> None:
    asked: list[str] = []

    async def unwell(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope["path"])
        await answer(send, b"{}", 503)

    with serving(unwell) as address, pytest.raises(SourceError):
        open_store(address).move_alias("a", "b", 1, None, Event(at="", who="", name="a", action="alias"))

    assert asked == ["/api/v1/aliases"]
    assert waits == []


def test_each_thread_and_each_process_has_its_own_connections(client: Registry, make_adapter: MakeAdapter) -> None:
    version = client.publish(make_adapter(1))
    numbers: list[int] = []
    threads = [threading.Thread(target=lambda: numbers.append(client.resolve(str(version)).number)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert numbers == [1] * 4
    ours = client.store._thread_state.connections
    assert client.store._client() is ours.client
    ours.process += 1  # as after a fork
    assert client.store._client() is not ours.client
    assert not ours.client.is_closed
    ours.process -= 1
    del ours
    client.close()
    assert client.resolve(str(version)).number == 1


def test_concurrent_publishing_gives_every_version_its_own_number(client: Registry, make_adapter: MakeAdapter) -> None:
    folders = [make_adapter(seed) for seed in range(12)]
    numbers: list[int] = []

    def publish(part: list[Path]) -> None:
        numbers.extend(client.publish(folder).number for folder in part)

    threads = [threading.Thread(target=publish, args=(folders[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(numbers) == list(range(1, 13))
    assert client.verify() == []


def test_versions_copied_into_a_server_are_published_by_the_token(
    client: Registry, make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    source = Registry(tmp_path / "source")
    source.publish(make_adapter(1), reason="first")
    source.publish(make_adapter(2, verdict=FAILED), force=True, reason="a demonstration", tags={"k": "v"})
    signer = sign_with_new_key(source, "medical/triage@1", tmp_path / "ada")
    source.revoke("medical/triage@2", "wrong rows")
    source.set_alias("medical/triage", "production", 1)

    copy_versions(source, client)

    first, second = client.versions("medical/triage")
    assert [v.digest for v in (first, second)] == [v.digest for v in source.versions("medical/triage")]
    assert (list(first.signatures), first.aliases, first.who) == ([signer], ("production",), "boss")
    assert (second.forced, second.tags, second.revoked) == (True, {"k": "v"}, "wrong rows")
    assert "a demonstration" in second.reason
    assert copy_versions(source, client).versions[0].new is False


def test_a_server_serves_any_store(make_adapter: MakeAdapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens(tmp_path / "tokens.json")
    monkeypatch.setenv("VERTICAL_TOKEN", tokens.add("ada", ["publish", "promote"]))
    app = create_registry_app(Registry(f"memory://{tmp_path.name}"), tokens, log=lambda _: None)

    with serving(app) as address:
        registry = Registry(address)
        version = registry.publish(make_adapter(1))
        registry.set_alias("medical/triage", "production", 1)
        assert registry.resolve("medical/triage@production").path == version.path  # client and server share a cache folder here
        assert registry.verify() == []


def test_the_client_address_is_taken_only_from_a_trusted_proxy(server: Any) -> None:
    app, served = server.app()
    for proxy in (None, "127.0.0.1"):
        with serving(app, proxy=proxy) as served.address:
            served.ask("GET", "/api/v1/health", headers={"X-Forwarded-For": "192.0.2.7"})

    assert [line["address"] for line in served.log] == ["127.0.0.1", "192.0.2.7"]


def test_a_registry_that_is_dropped_closes_its_connections(served: Any, client: Registry, make_adapter: MakeAdapter) -> None:
    served.registry.publish(make_adapter(1))
    registry = Registry(client.location)
    registry.list_adapters()
    store: Any = registry.store
    connections = store._client()
    store.itself = store  # a cycle, as a caught error makes one

    del registry, store
    gc.collect()

    assert connections.is_closed
