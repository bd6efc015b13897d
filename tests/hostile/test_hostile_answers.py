"""A registry server that answers with another version, another name or endless pages."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from registry.conftest import write_adapter
from servers.local_server import serving

from vertical_sdk.errors import CorruptAdapter, GateFailed, RegistryError, RunError, SourceError
from vertical_sdk.registry import Registry
from vertical_sdk.registry.blob_store import BlobStore
from vertical_sdk.registry.copying import copy_versions
from vertical_sdk.registry.policy import Policy
from vertical_sdk.registry.references import parse_reference
from vertical_sdk.registry.store import Entry, Stored
from vertical_sdk.registry.stores import http
from vertical_sdk.registry.stores.http import HttpStore

NAME = "medical/triage"
Lie = Callable[[str, list[Any]], Any]


class Liar(BaseHTTPRequestHandler):
    """The API of a registry server for a folder. `lie` changes the answers."""

    registry: Registry
    lie: Lie

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        what, _, rest = url.path.removeprefix("/api/v1/").partition("/")
        store = self.registry.store
        if what == "files":
            digest, _, path = rest.partition("/")
            return self.send((store.folder(digest) / path).read_bytes())
        limit = int(query.get("limit", 1000))
        rows: Any
        if what == "find":
            rows = [asdict(entry) for entry in store.find(parse_reference(query["reference"]))]
        elif what == "versions":
            rows = [asdict(e) for e in store.versions(query["name"], limit=limit)]
        elif what == "newest":
            rows = [{"entry": asdict(entry), "aliases": dict(aliases)} for entry, aliases in store.newest()]
        elif what == "names":
            rows = list(store.names(after=query.get("after", "")))
        elif what == "search":
            rows = [asdict(entry) for entry in store.search([])]
        elif what == "history":
            rows = [asdict(event) for event in store.history(query["name"])]
        else:
            rows = {path: asdict(file) for path, file in store.manifest(rest).items()}
        return self.send(json.dumps(self.lie(what, rows)).encode())

    def send(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def honest(tmp_path: Path) -> Registry:
    """Two versions of one name, one of another."""
    registry = Registry(tmp_path / "registry", Policy())
    for seed in (1, 2):
        registry.publish(write_adapter(tmp_path / f"adapter-{seed}", seed))
    registry.publish(write_adapter(tmp_path / "adapter-3", 3, name="medical/evil"))
    registry.set_alias(NAME, "production", 1)
    return registry


@pytest.fixture
def ask(honest: Registry) -> Iterator[Callable[[Lie], Registry]]:
    """A function that returns a client of a server with a lie."""
    handler = type("OwnLiar", (Liar,), {"registry": honest, "lie": staticmethod(lambda what, rows: rows)})
    with serving(handler) as address:

        def choose(lie: Lie) -> Registry:
            handler.lie = staticmethod(lie)  # type: ignore[attr-defined]
            return Registry(address, Policy())

        yield choose


def entry_of(registry: Registry, reference: str) -> dict[str, Any]:
    return asdict(registry.store.find(parse_reference(reference))[0])


def test_the_true_answers_are_accepted(ask: Callable[[Lie], Registry], honest: Registry, tmp_path: Path) -> None:
    client = ask(lambda _, rows: rows)
    first = honest.resolve(f"{NAME}@1")

    for reference in (f"{NAME}@1", f"{NAME}@production", f"{NAME}@sha256:{first.digest}", f"{NAME}@sha256:{first.digest[:8]}"):
        assert client.resolve(reference).digest == first.digest
    assert client.resolve(NAME).number == 2
    assert [version.number for version in client.versions(NAME)] == [1, 2]
    assert len(client.search()) == 3
    assert len(client.list_adapters()) == 2
    assert len(client.history(NAME)) == 3
    assert len(copy_versions(client, Registry(tmp_path / "copy", Policy())).versions) == 3


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (f"{NAME}@1", f"{NAME}@2"),
        (f"{NAME}@1", "medical/evil@1"),
        (NAME, "medical/evil@1"),
        (f"{NAME}@production", f"{NAME}@2"),
        (f"{NAME}@sha256:DIGEST", f"{NAME}@2"),
        (f"{NAME}@sha256:DIGEST", "medical/evil@1"),
    ],
)
def test_another_version_than_the_one_asked_for_is_refused(
    asked: str, answer: str, ask: Callable[[Lie], Registry], honest: Registry
) -> None:
    asked = asked.replace("DIGEST", honest.resolve(f"{NAME}@1").digest)
    client = ask(lambda what, rows: [entry_of(honest, answer)] if what == "find" else rows)

    for check in (True, False):
        with pytest.raises(SourceError, match=rf"{asked} was requested, and the registry answered with {answer} \(sha256:"):
            client.resolve(asked, check=check)


def test_a_digest_with_the_content_of_another_version_is_refused(ask: Callable[[Lie], Registry], honest: Registry) -> None:
    """The entry is the right one, and the manifest is that of another version."""
    evil = {path: asdict(file) for path, file in honest.store.manifest(honest.resolve("medical/evil").digest).items()}
    client = ask(lambda what, rows: evil if what == "manifests" else rows)

    with pytest.raises(CorruptAdapter, match="the manifest has changed"):
        client.resolve(f"{NAME}@1")


def test_lists_of_other_names_are_refused(ask: Callable[[Lie], Registry], honest: Registry, tmp_path: Path) -> None:
    evil = entry_of(honest, "medical/evil@1")
    client = ask(lambda what, rows: [evil] if what in {"versions", "search"} else rows)

    with pytest.raises(SourceError, match=rf"versions of {NAME} were requested, and the registry answered with medical/evil@1"):
        client.versions(NAME)
    with pytest.raises(SourceError, match=rf"name={NAME} after @0 was searched, and the registry answered with medical/evil@1"):
        client.search(f"name={NAME}")
    with pytest.raises(SourceError, match=r"macro_f1>0.99 after @0 was searched, and"):
        client.search("macro_f1>0.99")
    target = Registry(tmp_path / "copy", Policy())
    with pytest.raises(SourceError, match=rf"versions of {NAME} were requested"):
        copy_versions(client, target, [NAME])
    assert target.store.names() == []


def test_a_list_with_other_prefixes_or_without_order_is_refused(ask: Callable[[Lie], Registry]) -> None:
    with pytest.raises(SourceError, match="names with the prefix 'legal/'"):
        ask(lambda _, rows: rows).list_adapters("legal/")
    with pytest.raises(SourceError, match="names with the prefix"):
        ask(lambda what, rows: rows[::-1] if what == "newest" else rows).list_adapters()
    with pytest.raises(SourceError, match="versions of"):
        ask(lambda what, rows: rows[::-1] if what == "versions" else rows).versions(NAME)


def test_a_log_of_another_name_is_refused(ask: Callable[[Lie], Registry], honest: Registry) -> None:
    evil = [asdict(event) for event in honest.store.history("medical/evil")]
    client = ask(lambda what, rows: evil if what == "history" else rows)

    with pytest.raises(
        SourceError, match=rf"the log of {NAME} was requested, and the registry answered with a line of medical/evil"
    ):
        client.history(NAME)


def test_endless_pages_are_refused(ask: Callable[[Lie], Registry], honest: Registry) -> None:
    page = [{**entry_of(honest, f"{NAME}@1"), "number": number} for number in range(5, 1005)]
    names = [f"a{number:04}" for number in range(1000)]
    client = ask(lambda what, rows: page if what == "versions" else names if what == "names" else rows)

    with pytest.raises(SourceError, match="does not answer as a registry does"):
        client.versions(NAME)
    with pytest.raises(SourceError, match="does not answer as a registry does"):
        client.store.names()


@pytest.mark.parametrize("record", [{}, {"facts": 1}, {"facts": {"a": 1}, "metrics": None}])
def test_malformed_metadata_are_an_error_and_not_a_crash(
    record: dict[str, Any], ask: Callable[[Lie], Registry], honest: Registry
) -> None:
    client = ask(lambda what, rows: [{**entry_of(honest, f"{NAME}@1"), "record": record}] if what == "find" else rows)

    with pytest.raises(RegistryError, match=rf"the metadata of {NAME}@1 are malformed"):
        client.resolve(f"{NAME}@1")


def test_every_answer_of_any_store_is_compared(honest: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison is in the Registry, so it holds for each kind of store."""
    true = honest.store.find(parse_reference(f"{NAME}@1"))[0]
    wrong = [replace(true, number=2), replace(true, name="medical/evil"), replace(true, digest="0" * 64)]
    for entry in wrong:
        monkeypatch.setattr(honest.store, "find", lambda _, entry=entry: [entry])
        with pytest.raises(SourceError, match="was requested, and the registry answered with"):
            honest.resolve(f"{NAME}@sha256:{true.digest}" if entry.digest != true.digest else f"{NAME}@1")
    twins: list[Entry] = [true, true]
    monkeypatch.setattr(honest.store, "find", lambda _: twins)
    with pytest.raises(SourceError, match="the same version twice"):
        honest.resolve(f"{NAME}@1")


