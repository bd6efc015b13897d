"""Bad requests to served specialists: each is a 4xx in OpenAI's shape, and the server goes on."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from server.test_model_api import LETTERS, NOTES, ONE, RISK, TAGS, Client, build
from servers.http_server import serving as serving_http
from serving.conftest import Published

CHAT, COMPLETIONS, CLASSIFY = "/v1/chat/completions", "/v1/completions", "/classify"
EMBED, MODERATE, FORECAST, TOKENIZE = "/v1/embeddings", "/v1/moderations", "/v1/forecast", "/tokenize"
HELLO = [{"role": "user", "content": "hello"}]
NO_SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "unknown"}}}
DEEP: Any = json.loads("[" * 500 + "]" * 500)


def chat(**keys: Any) -> dict[str, Any]:
    return {"model": NOTES, "messages": HELLO, **keys}


BAD: list[tuple[str, Any, int, str | None, str | None]] = [
    # path, body, status, the parameter and the code that the answer names (None: not compared)
    (CHAT, {}, 400, "model", "missing_required_parameter"),
    (CHAT, [], 400, None, "invalid_value"),
    (CHAT, None, 400, None, None),
    (CHAT, {"model": NOTES}, 400, "messages", "missing_required_parameter"),
    (CHAT, chat(model="care/none"), 404, "model", "model_not_found"),
    (CHAT, chat(model="auto"), 400, "model", "unsupported_model"),
    (CHAT, chat(model="../../etc/passwd"), 404, "model", "model_not_found"),
    (CHAT, chat(model="https://evil.example/adapter"), 404, "model", "model_not_found"),
    (CHAT, chat(model=""), 404, "model", "model_not_found"),
    (CHAT, chat(model=3), 400, "model", "invalid_value"),
    (CHAT, chat(model="x" * 301), 400, "model", "invalid_value"),
    (CHAT, chat(model=ONE), 400, "model", "unsupported_model"),
    (CHAT, chat(model="encoder0"), 400, "model", "unsupported_model"),
    (CHAT, chat(messages=[]), 400, "messages", "invalid_value"),
    (CHAT, chat(messages="hello"), 400, "messages", "invalid_value"),
    (CHAT, chat(messages=[{"role": "tool", "content": "x"}]), 400, "messages.0.role", "invalid_value"),
    (CHAT, chat(messages=[{"role": "user"}]), 400, "messages.0.content", "missing_required_parameter"),
    (CHAT, chat(messages=[{"role": "user", "content": ""}]), 400, None, "invalid_value"),
    (CHAT, chat(messages=[*HELLO, {"role": "assistant", "content": "x"}]), 400, None, "invalid_value"),
    (CHAT, chat(messages=[{"role": "user", "content": "x", "tool_calls": []}]), 400, "messages.0.tool_calls", "unknown_parameter"),
    (CHAT, chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]), 400, None, None),
    (CHAT, chat(messages=[{"role": "user", "content": "\ud800"}]), 400, None, "invalid_value"),
    (CHAT, chat(messages=[{"role": "user", "content": "x" * 5000}]), 400, None, "invalid_value"),
    (CHAT, chat(temperature=-1), 400, "temperature", "invalid_value"),
    (CHAT, chat(temperature=3), 400, "temperature", "invalid_value"),
    (CHAT, chat(temperature="hot"), 400, "temperature", "invalid_value"),
    (CHAT, chat(temperature=float("nan")), 400, "temperature", "invalid_value"),
    (CHAT, chat(top_p=0), 400, "top_p", "invalid_value"),
    (CHAT, chat(top_k=0), 400, "top_k", "invalid_value"),
    (CHAT, chat(max_tokens=0), 400, "max_tokens", "invalid_value"),
    (CHAT, chat(max_tokens=1 << 70), 400, None, "invalid_value"),
    (CHAT, chat(max_completion_tokens=True), 400, "max_completion_tokens", "invalid_value"),
    (CHAT, chat(n=0), 400, "n", "invalid_value"),
    (CHAT, chat(n=1000), 400, "n", "invalid_value"),
    (CHAT, chat(seed=-1), 400, "seed", "invalid_value"),
    (CHAT, chat(stop=[""]), 400, None, "invalid_value"),
    (CHAT, chat(stop=["x"] * 17), 400, None, "invalid_value"),
    (CHAT, chat(logprobs=True), 400, "logprobs", "unsupported_parameter"),
    (CHAT, chat(top_logprobs=3), 400, "top_logprobs", "unsupported_parameter"),
    (CHAT, chat(frequency_penalty=0.5), 400, "frequency_penalty", "unsupported_parameter"),
    (CHAT, chat(presence_penalty=1), 400, "presence_penalty", "unsupported_parameter"),
    (CHAT, chat(logit_bias={"5": 10}), 400, "logit_bias", "unsupported_parameter"),
    (CHAT, chat(tools=[{"type": "function"}]), 400, "tools", "unsupported_parameter"),
    (CHAT, chat(store=True), 400, "store", "invalid_value"),
    (CHAT, chat(reasoning_effort="high"), 400, "reasoning_effort", "unknown_parameter"),
    (CHAT, chat(stream_options={"include_usage": True}), 400, "stream_options", "unsupported_parameter"),
    (CHAT, chat(response_format={"type": "json_schema"}), 400, "response_format", "unsupported_parameter"),
    (CHAT, chat(response_format={"type": "xml"}), 400, "response_format.type", "invalid_value"),
    (CHAT, chat(response_format=NO_SCHEMA), 400, None, "invalid_value"),
    (CHAT, chat(response_format={"type": "json_object"}, stop="x"), 400, None, "invalid_value"),
    (CHAT, chat(**{f"k{n}": n for n in range(1000)}), 400, None, None),
    (CHAT, chat(stream=True, messages=[{"role": "user", "content": "x" * 5000}]), 400, None, "invalid_value"),
    (COMPLETIONS, {"model": NOTES, "prompt": [1, 2, 3]}, 400, None, "invalid_value"),
    (COMPLETIONS, {"model": NOTES, "prompt": []}, 400, None, "invalid_value"),
    (COMPLETIONS, {"model": NOTES, "prompt": ["x"] * 65}, 400, None, "invalid_value"),
    (COMPLETIONS, {"model": NOTES, "prompt": "x", "echo": True}, 400, "echo", "unsupported_parameter"),
    (COMPLETIONS, {"model": NOTES, "prompt": "x", "suffix": "y"}, 400, "suffix", "unsupported_parameter"),
    (COMPLETIONS, {"model": NOTES, "prompt": "x", "best_of": 4}, 400, "best_of", "unsupported_parameter"),
    (COMPLETIONS, {"model": NOTES, "prompt": "x", "logprobs": 5}, 400, "logprobs", "unsupported_parameter"),
    (CLASSIFY, {"model": ONE}, 400, "input", "missing_required_parameter"),
    (CLASSIFY, {"model": ONE, "input": []}, 400, None, "invalid_value"),
    (CLASSIFY, {"model": ONE, "input": ""}, 400, None, "invalid_value"),
    (CLASSIFY, {"model": ONE, "input": [None]}, 400, None, "invalid_value"),
    (CLASSIFY, {"model": ONE, "input": ["rash", 3]}, 400, None, "invalid_value"),
    (CLASSIFY, {"model": ONE, "input": "\udc80"}, 400, None, "invalid_value"),
    (CLASSIFY, {"model": ONE, "input": {"text": "rash"}}, 400, None, "invalid_value"),
    (CLASSIFY, {"model": ONE, "input": DEEP}, 400, None, "invalid_value"),
    (CLASSIFY, {"model": ONE, "input": ["x"] * 1025}, 400, None, "invalid_value"),
    (CLASSIFY, {"model": ONE, "input": "x", "adapter_path": "/etc"}, 400, "adapter_path", "unknown_parameter"),
    (CLASSIFY, {"model": RISK, "input": "a text"}, 400, None, "invalid_value"),
    (CLASSIFY, {"model": RISK, "input": {"height": 3}}, 400, None, "invalid_value"),
    (CLASSIFY, {"model": RISK, "input": {"debt": {"a": 1}}}, 400, None, "invalid_value"),
    (CLASSIFY, {"model": RISK, "input": {"debt": 10**400}}, 400, None, "invalid_value"),
    (CLASSIFY, {"model": NOTES, "input": "x"}, 400, "model", "unsupported_model"),
    (CLASSIFY, {"model": "encoder0", "input": "x"}, 400, "model", "unsupported_model"),
    (EMBED, {"model": LETTERS, "input": "x"}, 400, "model", "unsupported_model"),
    (EMBED, {"model": "causal0", "input": "x"}, 400, "model", "unsupported_model"),
    (EMBED, {"model": "encoder0", "input": [[1, 2]]}, 400, None, "invalid_value"),
    (EMBED, {"model": "encoder0", "input": ""}, 400, None, "invalid_value"),
    (EMBED, {"model": "encoder0", "input": "x", "dimensions": 3}, 400, "dimensions", "unsupported_parameter"),
    (EMBED, {"model": "encoder0", "input": "x", "encoding_format": "hex"}, 400, "encoding_format", "invalid_value"),
    (MODERATE, {"model": ONE, "input": "x"}, 400, "flag", "unsupported_parameter"),
    (MODERATE, {"model": ONE, "input": "x", "flag": ["skim"]}, 400, "flag", "unsupported_parameter"),
    (MODERATE, {"model": NOTES, "input": "x"}, 400, "model", "unsupported_model"),
    (MODERATE, {"model": TAGS, "input": [{"type": "image_url"}]}, 400, None, "invalid_value"),
    (FORECAST, {"model": ONE, "history": {"a": [1.0]}}, 400, "model", "unsupported_model"),
    (FORECAST, {"model": ONE, "history": {}}, 400, "history", "invalid_value"),
    (FORECAST, {"model": ONE, "history": {"a": [1.0], "b": []}}, 400, None, "invalid_value"),
    (FORECAST, {"model": ONE, "history": {"a": [1.0]}, "times": ["yesterday"]}, 400, None, "invalid_value"),
    (TOKENIZE, {"model": ONE}, 400, "prompt", "unsupported_parameter"),
    (TOKENIZE, {"model": ONE, "messages": HELLO}, 400, "model", "unsupported_model"),
    ("/v1/nothing", {}, 404, None, "not_found"),
    ("/v1/load_lora_adapter", {"lora_name": "x", "lora_path": "/etc"}, 404, None, "not_found"),
]  # fmt: skip


@pytest.fixture(scope="module")
def client(published: Published, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    app, serving, secrets, log = build(
        published, tmp_path_factory.mktemp("tokens"), ONE, RISK, TAGS, NOTES, LETTERS, server={}, timeout=20.0
    )
    with serving_http(app) as address, Client(address, secrets, log) as client:
        yield client
    serving.close()


def check(answer: httpx2.Response, status: int, param: str | None = None, code: str | None = None) -> None:
    assert answer.status_code == status, answer.text[:500]
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert len(answer.content) < 10_000
    if param is not None:
        assert error["param"] == param
    if code is not None:
        assert error["code"] == code
    if status == 400:
        assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(("path", "body", "status", "param", "code"), BAD)
def test_a_bad_request_is_a_clear_error(
    client: Client, path: str, body: Any, status: int, param: str | None, code: str | None
) -> None:
    check(client.ask("POST", path, body), status, param, code)


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"{", {"Content-Type": "application/json"}, 400),
        (b"\xff\xfe", {"Content-Type": "application/json"}, 400),
        (b"[" * 100_000, {"Content-Type": "application/json"}, 400),
        (b'{"model": ' + b"9" * 5000 + b"}", {"Content-Type": "application/json"}, 400),
        (b"model=a", {"Content-Type": "application/x-www-form-urlencoded"}, 400),
        (b" " * ((16 << 20) + 1), {"Content-Type": "application/json"}, 413),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(client: Client, content: bytes, headers: dict[str, str], status: int) -> None:
    check(client.ask("POST", CLASSIFY, content=content, headers=headers), status)


def test_other_methods_paths_and_tokens_are_refused(client: Client) -> None:
    check(client.ask("GET", CLASSIFY), 405, code="method_not_allowed")
    check(client.ask("DELETE", "/v1/models/x"), 405)
    check(client.ask("GET", "/v1/models/care/none"), 404, "model", "model_not_found")
    check(client.ask("GET", f"/{'x' * 2000}"), 414)
    check(client.ask("POST", CLASSIFY, {"model": ONE, "input": "x"}, "ci"), 403, code="insufficient_permissions")
    check(client.ask("POST", CLASSIFY, {"model": ONE, "input": "x"}, None), 401, code="invalid_api_key")
    check(client.ask("GET", "/openapi.json", who=None), 401)
    check(client.ask("GET", "/metrics", who="ci"), 403)


def test_cut_and_slow_requests_hold_no_one(client: Client) -> None:
    parts = urlsplit(client.address)
    head = (
        f"POST {CLASSIFY} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {client.secrets['app']}\r\n"
        "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    )
    for _ in range(20):
        with socket.create_connection((str(parts.hostname), parts.port or 0), timeout=10) as connection:
            connection.sendall(head.encode())
    assert client.ask("POST", CLASSIFY, {"model": ONE, "input": "rash"}).status_code == 200


def test_the_server_answers_after_all_of_them(client: Client) -> None:
    assert client.post(CLASSIFY, {"model": ONE, "input": "rash"})["data"][0]["num_classes"] == 3
    assert client.ask("GET", "/ready", who=None).json()["ok"]
    assert not [line for line in client.log if line["status"] >= 500 or "trace" in line]
