"""Clients that ask a registry server for too much: long addresses and searches, uploads in parallel, odd cards and evidence."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
import itertools
import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from registry.conftest import write_adapter
from server.conftest import Served, Server
from servers.http_server import serving

from vertical_sdk.card import CARD, read_card, write_card
from vertical_sdk.errors import CorruptAdapter, RegistryError, SourceError, did_you_mean, find_similar
from vertical_sdk.registry import Registry
from vertical_sdk.registry.query import parse_condition
from vertical_sdk.registry.store import Event
from vertical_sdk.registry.tree import read_tree
from vertical_sdk.server.pages.adapters import _split_conditions
from vertical_sdk.server.pages.routes import page_routes
from vertical_sdk.server.registry_app import ROUTES, create_registry_app, refuse
from vertical_sdk.server.registry_files.uploads import Uploads
from vertical_sdk.server.registry_routes.service import Service
from vertical_sdk.server.security.access_log import AccessLog
from vertical_sdk.server.security.hosts import HostCheck, accepted_hosts
from vertical_sdk.server.settings import Limits, ServerSettings
from vertical_sdk.sources.fetched import list_nearest

MakeAdapter = Callable[[int], Path]
API = "/api/v1"
DIGEST = "a" * 64
LONG = 100_000
EVENT = Event("2026-08-01T12:00:00.000+00:00", "eve", "medical/triage", "publish")
RECORD = {"task": "classification", "base": "tiny", "metric": "macro_f1", "value": 0.9, "gate": "passed", "forced": False,
          "reason": "", "facts": {}, "metrics": {"macro_f1": 0.9}}  # fmt: skip


@pytest.fixture
def make_adapter(tmp_path: Path) -> MakeAdapter:
    return lambda seed: write_adapter(tmp_path / f"made-{seed}", seed)


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


@pytest.fixture
def served(server: Server) -> Iterator[Served]:
    app, served = server.app()
    with serving(app) as served.address:
        yield served


def raw(served: Served, path: str, **headers: str) -> int:
    """The status of a GET whose path is sent as it is."""
    parts = urlsplit(served.address)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=20)
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def seconds(action: Callable[[], object]) -> float:
    start = time.monotonic()
    action()
    return time.monotonic() - start


@pytest.mark.parametrize("unit", ["@", "a@", "/", "@/", "@1/report", "a/", "\n"])
def test_every_route_matches_a_long_path_in_linear_time(tmp_path: Path, unit: str) -> None:
    service = Service(Registry(tmp_path), Uploads(tmp_path, Limits()), Limits())
    routers = [route(service) for route in ROUTES] + [page_routes(service.registry)]
    routes: list[Any] = [route for router in routers for route in router.routes]
    starts = {str(route.path).partition("{")[0] for route in routes}

    for route, start, end in itertools.product(routes, starts, ("", "\x00", "/report", "@1/report/")):
        path = start + unit * (LONG // len(unit)) + end
        assert seconds(lambda path=path, route=route: route.path_regex.match(path)) < 1, route.path


def test_a_long_path_without_a_token_is_refused_at_once(served: Served) -> None:
    for path in ("/a/" + "@" * 31_000, "/a/" + "%40" * 10_000, f"{API}/files/{DIGEST}/" + "x" * 20_000):
        assert seconds(lambda path=path: raw(served, path)) < 2
        assert raw(served, path) == 414
    assert raw(served, "/a/" + "x" * 900) == 401
    token = {"Authorization": f"Bearer {served.secrets['reader']}"}
    assert raw(served, f"{API}/files/{DIGEST}/" + quote("ä" * 500), **token) == 404
    assert served.ask("GET", f"{API}/health").json() == {"ok": True}
    assert {len(line["path"]) for line in served.log} <= set(range(1001))


def test_a_request_without_a_token_reaches_no_route(served: Served) -> None:
    for path in ("/nothing", f"{API}/nothing", f"{API}/openapi.json", "/docs", f"{API}/names?limit=x"):
        assert served.ask("GET", path).status_code == 401, path
    assert served.ask("POST", f"{API}/publish", content=b"{" * 100_000).status_code == 401
    assert "paths" in served.ask("GET", f"{API}/openapi.json", "reader").json()
    assert served.ask("GET", f"{API}/live").status_code == 200


def test_a_server_with_anonymous_read_documents_itself_without_a_token(server: Server) -> None:
    app, served = server.app(anonymous=True)
    with serving(app) as served.address:
        assert "paths" in served.ask("GET", f"{API}/openapi.json").json()
        assert served.ask("POST", f"{API}/gc").status_code == 401


def test_a_long_search_is_refused_and_a_short_one_is_answered(served: Served, make_adapter: MakeAdapter) -> None:
    served.registry.publish(make_adapter(1))
    spaces = " " * 15_000
    for path, text in itertools.product(
        ("/", f"{API}/search"), ("x" + spaces + "x", "a" + spaces + "=", "a=" + spaces + "b", "<" * 9000)
    ):
        key = "q" if path == "/" else "condition"
        start = time.monotonic()
        answer = served.ask("GET", path, "reader", params={key: text})
        assert (answer.status_code, time.monotonic() - start < 2) == (400 if path == "/" else 422, True)
    assert served.ask("GET", f"{API}/search", "reader", params={"condition": ["gate=passed"] * 21}).status_code == 422
    assert served.ask("GET", "/", "reader", params={"q": "gate=passed " * 40}).status_code == 400
    assert len(served.ask("GET", f"{API}/search", "reader", params={"condition": " macro_f1 >  0.8 "}).json()) == 1
    assert "medical/triage" in served.ask("GET", "/", "reader", params={"q": "macro_f1 >  0.8   gate = passed"}).text


@pytest.mark.parametrize(
    "text", ["a" * LONG, " " * LONG, "a =" + " " * LONG + "\n", "=" * LONG, "a= b" * (LONG // 4), '"' * LONG]
)
def test_conditions_are_read_in_linear_time(text: str) -> None:
    def parse() -> None:
        with pytest.raises(RegistryError, match=f"a condition has {len(text)} characters"):
            parse_condition(text)

    assert seconds(parse) < 1
    assert seconds(lambda: _split_conditions(text)) < 1
    assert parse_condition("  tag.stage =  a  pilot ").value == "a  pilot"
    assert _split_conditions('macro_f1 >  0.8 "gate= not evaluated" x') == ["macro_f1>0.8", "gate=not evaluated", "x"]


def test_every_text_of_a_request_has_a_longest_length(served: Served) -> None:
    long = "x" * 200_000
    for path in (
        "names?prefix=",
        "names?after=",
        "newest?prefix=",
        "versions?name=",
        "history?name=",
        "find?reference=",
        "search?after_name=",
    ):
        assert served.ask("GET", f"{API}/{path}{long[:2000]}", "reader").status_code == 422, path
    version = {"name": "medical/triage", "version": 1}
    for path, body in (
        ("aliases", {**version, "alias": long}),
        ("aliases", {**version, "alias": "a", "why": long}),
        ("tags", {**version, "tags": {long: "x"}}),
        ("tags", {**version, "tags": {"x": long}}),
        ("tags", {**version, "tags": {f"x{n}": "y" for n in range(101)}}),
        ("revocations", {**version, "reason": long}),
        ("signatures", {**version, "fingerprint": DIGEST, "signature": long}),
        ("publish", {"name": long, "files": {}}),
        ("publish", {"name": "a", "files": {long: {"sha256": DIGEST, "size": 1}}}),
    ):
        assert served.ask("POST", f"{API}/{path}", "boss", json=body).status_code == 422, path


def test_a_body_that_comes_byte_by_byte_is_cut_off(server: Server) -> None:
    app, served = server.app(Limits(silence=1.0))
    head = (
        f"POST {API}/tags HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {served.secrets['boss']}\r\nContent-Length: 50\r\n\r\n"
    )
    with serving(app) as served.address:
        parts = urlsplit(served.address)
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=20)
        connection.connect()
        connection.send(head.encode())
        connection.sock.settimeout(0.3)  # less than the limit of silence between any two
        answer, start = b"", time.monotonic()
        while not answer and time.monotonic() - start < 10:
            connection.send(b"x")
            with contextlib.suppress(TimeoutError):
                answer = connection.sock.recv(100)
        assert b"408" in answer
        connection.close()


def test_uploads_in_parallel_share_one_limit(server: Server) -> None:
    app, served = server.app(Limits(version=1000, file=1000))
    contents = [bytes([n]) * 900 for n in range(12)]

    def upload(content: bytes) -> int:
        parts = (content[place : place + 100] for place in range(0, 900, 100))  # without Content-Length
        sha = hashlib.sha256(content).hexdigest()
        body = content if content[0] % 2 else parts
        return int(served.ask("PUT", f"{API}/uploads/{DIGEST}/{sha}", "publisher", content=body).status_code)

    with serving(app) as served.address, ThreadPoolExecutor(12) as pool:
        answers = Counter(pool.map(upload, contents))
        kept = [path.stat().st_size for path in (server.folder / "uploads").rglob("*") if path.is_file()]
        assert answers == {200: 4, 413: 8}
        assert kept == [900] * 4
        small = b"z" * 300
        assert (
            served.ask(
                "PUT", f"{API}/uploads/{DIGEST}/{hashlib.sha256(small).hexdigest()}", "publisher", content=small
            ).status_code
            == 200
        )
        assert served.ask(
            "PUT", f"{API}/uploads/{DIGEST}/{hashlib.sha256(contents[0]).hexdigest()}", "boss", content=contents[0]
        ).is_success


def test_a_token_publishes_no_more_than_its_quota_also_after_a_restart(
    server: Server, make_adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [make_adapter(seed) for seed in range(4)]
    size = sum(file.size for file in read_tree(folders[0]).values())
    app, served = server.app(Limits(published=2 * size + 100))
    monkeypatch.setenv("VERTICAL_TOKEN", served.secrets["boss"])

    def publish(folder: Path) -> int:
        remote = Registry(served.address)
        try:
            return remote.publish(folder).number
        finally:
            remote.close()

    with serving(app) as served.address:
        with pytest.raises(RegistryError, match="name"):  # a refusal costs nothing
            Registry(served.address).publish(folders[0], "A")
        assert [publish(folders[0]), publish(folders[0]), publish(folders[1])] == [1, 1, 2]
        with pytest.raises(
            RegistryError, match=f"'boss' has published {2 * size} bytes, and may publish {2 * size + 100} in all"
        ):
            publish(folders[2])
    counts = served.tokens.path.with_name("published.json")
    assert json.loads(counts.read_text()) == {"boss": 2 * size}
    assert counts.stat().st_mode & 0o077 == 0

    settings = ServerSettings(limits=Limits(published=2 * size + 100), uploads=server.folder / "uploads")
    with serving(create_registry_app(served.registry, served.tokens, settings, log=lambda _: None)) as served.address:
        with pytest.raises(RegistryError, match="in all"):
            publish(folders[3])
        monkeypatch.setenv("VERTICAL_TOKEN", served.secrets["publisher"])
        assert publish(folders[3]) == 3


def test_the_same_versions_published_in_parallel_by_one_token_are_all_published(
    served: Served, make_adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERTICAL_TOKEN", served.secrets["boss"])
    folders = [make_adapter(seed) for seed in range(3)]

    def publish(_: int) -> list[int]:
        remote = Registry(served.address)
        try:
            return [remote.publish(folder, "medical/triage").number for folder in folders]
        finally:
            remote.close()

    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(publish, range(8)))

    assert {tuple(sorted(each)) for each in numbers} == {(1, 2, 3)}
    assert [line for line in served.log if line["status"] >= 500] == []
    assert [path for path in (server_uploads(served)).rglob("*") if path.is_file()] == []


def server_uploads(served: Served) -> Path:
    return Path(served.registry.location).parent / "uploads"


@pytest.mark.parametrize(
    ("file", "most"), [(CARD, 4 << 20), ("adapter_config.json", 4 << 20), ("README.md", 4 << 20), ("report.html", 64 << 20)]
)
def test_a_text_file_that_is_too_large_is_refused_before_it_is_read(
    served: Served, make_adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch, file: str, most: int
) -> None:
    folder = make_adapter(1)
    place = folder / file
    with place.open("ab") as target:
        target.truncate(most + 1)  # a hole: nothing of it is parsed
    monkeypatch.setenv("VERTICAL_TOKEN", served.secrets["boss"])
    expected = f"{file} has {most + 1} bytes, and at most {most} are accepted"

    with pytest.raises(CorruptAdapter, match=expected):
        served.registry.publish(folder)
    manifest = {path: {"sha256": stored.sha256, "size": stored.size} for path, stored in read_tree(folder).items()}
    answer = served.ask("POST", f"{API}/publish", "boss", json={"name": "a", "files": manifest})
    assert (answer.status_code, expected in answer.text) == (422, True)


def test_a_card_that_is_too_large_for_a_page_is_named_there(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    folder = write_adapter(tmp_path / "adapter", 1)
    card = read_card(folder)
    write_card(folder, card.model_copy(update={"training": {"log": "x" * (2 << 20)}}))
    registry.publish(folder)
    client = page_client(registry)

    page = client.get("/a/medical/triage@1")

    assert page.status_code == 200
    assert "Its card cannot be shown." in page.text
    assert "at most 1048576 are read" in page.text
    assert len(page.text) < 100_000
    assert "0.910" in client.get("/a/medical/triage").text  # from the index


def page_client(registry: Registry) -> TestClient:
    app = FastAPI()
    app.include_router(page_routes(registry))
    return TestClient(app, follow_redirects=False)


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


def test_evidence_of_nested_brackets_is_refused_and_breaks_no_page(served: Served, make_adapter: MakeAdapter) -> None:
    served.registry.publish(make_adapter(1))
    move = {"name": "medical/triage", "alias": "production", "version": 1}
    for evidence in (nested(100), nested(50_000), "no JSON", '{"p": NaN}'):
        with pytest.raises(RegistryError, match="the evidence is not JSON that the log can keep"):
            served.registry.set_alias("medical/triage", "production", 1, evidence=evidence)
        assert served.ask("POST", f"{API}/aliases", "boss", json={**move, "evidence": evidence}).status_code in {409, 422}
    for evidence in (
        nested(100),
        nested(5000),
        nested(50_000),
        "x" * 100_000,
        json.dumps([1] * 30_000),
    ):  # of an earlier version
        event = Event(EVENT.at, "eve", "medical/triage", "alias", alias="old", evidence=evidence)
        served.registry.store.move_alias("medical/triage", "old", 1, None, event)
        served.registry.store.move_alias("medical/triage", "old", None, None, event)
    assert served.ask("POST", f"{API}/aliases", "boss", json={**move, "evidence": '{"p": 0.01}'}).status_code == 200
    for path in ("/log/medical/triage", "/a/medical/triage"):
        page = served.ask("GET", path, "reader")
        assert page.status_code == 200
        assert len(page.text) < 1_000_000


METRICS: dict[str, Any] = {
    "rows": 10, "confidence": 0.95, "baseline": "tfidf",
    "systems": {"adapter": {"title": "specialist", "metrics": {"macro_f1": {"value": 0.9, "low": 0.8, "high": 1.0}}}},
    "tests": [{"baseline": "base", "metric": "macro_f1", "difference": {"value": 0.5, "low": 0.4, "high": 0.6}, "p_value": 0.01}],
}  # fmt: skip
ODD: list[dict[str, Any]] = [
    {"metrics": {**METRICS, "confidence": None}},
    {"metrics": {**METRICS, "rows": 10**400}},
    {"metrics": {**METRICS, "rows": "many"}},
    {"metrics": {**METRICS, "tests": [{**METRICS["tests"][0], "metric": "other"}]}},
    {"metrics": {**METRICS, "tests": [{**METRICS["tests"][0], "p_value": "small"}]}},
    {"metrics": {**METRICS, "systems": {"adapter": {"title": 7, "metrics": {"macro_f1": {"value": 1e300, "low": "x"}}}}}},
    {"metrics": {**METRICS, "systems": {str(n): {"metrics": {}} for n in range(2000)}}},
    {"metrics": {"systems": 3}},
    {"training": {"seconds": 1e308, "\ud800": ["\ud800"], "steps": 10**400}},
    {"recipe": {"summary": ["\ud800"], "evaluate": 7, "x" * 10_000: {"": None}}},
    {"recipe": {"rows": [[n] for n in range(50_000)]}},
    {"created": "\x00\ud800" * 1000, "recipe_digest": "\ud800" * 64},
    {"versions": {"torch": "\u202e"}},
]


@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
def test_an_odd_card_is_shown_on_every_page(tmp_path: Path, odd: dict[str, Any]) -> None:
    registry = Registry(tmp_path / "registry")
    folder = write_adapter(tmp_path / "adapter", 1)
    plain = json.loads((folder / CARD).read_text()) | {"metrics": METRICS} | odd
    (folder / CARD).write_text(json.dumps(plain))
    manifest = read_tree(folder)
    files = {path: folder / path for path in manifest}
    registry.store.put("medical/triage", files, manifest, record=RECORD, tags={}, event=EVENT)
    client = page_client(registry)

    for path in ("/", "/?q=macro_f1>0.5", "/a/medical/triage", "/a/medical/triage@1"):
        assert client.get(path).status_code == 200, path


def test_an_unknown_name_is_compared_with_some_hundreds_of_ten_thousand(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    index = registry.store.index  # type: ignore[attr-defined]
    with index.writing():
        for n in range(10_000):
            name = f"{'medical' if n % 2 else 'law'}/icd-chapter-number-{n:05d}"
            index.add(name, f"{n:064x}", RECORD, {}, Event(EVENT.at, "eve", name, "publish"))
    client = page_client(registry)

    for name in ("medical/icd-chapter-number-0041x", "medical/icd-chaptr-number-00411", "a" * 64 + "/" + "ab" * 32):
        start = time.monotonic()
        answer = client.get(f"/a/{name}")
        assert (answer.status_code, time.monotonic() - start < 2) == (404, True), name
        assert ("Did you mean" in answer.text) == name.startswith("medical")
    with pytest.raises(RegistryError, match="Did you mean 'medical/icd-chapter-number-0041"):
        registry.resolve("medical/icd-chapter-number-0041l")


def test_similar_names_are_found_among_many_long_ones_in_time() -> None:
    many = ["ab" * 50 + f"{n:06d}" for n in range(30_000)]

    assert seconds(lambda: find_similar("ba" * 50 + "x", many, most=3)) < 5
    assert seconds(lambda: list_nearest("x/" + "ab" * 50_000, ["y/" + "ba" * 50_000] * 300)) < 5
    assert did_you_mean("focl" + "x" * 1000, ["focal" + "x" * 1000]) == ""
    assert did_you_mean("focl", ["focal", *many]) == " Did you mean 'focal'?"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "evil.example."]
)
def test_a_host_name_of_another_site_is_refused(server: Server, host: str) -> None:
    app, served = server.app(anonymous=True)
    hosts = accepted_hosts("127.0.0.1", (), proxy=False)
    assert hosts is not None
    with serving(HostCheck(app, hosts, refuse, exempt={f"{API}/health"})) as served.address:
        assert [raw(served, path, Host=host) for path in ("/", f"{API}/names", f"{API}/health")] == [421, 421, 200]
        for own in ("127.0.0.1:8080", "localhost", "LOCALHOST:1", "[::1]:8080", "10.0.0.7"):
            assert raw(served, f"{API}/names", Host=own) == 200, own


def test_the_accepted_host_names_follow_from_how_the_server_listens() -> None:
    assert accepted_hosts("0.0.0.0", (), proxy=False) is None
    assert accepted_hosts("127.0.0.1", (), proxy=True) is None
    assert accepted_hosts("::1", (), proxy=False) == {"localhost", "::1"}
    assert accepted_hosts("127.0.0.1", ["Registry.example:8443"], proxy=True) == {"localhost", "127.0.0.1", "registry.example"}


def test_a_token_file_that_is_opened_to_others_later_is_noticed(served: Served) -> None:
    assert served.ask("GET", f"{API}/names", "reader").status_code == 200
    served.tokens.path.chmod(0o644)

    answer = served.ask("GET", f"{API}/names", "reader")

    assert answer.status_code == 503
    assert "other users may read or write this file. Run `chmod 600` on it." in answer.text
    served.tokens.path.chmod(0o600)
    assert served.ask("GET", f"{API}/names", "reader").status_code == 200


def test_requests_without_a_token_fill_no_log() -> None:
    lines: list[dict[str, Any]] = []

    async def deny(scope: Any, receive: Any, send: Any) -> None:
        scope["vertical.token"] = None
        await send({"type": "http.response.start", "status": 401, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def send(_: Any) -> None:
        return

    async def ask() -> None:
        for _ in range(10_000):
            scope = {"type": "http", "method": "GET", "path": "/" + "x" * 10_000, "scheme": "http", "client": ("10.0.0.7", 1)}
            await log(scope, send, send)  # type: ignore[arg-type]

    log = AccessLog(deny, lines.append, refuse)
    start = time.monotonic()
    asyncio.run(ask())
    passed = time.monotonic() - start

    assert 100 <= len(lines) <= 100 * (passed + 2)
    assert {len(line["path"]) for line in lines} == {1000}


def test_a_client_repeats_a_request_after_an_error_of_the_server_if_that_is_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def fail_first(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope["method"])
        status = 500 if len(asked) == 1 or scope["method"] == "POST" else 200
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"[]" if status == 200 else b"{}"})

    monkeypatch.delenv("VERTICAL_TOKEN", raising=False)
    with serving(fail_first) as address:
        remote = Registry(address)
        assert remote.store.names() == []
        with pytest.raises(SourceError, match="the server answered 500"):
            remote.store.move_alias("medical/triage", "production", 1, None, EVENT)
        remote.close()
    assert asked == ["GET", "GET", "POST"]


def test_a_body_with_many_wrong_keys_is_refused_with_a_short_answer(served: Served) -> None:
    files = {f"f{n}": {"sha256": "x", "size": -1} for n in range(900)}
    bodies: list[tuple[str, dict[str, Any], int, str]] = [
        (
            "tags",
            {f"k{n}": "v" for n in range(60_000)},
            422,
            "it has 60000 keys. Those that it may have: name, version, tags, why",
        ),
        ("publish", {"name": "a", "files": {f"f{n}": {} for n in range(25_000)}}, 413, "the version has 25000 files"),
        ("publish", {"name": "a", "files": {"f": dict.fromkeys(map(str, range(60_000)))}}, 422, "it has 60000 keys"),
        ("publish", {"name": "a", "files": files}, 422, "and 1780 more"),
    ]
    for path, body, status, message in bodies:
        start = time.monotonic()
        answer = served.ask("POST", f"/api/v1/{path}", "boss", json=body)
        assert answer.status_code == status
        assert message in answer.json()["error"]["message"]
        assert len(answer.content) < 10_000
        assert time.monotonic() - start < 5


def test_a_request_with_two_lengths_ends_its_connection(served: Served) -> None:
    """A proxy that reads the other length would take the rest for another client's request."""
    parts = urlsplit(served.address)
    hidden = b"GET /api/v1/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    head = f"POST /api/v1/tags HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {served.secrets['boss']}\r\n"
    body = b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden
    with socket.create_connection((str(parts.hostname), parts.port or 0), timeout=10) as connection:
        connection.sendall(head.encode() + body)
        received = b"".join(iter(lambda: connection.recv(65536), b""))

    assert received.startswith(b"HTTP/1.1 400")
    assert b"both Content-Length and Transfer-Encoding" in received
    assert received.count(b"HTTP/1.1") == 1


def test_a_flood_from_an_address_leaves_its_health_checks(server: Server) -> None:
    app, served = server.app(Limits(rate=0.01, burst=3))
    with serving(app) as served.address:
        assert [served.ask("GET", "/api/v1/names").status_code for _ in range(5)] == [401] * 3 + [429] * 2
        assert [served.ask("GET", "/api/v1/health").status_code for _ in range(4)] == [200] * 3 + [429]


@pytest.mark.parametrize("host", ["[::1].evil.example", "[127.0.0.1]evil.example", "[localhost]evil"])
def test_a_host_that_begins_like_an_address_is_refused(server: Server, host: str) -> None:
    app, _ = server.app()
    client = TestClient(HostCheck(app, {"localhost"}, refuse))

    assert client.get("/api/v1/names", headers={"Host": host}).status_code == 421
    assert client.get("/api/v1/names", headers={"Host": "[::1]:8080"}).status_code == 401