ODD: tuple[Any, ...] = (None, True, 1.5, [], [1], {"a": 1}, {"a": ["b"]}, [["x"]])


def _replace_value(row: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """A copy of a row with another value at a path of keys."""
    return {**row, path[0]: value if len(path) == 1 else _replace_value(row[path[0]], path[1:], value)}


@pytest.mark.parametrize(
    ("path", "odd"),
    [
        (("created",), ODD),
        (("who",), ODD),
        (("number",), (None, True, 1.0, "1", [1])),
        (("aliases",), ([1], [["production"]], [None])),
        (("tags",), (None, True, [], [1], {"a": 1}, {"a": ["b"]})),
        (("record",), (None, [], "x", {"facts": {}})),
        (("record", "facts"), (None, True, [], {"task": "x"}, {"task": [1]}, {"task": [["x"]]})),
        (("record", "metrics"), (None, [], {"macro_f1": "1"}, {"macro_f1": None}, {"macro_f1": True})),
        (("record", "metric"), ODD[1:]),
        (("record", "value"), ("1", True, [1])),
        (("record", "gate"), ODD),
        (("record", "forced"), (None, 0, "no")),
        (("record", "reason"), ODD),
    ],
)
def test_values_of_another_type_are_refused_wherever_they_come(
    path: tuple[str, ...], odd: tuple[Any, ...], honest: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = entry_of(honest, f"{NAME}@1")
    for value in odd:
        entry = Entry(**_replace_value(true, path, value))
        for method in ("find", "versions", "search"):
            monkeypatch.setattr(honest.store, method, lambda *_, entry=entry, **__: [entry])
        monkeypatch.setattr(honest.store, "newest", lambda *_, entry=entry, **__: [(entry, {})])
        for read in (lambda: honest.resolve(f"{NAME}@1"), lambda: honest.versions(NAME), honest.search, honest.list_adapters):
            with pytest.raises(RegistryError, match=rf"the metadata of {NAME}@.* are malformed"):
                read()


def test_values_of_another_type_in_the_log_and_in_aliases_are_refused(
    honest: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = honest.store.history(NAME)[0]
    odd: dict[str, Any] = {"at": 1, "who": None, "action": [1], "alias": 3, "before": "1", "why": {}, "evidence": []}
    for key, value in odd.items():
        wrong = replace(event, **{key: value})
        monkeypatch.setattr(honest.store, "history", lambda *_, wrong=wrong, **__: [wrong])
        with pytest.raises(RegistryError, match=f"the log of {NAME} is malformed"):
            honest.history(NAME)
    newest = [(entry, {"production": "1"}) for entry, _ in honest.store.newest()]
    monkeypatch.setattr(honest.store, "newest", lambda *_, **__: newest)
    with pytest.raises(RegistryError, match="the aliases of medical/evil are malformed"):
        honest.list_adapters()


def test_tags_of_another_type_from_a_server_are_refused(ask: Callable[[Lie], Registry], honest: Registry) -> None:
    client = ask(lambda what, rows: [{**entry_of(honest, f"{NAME}@1"), "tags": None}] if what == "find" else rows)

    with pytest.raises(RegistryError, match=rf"the metadata of {NAME}@1 are malformed"):
        client.resolve(f"{NAME}@1")


@pytest.mark.parametrize(
    "address",
    [
        "http://[::1", "http://[x]", "http://a\0b", "http://a..b", "http://xn--\xff", f"http://{'a' * 300}", "http://\ud800",
        "http://h/x\x01", "mlflow+http://[::1", "file://\0", "\0", "x" * 5000,
    ],
)  # fmt: skip
def test_an_address_that_no_program_can_open_is_an_error(address: str) -> None:
    with pytest.raises(RegistryError, match=r"wrong address of a registry|cannot be the place of a registry"):
        Registry(address, Policy())


class Slow(Liar):
    """Sends a byte of each answer now and then, and never ends."""

    def send(self, content: bytes) -> None:
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(b" ")
                time.sleep(0.1)


def test_an_answer_and_a_download_that_do_not_end_are_given_up(honest: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "ANSWER_TIME", 0.3)
    monkeypatch.setattr(http, "SLOWEST", 1_000_000)
    with serving(type("Own", (Slow,), {"registry": honest, "lie": staticmethod(lambda _, rows: rows)})) as address:
        with pytest.raises(SourceError, match="the answer did not end within"):
            Registry(address, Policy()).resolve(f"{NAME}@1")
        monkeypatch.setattr(HttpStore, "find", lambda _, reference: honest.store.find(reference))
        monkeypatch.setattr(HttpStore, "manifest", lambda _, digest: honest.store.manifest(digest))
        with pytest.raises(SourceError, match=r"was interrupted after \d+ of \d+ bytes. Run it again to resume it"):
            Registry(address, Policy()).resolve(f"{NAME}@1")


def test_a_file_larger_than_the_disk_is_refused_before_it_is_downloaded(tmp_path: Path) -> None:
    fetched: list[Stored] = []
    manifest = {"card.json": Stored("0" * 64, 10**17)}
    with pytest.raises(RunError, match=r"has 100000000000000000 bytes, and only \d+ are free"):
        BlobStore(tmp_path).fetch_tree("1" * 64, manifest, lambda file, _: fetched.append(file))
    assert fetched == []


def test_a_waiting_time_that_is_not_a_number_is_ignored() -> None:
    for value, seconds in (("3", 3.0), ("²", 0.0), ("-1", 0.0), ("nan", 0.0), ("9" * 5000, http.LONGEST_WAIT)):
        assert http._read_retry_after(httpx2.Response(503, headers={"retry-after": value.encode()})) == seconds


def test_an_answer_of_too_many_parts_is_refused_before_it_is_parsed(ask: Callable[[Lie], Registry], honest: Registry) -> None:
    entry = entry_of(honest, f"{NAME}@1")
    for rows in ([[]] * (http.MOST_PARTS + 1), [entry] * (http.PAGE + 1)):
        with pytest.raises(SourceError, match="does not answer as a registry does"):
            ask(lambda what, _, rows=rows: rows).resolve(f"{NAME}@1")


@pytest.mark.parametrize("answer", [b"\0\xff" * 5000, b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000, b"HTTP/1.1 099 x\r\n\r\n"])
def test_a_server_of_another_protocol_is_asked_once(answer: bytes, honest: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(Liar):
        def do_GET(self) -> None:
            with contextlib.suppress(OSError):
                self.wfile.write(answer)

    waited: list[float] = []
    monkeypatch.setattr(http, "sleep", waited.append)
    with serving(Odd) as address, pytest.raises(SourceError, match="does not answer as one of HTTP does"):
        Registry(address, Policy()).resolve(f"{NAME}@1")
    assert waited == []


def test_the_message_and_the_redirect_of_a_server_are_shortened(honest: Registry) -> None:
    class Loud(Liar):
        def do_GET(self) -> None:
            redirect = "names" in self.path
            body = json.dumps({"error": {"type": "GateFailed", "message": "a" * 1_000_000}}).encode()
            self.send_response(302 if redirect else 422)
            self.send_header("Location", "http://evil.example/" + "a" * 50_000)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with serving(Loud) as address:
        client = Registry(address, Policy())
        with pytest.raises(GateFailed) as refused:
            client.resolve(f"{NAME}@1")
        with pytest.raises(SourceError, match=r"redirects to 'http://evil\.example/a+', but") as redirected:
            client.store.names()
    assert len(str(refused.value)) <= http.LONGEST_MESSAGE
    assert len(str(redirected.value)) < 1000
