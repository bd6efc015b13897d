"""The routes of the API, as seen by a client other than the library's own."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from registry.conftest import sign_with_new_key
from servers.http_server import serving

from vertical_sdk.card import Verdict
from vertical_sdk.registry import Registry
from vertical_sdk.registry.index import Index
from vertical_sdk.registry.store import canonical_json
from vertical_sdk.registry.tree import read_tree
from vertical_sdk.server.security.access_log import open_log
from vertical_sdk.server.settings import Limits

MakeAdapter = Callable[..., Path]
API = "/api/v1"
DIGEST = "0" * 64
FAILED = Verdict(passed=False, reasons=("0.50 against 0.55",))


def upload(served: Any, folder: Path, who: str = "publisher") -> dict[str, Any]:
    """Upload the files of a folder. Returns the request body that publishes it."""
    manifest = read_tree(folder)
    digest = hashlib.sha256(canonical_json(manifest)).hexdigest()
    for path, file in manifest.items():
        answer = served.ask("PUT", f"{API}/uploads/{digest}/{file.sha256}", who, content=(folder / path).read_bytes())
        assert answer.status_code == 200
    return {"name": "medical/triage", "files": json.loads(canonical_json(manifest))}


def error_of(answer: httpx2.Response) -> tuple[int, str]:
    assert set(answer.json()["error"]) == {"type", "message"}
    return answer.status_code, answer.json()["error"]["type"]


WRITES = {
    "publish": ("POST", f"{API}/publish", {"name": "a", "files": {}}),
    "upload": ("PUT", f"{API}/uploads/{DIGEST}/{DIGEST}", None),
    "sign": ("POST", f"{API}/signatures", {"name": "a", "version": 1, "fingerprint": DIGEST, "signature": "x"}),
    "alias": ("POST", f"{API}/aliases", {"name": "a", "alias": "b", "version": 1}),
    "tag": ("POST", f"{API}/tags", {"name": "a", "version": 1, "tags": {}}),
    "revoke": ("POST", f"{API}/revocations", {"name": "a", "version": 1, "reason": "x"}),
    "gc": ("POST", f"{API}/gc", None),
    "problems": ("GET", f"{API}/problems", None),
}
READS = [
    f"{API}/names",
    f"{API}/newest",
    f"{API}/versions?name=a",
    f"{API}/find?reference=a",
    f"{API}/search",
    f"{API}/history?name=a",
]


def test_each_scope_allows_its_own_requests_and_no_others(served: Any) -> None:
    may = {
        who: {
            what for what, (method, path, body) in WRITES.items() if served.ask(method, path, who, json=body).status_code != 403
        }
        for who in ("reader", "publisher", "boss")
    }

    assert may == {"reader": set(), "publisher": {"publish", "upload", "sign"}, "boss": set(WRITES)}
    assert {served.ask("GET", path, who).status_code for path in READS for who in may} == {200}


def test_requests_without_a_valid_token_are_rejected(served: Any) -> None:
    asked = [("GET", path, None) for path in [*READS, f"{API}/manifests/{DIGEST}", f"{API}/files/{DIGEST}/x"]] + [
        *WRITES.values()
    ]

    for method, path, body in asked:
        for headers in ({}, {"Authorization": "Bearer vertical_wrong"}, {"Authorization": "Bearer"}, {"Authorization": "x"}):
            answer = served.ask(method, path, json=body, headers=headers)
            assert error_of(answer) == (401, "RegistryError")
            assert answer.headers["www-authenticate"] == 'Bearer realm="vertical"'
    assert served.ask("GET", f"{API}/health").json() == {"ok": True}


def test_anonymous_read_allows_reading_and_nothing_else(server: Any) -> None:
    app, served = server.app(anonymous=True)
    with serving(app) as served.address:
        assert {served.ask("GET", path).status_code for path in READS} == {200}
        assert {served.ask(method, path, json=body).status_code for method, path, body in WRITES.values()} == {401}
        assert served.ask("GET", READS[0], headers={"Authorization": "Bearer vertical_wrong"}).status_code == 401


def test_only_pages_accept_a_password(served: Any) -> None:
    basic = {"Authorization": "Basic " + base64.b64encode(f"x:{served.secrets['boss']}".encode()).decode()}

    assert served.ask("GET", READS[0], headers=basic).status_code == 401
    assert served.ask("POST", f"{API}/gc", headers=basic).status_code == 401
    assert served.ask("GET", "/", headers=basic).status_code == 200
    for odd in ("Basic !!", "Basic", "Basic " + base64.b64encode(b"no colon").decode()):
        assert served.ask("GET", "/", headers={"Authorization": odd}).headers["www-authenticate"].startswith("Basic ")


def test_every_page_needs_a_token(served: Any, make_adapter: MakeAdapter) -> None:
    served.registry.publish(make_adapter(1))
    pages = ["/", "/a/medical/triage", "/a/medical/triage@1", "/a/medical/triage@1/report", "/log/medical/triage", "/page.css"]

    for path in pages:
        no_token = served.ask("GET", path)
        assert no_token.status_code == 401, path
        assert no_token.headers["www-authenticate"].startswith("Basic ")
        assert "0.91" not in no_token.text


def test_every_answer_has_safety_headers_and_no_cookie_or_cors(served: Any) -> None:
    for path, who in ((READS[0], "reader"), (READS[0], None), ("/nothing", None), (f"{API}/openapi.json", None)):
        headers = served.ask("GET", path, who, headers={"Origin": "https://elsewhere.example"}).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "script" not in headers["content-security-policy"]
        assert headers["cache-control"] == ("no-store" if path.startswith(API) else "private, no-cache")
        assert {"access-control-allow-origin", "set-cookie", "server"}.isdisjoint(headers)
    assert [served.ask("GET", path, "boss").status_code for path in ("/docs", "/redoc")] == [404, 404]


def test_a_version_is_published_in_the_name_of_the_token(served: Any, make_adapter: MakeAdapter) -> None:
    asked = upload(served, make_adapter(1))

    answer = served.ask("POST", f"{API}/publish", "publisher", json={**asked, "reason": "why", "tags": {"a": "b"}})

    entry = answer.json()
    assert answer.status_code == 200
    assert (entry["name"], entry["number"], entry["who"], entry["tags"]) == ("medical/triage", 1, "publisher", {"a": "b"})
    assert (entry["record"]["gate"], entry["record"]["value"], entry["record"]["reason"]) == ("passed", 0.91, "why")
    assert [event.who for event in served.registry.history("medical/triage")] == ["publisher"]
    assert served.registry.verify() == []
    assert [p for p in (Path(served.registry.location).parent / "uploads").rglob("*") if p.is_file()] == []


def test_a_record_or_author_sent_by_a_client_is_rejected(served: Any, make_adapter: MakeAdapter) -> None:
    asked = upload(served, make_adapter(1))

    assert error_of(served.ask("POST", f"{API}/publish", "publisher", json={**asked, "record": {"gate": "passed"}})) == (
        422,
        "RegistryError",
    )
    assert error_of(served.ask("POST", f"{API}/publish", "publisher", json={**asked, "who": "ceo"}))[0] == 422


def test_missing_files_are_listed_for_each_token(served: Any, make_adapter: MakeAdapter) -> None:
    folder = make_adapter(1)
    asked = upload(served, folder, "boss")  # uploads of another token do not count
    digest = hashlib.sha256(canonical_json(read_tree(folder))).hexdigest()
    shas = sorted({file["sha256"] for file in asked["files"].values()})

    answer = served.ask("POST", f"{API}/publish", "publisher", json=asked)

    assert answer.status_code == 409
    assert answer.json()["missing"] == shas
    there = {
        who: {served.ask("HEAD", f"{API}/uploads/{digest}/{sha}", who).status_code for sha in shas}
        for who in ("boss", "publisher")
    }
    assert there == {"boss": {200}, "publisher": {404}}


def test_an_upload_with_a_wrong_digest_is_not_stored(served: Any) -> None:
    sha = hashlib.sha256(b"right").hexdigest()

    assert error_of(served.ask("PUT", f"{API}/uploads/{DIGEST}/{sha}", "publisher", content=b"wrong")) == (
        422,
        "DigestMismatch",
    )
    assert served.ask("HEAD", f"{API}/uploads/{DIGEST}/{sha}", "publisher").status_code == 404
    assert list((Path(served.registry.location).parent / "uploads").rglob("*.*")) == []


def test_too_large_requests_are_refused_before_and_during_the_upload(server: Any) -> None:
    limits = Limits(body=1000, file=500, version=600, files=2)  # so that at most 8 files and folders wait
    app, served = server.app(limits)
    content = b"x" * 501
    path = f"{API}/uploads/{DIGEST}/{hashlib.sha256(content).hexdigest()}"

    def pieces() -> Any:  # without a stated length
        yield from (content[:250], content[250:])

    def files(*sizes: int) -> dict[str, Any]:
        return {"name": "a", "files": {f"{n}.json": {"sha256": DIGEST, "size": size} for n, size in enumerate(sizes)}}

    with serving(app, limits) as served.address:
        assert error_of(served.ask("PUT", path, "publisher", content=content)) == (413, "RegistryError")
        assert error_of(served.ask("PUT", path, "publisher", content=pieces())) == (413, "RegistryError")
        for asked in (files(501), files(400, 400), files(1, 1, 1)):
            assert error_of(served.ask("POST", f"{API}/publish", "publisher", json=asked)) == (413, "RegistryError")
        assert error_of(served.ask("POST", f"{API}/tags", "boss", content=b" " * 1001)) == (413, "RegistryError")
        assert error_of(served.ask("POST", f"{API}/tags", "boss", content=iter([b" " * 600] * 2))) == (413, "RegistryError")
        for n in range(4):  # four versions of the largest size may wait, no more
            kept = str(n).encode() * 480
            name = hashlib.sha256(kept).hexdigest()
            assert served.ask("PUT", f"{API}/uploads/{DIGEST}/{name}", "publisher", content=kept).status_code == 200
        more = hashlib.sha256(b"y" * 490).hexdigest()
        served.ask("PUT", f"{API}/uploads/{DIGEST}/{more}", "publisher", content=b"y" * 490)
        assert error_of(served.ask("PUT", f"{API}/uploads/{'1' * 64}/{more}", "publisher", content=b"y" * 490)) == (
            413,
            "RegistryError",
        )
        assert served.ask("PUT", f"{API}/uploads/{DIGEST}/{more}", "boss", content=b"y" * 490).status_code == 200
    uploads = server.folder / "uploads"
    assert max(p.stat().st_size for p in uploads.rglob("*") if p.is_file()) <= 500


def test_endless_headers_and_missing_bodies_are_refused(server: Any) -> None:
    limits = Limits(headers=2000, silence=0.2)
    app, served = server.app(limits)
    token = served.secrets["boss"]
    started = f"POST {API}/tags HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 50\r\n\r\n{{"
    started_upload = f"PUT {API}/uploads/{DIGEST}/{DIGEST} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 50\r\n\r\n{{"

    def answered(sent: str) -> str:
        with socket.create_connection(
            (urlsplit(served.address).hostname, urlsplit(served.address).port), timeout=10
        ) as connection:
            connection.sendall(sent.encode())
            return connection.recv(1000).decode().splitlines()[0]

    with serving(app, limits) as served.address:
        assert "431" in answered(f"GET {API}/health HTTP/1.1\r\nHost: x\r\nX-Long: {'x' * 3000}\r\n\r\n")
        assert "400" in answered(f"GET {API}/health HTTP/1.1\r\nHost: x\r\nX-Long: {'x' * 3000}")  # and no end of it
        assert "408" in answered(started)
        assert "408" in answered(started_upload)


@pytest.mark.parametrize(
    "path",
    ["../x", "/etc/passwd", "a/../../x", "a\\b", "a\x00b", "", ".", "a//b", "./a", "x.bin", "C:/x", "\u202egnp.exe", "x\ud800"],
)
def test_a_path_outside_the_folder_is_refused_and_creates_nothing(served: Any, path: str) -> None:
    content = b"x"
    sha = hashlib.sha256(content).hexdigest()
    asked = {"name": "medical/triage", "files": {path: {"sha256": sha, "size": 1}}}
    before = sorted(Path(served.registry.location).parent.rglob("*"))

    answer = served.ask(
        "POST", f"{API}/publish", "publisher", content=json.dumps(asked), headers={"Content-Type": "application/json"}
    )

    assert error_of(answer) == (422, "RegistryError")
    assert sorted(Path(served.registry.location).parent.rglob("*")) == before


@pytest.mark.parametrize("paths", [["a", "a/b"], ["a/b", "a"], ["x" * 300]])
def test_paths_that_cannot_be_in_one_folder_are_refused(served: Any, paths: list[str]) -> None:
    sha = hashlib.sha256(b"x").hexdigest()
    asked = {"name": "medical/triage", "files": {path: {"sha256": sha, "size": 1} for path in paths}}
    digest = hashlib.sha256(json.dumps(asked["files"], sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    assert served.ask("PUT", f"{API}/uploads/{digest}/{sha}", "publisher", content=b"x").status_code == 200

    status, kind = error_of(served.ask("POST", f"{API}/publish", "publisher", json=asked))

    assert (status, kind) == (422, "RegistryError")


@pytest.mark.parametrize("name", ["../x", "a/b/c", "A", "а/b", "a/..", "%2e%2e", "a@1", "", "a\n", "a" * 65])
def test_an_invalid_name_is_refused_everywhere(served: Any, name: str) -> None:
    bodies = [(path, {**body, "name": name}) for method, path, body in WRITES.values() if method == "POST" and body]

    assert {error_of(served.ask("POST", path, "boss", json=body)) for path, body in bodies} == {
        (422, "RegistryError")
    } or not name
    for path in (f"{API}/versions", f"{API}/history"):
        assert error_of(served.ask("GET", path, "reader", params={"name": name})) == (422, "RegistryError")


@pytest.mark.parametrize("path", ["../../tokens.json", "..%2f..%2f..%2ftokens.json", "%2fetc%2fpasswd", "nothing.json"])
def test_a_file_outside_the_version_is_not_found(served: Any, make_adapter: MakeAdapter, path: str) -> None:
    version = served.registry.publish(make_adapter(1))

    answer = served.ask("GET", f"{API}/files/{version.digest}/{path}", "reader")

    assert answer.status_code == 404
    assert "sha256" not in json.loads(answer.text)


def test_a_file_is_sent_completely_in_part_or_not_modified(served: Any, make_adapter: MakeAdapter) -> None:
    version = served.registry.publish(make_adapter(1))
    content = (version.path / "adapter_config.json").read_bytes()
    address = f"{API}/files/{version.digest}/adapter_config.json"
    etag = f'"{hashlib.sha256(content).hexdigest()}"'

    def ask(**headers: str) -> httpx2.Response:
        return served.ask("GET", address, "reader", headers={key.replace("_", "-"): value for key, value in headers.items()})

    assert (ask().content, ask().headers["etag"]) == (content, etag)
    assert ask().headers["content-disposition"].startswith("attachment")
    assert (ask(Range="bytes=5-").content, ask(Range="bytes=5-").status_code) == (content[5:], 206)
    assert ask(Range="bytes=5-9", If_Range=etag).content == content[5:10]
    assert ask(Range="bytes=5-", If_Range='"other"').content == content
    assert ask(Range=f"bytes={len(content)}-").status_code == 416
    assert (ask(If_None_Match=etag).status_code, ask(If_None_Match=etag).content) == (304, b"")
    for odd in ("bytes=9-5", "bytes=-5", "bytes=0-1,4-5", "lines=1-2", "bytes=x", "bytes=" + "9" * 5000):
        assert (ask(Range=odd).status_code, ask(Range=odd).content) == (200, content)


def test_a_client_above_its_rate_gets_429_and_others_are_served(server: Any) -> None:
    app, served = server.app(Limits(rate=0.1, burst=3))
    with serving(app) as served.address:
        answers = [served.ask("GET", READS[0], "reader") for _ in range(5)]
        assert [a.status_code for a in answers] == [200, 200, 200, 429, 429]
        assert answers[-1].headers["retry-after"] == "10"
        assert served.ask("GET", READS[0], "boss").status_code == 200
        assert [served.ask("GET", READS[0]).status_code for _ in range(4)] == [401, 401, 401, 429]  # by the address


def test_the_log_names_the_client_and_contains_no_secret(server: Any, make_adapter: MakeAdapter, tmp_path: Path) -> None:
    app, served = server.app()
    file = tmp_path / "requests.jsonl"
    write = open_log(file)
    secret = served.secrets["boss"]
    with serving(app) as served.address:
        served.registry.publish(make_adapter(1))
        served.ask("POST", f"{API}/tags", "boss", json={"name": "medical/triage", "version": 1, "tags": {"k": "body-text"}})
        served.ask("GET", f"{API}/names?prefix={secret}", "boss")
        served.ask("GET", f"/{secret}%0A", "boss", headers={"X-Other": "header-text"})
        served.ask("GET", f"{API}/names", headers={"Authorization": f"Bearer {secret}x"})
    for line in served.log:
        write(line)

    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(x["method"], x["status"], x["token"]) for x in lines] == [
        ("POST", 200, "boss"), ("GET", 200, "boss"), ("GET", 404, "boss"), ("GET", 401, None)
    ]  # fmt: skip
    assert lines[0]["path"] == f"{API}/tags"
    assert lines[0]["bytes"] > 0
    assert set(lines[0]) == {"time", "method", "path", "status", "ms", "token", "address", "bytes"}
    for hidden in (secret, hashlib.sha256(secret.encode()).hexdigest(), "body-text", "header-text", "prefix"):
        assert hidden not in file.read_text()


def test_an_unexpected_error_is_a_plain_500_with_a_trace_in_the_log(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    app, served = server.app()
    monkeypatch.setattr(served.registry.store.index, "path", None)  # breaks it
    with serving(app) as served.address:
        answer = served.ask("GET", f"{API}/history?name=a", "reader")

    assert error_of(answer) == (500, "RunError")
    assert "Traceback" not in answer.text
    assert "AttributeError" not in answer.text
    assert "AttributeError" in served.log[-1]["trace"]


def test_no_error_contains_a_path_of_the_server(
    served: Any, make_adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.registry.publish(make_adapter(1))
    damaged = served.registry.publish(make_adapter(2, name="legal/clause"))
    (damaged.path / "adapter_config.json").chmod(0o644)
    (damaged.path / "adapter_config.json").unlink()
    tags = {"version": 1, "tags": {}}

    answers = [
        publish_damaged(served, make_adapter(3), "extra.txt", "not in the card"),
        publish_damaged(served, make_adapter(4), "adapter_config.json", "{}"),
        publish_damaged(served, make_adapter(5), "adapter_model.safetensors", "no tensors"),
        publish_damaged(served, make_adapter(6), "vertical.json", "{}"),
        served.ask("POST", f"{API}/publish", "publisher", json=upload(served, make_adapter(7, verdict=FAILED))),
        served.ask("GET", f"{API}/manifests/{DIGEST}", "reader"),
        served.ask("GET", f"{API}/files/{DIGEST}/x", "reader"),
        served.ask("GET", f"{API}/files/{damaged.digest}/adapter_config.json", "reader"),
        served.ask("POST", f"{API}/tags", "boss", json={"name": "none", **tags}),
        served.ask("POST", f"{API}/tags", "boss", json={"name": "medical/triage", **tags, "version": 9}),
        served.ask("POST", f"{API}/aliases", "boss", json={"name": "none", "alias": "production", "version": 1}),
        served.ask("POST", f"{API}/aliases", "boss", json={"name": "none", "alias": "production", "version": None}),
        served.ask("POST", f"{API}/revocations", "boss", json={"name": "none", "version": 1, "reason": "x"}),
        served.ask("POST", f"{API}/signatures", "boss", json={**WRITES["sign"][2], "name": "none"}),
        *(served.ask("GET", page, "reader") for page in ("/a/none", "/a/legal/clause@1", "/log/none", "/?q=none@1")),
    ]
    monkeypatch.setattr("vertical_sdk.server.registry_files.uploads._link", fail_with(errno.ENOSPC))
    answers.append(served.ask("POST", f"{API}/publish", "publisher", json=upload(served, make_adapter(8))))
    damaged_index = Path(served.registry.location) / "damaged.sqlite"
    damaged_index.write_bytes(b"not an index" * 100)
    monkeypatch.setattr(served.registry.store, "index", Index(damaged_index))
    answers += [served.ask("GET", path, "reader") for path in (*READS, "/", "/a/medical/triage@1")]
    served.tokens.path.write_text("{}")
    answers.append(served.ask("GET", READS[0], "reader"))
    served.tokens.path.chmod(0o644)
    answers.append(served.ask("GET", READS[0], "reader"))

    messages = [
        answer.json()["error"]["message"]
        for answer in answers
        if answer.status_code >= 400 and "json" in answer.headers["content-type"]
    ]
    assert "extra.txt is not listed" in messages[0]
    assert {answer.status_code for answer in answers} == {200, 404, 409, 422, 503, 507}
    place = str(Path(served.registry.location).parent)
    assert [answer.url for answer in answers if place in answer.text or "uploads/" in answer.text] == []


def publish_damaged(served: Any, folder: Path, file: str, content: str) -> httpx2.Response:
    (folder / file).write_text(content)
    answer: httpx2.Response = served.ask("POST", f"{API}/publish", "publisher", json=upload(served, folder))
    return answer


def fail_with(number: int) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_only_valid_signatures_are_stored(served: Any, make_adapter: MakeAdapter, tmp_path: Path) -> None:
    served.registry.publish(make_adapter(1))
    other = Registry(tmp_path / "other")
    other.publish(make_adapter(1, folder=tmp_path / "again"))
    made_by = sign_with_new_key(other, "medical/triage@1", tmp_path / "ada")
    text = other.resolve("medical/triage@1").signatures[made_by]

    def sign(fingerprint: str, signature: str) -> int:
        body = {"name": "medical/triage", "version": 1, "fingerprint": fingerprint, "signature": signature}
        return int(served.ask("POST", f"{API}/signatures", "publisher", json=body).status_code)

    assert [sign(made_by, "x"), sign(DIGEST, text), sign(made_by, text), sign(made_by, text)] == [422, 422, 200, 200]
    assert served.registry.resolve("medical/triage@1", check=False).signatures == {made_by: text}
    refused = served.ask(
        "POST", f"{API}/tags", "boss", json={"name": "medical/triage", "version": 1, "tags": {"vertical.revoked": "x"}}
    )
    assert error_of(refused) == (422, "RegistryError")


def test_uploads_that_wait_too_long_are_removed(server: Any) -> None:
    app, served = server.app()
    content = b"x"
    with serving(app) as served.address:
        served.ask("PUT", f"{API}/uploads/{DIGEST}/{hashlib.sha256(content).hexdigest()}", "publisher", content=content)
        (kept,) = [p for p in (server.folder / "uploads").rglob("*") if p.is_file()]
        assert served.ask("POST", f"{API}/gc", "boss").json() == {"bytes": 0}
        assert kept.exists()
        os.utime(kept, (0, 0))
        assert served.ask("POST", f"{API}/gc", "boss").status_code == 200

    assert not kept.exists()
    assert Registry(served.registry.location).verify() == []
