"""The routes of served specialists, asked over HTTP by OpenAI's own client and by a plain one."""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import numpy as np
import openai
import pytest
from conftest import topic_rows
from servers.http_server import serving as serving_http
from serving.conftest import LETTERS, NOTES, RISK, TAGS, TOPICS, Published, start

from vertical_sdk.errors import IdleAdapter
from vertical_sdk.server.model_app import create_model_app
from vertical_sdk.server.model_routes.counters import Metrics
from vertical_sdk.server.security.tokens import Tokens
from vertical_sdk.server.settings import Limits, ServerSettings

TEXTS = [text for text, _ in topic_rows(6, seed=5)]
ONE, TWO = f"{TOPICS}@1", f"{TOPICS}@2"


class Client:
    """A plain client with a token, and OpenAI's."""

    def __init__(self, address: str, secrets: dict[str, str], log: list[dict[str, Any]]) -> None:
        self.address, self.secrets, self.log = address, secrets, log
        self.plain = httpx2.Client(base_url=address, verify=False, timeout=60)
        self.openai = openai.OpenAI(base_url=f"{address}/v1", api_key=secrets["app"], max_retries=0)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.plain.close()
        self.openai.close()

    def ask(self, method: str, path: str, body: Any = None, who: str | None = "app", **more: Any) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {self.secrets[who]}"} if who else {}
        content = more.pop("content", None)
        if content is None and body is not None:
            content, headers = json.dumps(body), headers | {"Content-Type": "application/json"}
        return self.plain.request(method, path, content=content, headers=headers | more.pop("headers", {}), **more)

    def post(self, path: str, body: Any, who: str | None = "app") -> Any:
        answer = self.ask("POST", path, body, who)
        assert answer.status_code == 200, answer.text
        return answer.json()


def build(what: Published, folder: Path, *references: str, server: dict[str, Any] | None = None, **settings: Any) -> Any:
    """An application with its service, tokens and log."""
    tokens = Tokens(folder / "tokens.json")
    secrets = {"app": tokens.add("app", ["infer"]), "boss": tokens.add("boss", ["admin"]), "ci": tokens.add("ci", ["publish"])}
    serving, log = start(what, *references, **settings), []
    chosen = ServerSettings(**{"limits": Limits(body=16 << 20, rate=1e6, burst=10**6), **(server or {})})
    app = create_model_app(serving, tokens, chosen, metrics=Metrics(), log=log.append)
    return app, serving, secrets, log


@pytest.fixture(scope="module")
def client(published: Published, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("tokens")
    app, serving, secrets, log = build(published, folder, ONE, TWO, RISK, TAGS, NOTES, LETTERS)
    with serving_http(app) as address, Client(address, secrets, log) as client:
        yield client
    serving.close()


def test_classify_answers_what_predict_answers_and_says_who_answered(client: Client, published: Published) -> None:
    alone = published.model(TWO).predict(TEXTS)
    version = published.registry.resolve(TWO)

    answer = client.ask("POST", "/classify", {"model": TWO, "input": TEXTS})

    body = answer.json()
    assert set(body) == {"id", "object", "created", "model", "data", "usage", "vertical"}
    assert (body["object"], body["model"], body["usage"]["completion_tokens"]) == ("list", TWO, 0)
    assert body["usage"]["prompt_tokens"] == sum(len(text.split()) + 2 for text in TEXTS)  # a token a word, [CLS] and [SEP]
    labels = body["vertical"]["labels"]
    for row, prediction in zip(body["data"], alone, strict=True):
        assert row["label"] == prediction.label
        assert row["probs"] == pytest.approx([prediction.probabilities[label] for label in labels], abs=1e-5)
        assert row["num_classes"] == 3
        assert row["confidence"] == pytest.approx(prediction.confidence, abs=1e-5)
        assert (row["unknown"], row["abstained"]) == (prediction.unknown, None)
    expected = {
        "adapter": TOPICS,
        "version": 2,
        "digest": f"sha256:{version.digest}",
        "base": version.card.base.weights,
        "gate": "ungated",
    }
    assert {key: body["vertical"][key] for key in expected} == expected
    assert {key: answer.headers[f"x-vertical-{key}"] for key in expected} == {k: str(v) for k, v in expected.items()}


def test_classify_reads_records_and_names_several_labels(client: Client, published: Published) -> None:
    records = [{"debt": 3, "ward": "heart"}, {"debt": None, "ward": "lung"}]
    rows = client.post("/classify", {"model": RISK, "input": records})["data"]
    assert [row["label"] for row in rows] == [one.label for one in published.model(RISK).predict(records)]
    assert client.post("/classify", {"model": RISK, "input": records[0]})["data"][0]["probs"] == pytest.approx(rows[0]["probs"])

    tags = client.post("/classify", {"model": TAGS, "input": TEXTS})["data"]
    assert [row["label"] for row in tags] == [list(one.label) for one in published.model(TAGS).predict(TEXTS)]  # type: ignore[arg-type]
    assert {row["confidence"] for row in tags} == {None}


def test_models_are_listed_with_root_and_parent(client: Client, published: Published) -> None:
    models = {model.id: model for model in client.openai.models.list()}

    assert list(models) == ["encoder0", "causal0", ONE, TWO, RISK, TAGS, NOTES, LETTERS]
    own: Any = models[TWO]
    version = published.registry.resolve(TWO)
    assert (own.object, own.owned_by, own.parent, own.root) == (
        "model", "vertical", "encoder0", f"{TOPICS}@sha256:{version.digest}",
    )  # fmt: skip
    assert abs(own.created - time.time()) < 3600
    assert (models["encoder0"].root, models["encoder0"].parent) == ("encoder0", None)  # type: ignore[attr-defined]
    assert client.openai.models.retrieve(TWO).id == TWO
    with pytest.raises(openai.NotFoundError):
        client.openai.models.retrieve("care/none")


def test_chat_answers_and_streams_what_generate_writes(client: Client, published: Published) -> None:
    from vertical_sdk.types import Message

    turns = [{"role": "user", "content": "cough and fever"}]
    alone = published.model(NOTES).generate([[Message("user", "cough and fever")]], max_new_tokens=10)[0]
    asked: Any = {"model": NOTES, "messages": turns, "max_completion_tokens": 10}

    answer = client.openai.chat.completions.create(**asked)
    with client.openai.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}) as stream:
        chunks = list(stream)

    choice = answer.choices[0]
    assert (choice.message.content, choice.finish_reason, choice.message.role) == (alone.text, alone.finish_reason, "assistant")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (alone.prompt_tokens, alone.new_tokens)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == alone.text
    assert (chunks[0].choices[0].delta.role, chunks[-2].choices[0].finish_reason) == ("assistant", alone.finish_reason)
    assert chunks[-1].usage == answer.usage
    assert chunks[-1].choices == []
    digest = published.registry.resolve(NOTES).digest
    assert {chunk.system_fingerprint for chunk in chunks} == {answer.system_fingerprint}
    assert answer.system_fingerprint is not None
    assert digest[:12] in answer.system_fingerprint


def test_a_stream_is_server_sent_events_that_end_with_done(client: Client) -> None:
    body = {"model": NOTES, "messages": [{"role": "user", "content": "cough"}], "max_tokens": 5, "stream": True}
    answer = client.ask("POST", "/v1/chat/completions", body)

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-vertical-adapter"] == NOTES
    events = answer.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert all(json.loads(event.removeprefix("data: "))["object"] == "chat.completion.chunk" for event in events[:-2])


def test_sampling_parameters_mean_what_they_mean_in_generate(client: Client, published: Published) -> None:
    model = published.model(LETTERS)
    options: Any = {"temperature": 1.5, "top_p": 0.9}
    alone = [model.generate(["cough"], max_new_tokens=8, seed=seed, **options)[0].text for seed in (7, 8, 9)]
    assert len(set(alone)) > 1

    asked: Any = {"model": LETTERS, "prompt": "cough", "max_tokens": 8, "seed": 7, "n": 3, **options}
    answer = client.openai.completions.create(**asked)
    streamed: dict[int, str] = {0: "", 1: "", 2: ""}
    for chunk in client.openai.completions.create(**asked, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].text

    assert [choice.text for choice in answer.choices] == alone
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert list(streamed.values()) == alone
    text = model.generate(["cough"], max_new_tokens=20)[0].text
    stop = text[2:4]
    stopped = client.openai.completions.create(model=LETTERS, prompt="cough", max_tokens=20, stop=[stop])
    assert stopped.choices[0].text == model.generate(["cough"], max_new_tokens=20, stop=[stop])[0].text
    assert stopped.choices[0].finish_reason == "stop"


def test_several_prompts_are_answered_in_order(client: Client, published: Published) -> None:
    answer = client.openai.completions.create(model=NOTES, prompt=TEXTS[:3], max_tokens=6, n=2)

    alone = [one.text for one in published.model(NOTES).generate(TEXTS[:3], max_new_tokens=6)]
    assert [choice.text for choice in answer.choices] == [text for text in alone for _ in range(2)]


def test_an_answer_follows_a_json_schema(client: Client) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"], "additionalProperties": False}
    form: Any = {"type": "json_schema", "json_schema": {"name": "one", "schema": schema, "strict": True}}
    answer = client.openai.chat.completions.create(
        model=NOTES, messages=[{"role": "user", "content": "cough"}], response_format=form, max_tokens=200
    )

    assert json.loads(answer.choices[0].message.content or "")["a"] in {"x", "y"}


def test_a_base_answers_under_its_own_name(client: Client) -> None:
    answer = client.openai.chat.completions.create(model="causal0", messages=[{"role": "user", "content": "hi"}], max_tokens=4)
    own: Any = answer
    assert own.vertical["adapter"] is None
    assert len(own.vertical["base"]) == 64
    raw = client.ask("POST", "/v1/embeddings", {"model": "encoder0", "input": "cough"})
    assert "x-vertical-adapter" not in raw.headers
    assert raw.headers["x-vertical-base"]


def test_embeddings_are_the_same_as_numbers_and_in_base64(client: Client) -> None:
    numbers = client.post("/v1/embeddings", {"model": "encoder0", "input": TEXTS[:2], "encoding_format": "float"})
    coded = client.openai.embeddings.create(model="encoder0", input=TEXTS[:2])  # the client asks for base64

    for row, expected in zip(coded.data, numbers["data"], strict=True):
        np.testing.assert_allclose(row.embedding, expected["embedding"], atol=1e-6)
        assert np.linalg.norm(row.embedding) == pytest.approx(1, abs=1e-5)
    assert coded.usage.prompt_tokens == numbers["usage"]["prompt_tokens"] == sum(len(t.split()) + 2 for t in TEXTS[:2])
    other = client.post("/v1/embeddings", {"model": ONE, "input": TEXTS[:1]})["data"][0]["embedding"]
    assert np.abs(np.array(other) - numbers["data"][0]["embedding"]).max() > 1e-3


def test_moderations_flag_what_the_specialist_chooses(client: Client, published: Published) -> None:
    alone = published.model(TAGS).predict(TEXTS)
    answer = client.openai.moderations.create(model=TAGS, input=TEXTS)

    for result, prediction in zip(answer.results, alone, strict=True):
        categories: Any = result.categories.model_dump()
        chosen = {label for label in prediction.probabilities if categories[label]}
        assert chosen == set(prediction.label)  # type: ignore[arg-type]
        assert result.flagged == bool(prediction.label)
    flagged = client.openai.moderations.create(model=ONE, input=TEXTS, extra_body={"flag": ["skin"]})
    assert [r.flagged for r in flagged.results] == [one.label == "skin" for one in published.model(ONE).predict(TEXTS)]


def test_tokens_are_those_of_the_base(client: Client) -> None:
    tokens = client.post("/tokenize", {"model": ONE, "prompt": "red rash", "return_token_strs": True})
    assert (tokens["count"], tokens["token_strs"]) == (4, ["[CLS]", "red", "rash", "[SEP]"])
    assert client.post("/tokenize", {"model": ONE, "prompt": "red rash", "add_special_tokens": False})["count"] == 2
    turns = client.post("/tokenize", {"model": "causal0", "messages": [{"role": "user", "content": "hi"}]})
    assert turns["count"] == len("hi") + 3  # a token a byte, <|user|>, <|end|>, <|assistant|>


def test_health_and_metrics_tell_what_happens(client: Client, published: Published) -> None:
    assert client.ask("GET", "/health", who=None).json() == {"ok": True}
    assert client.ask("GET", "/ready", who=None).json() == {"ok": True, "specialists": 6, "problems": 0}
    client.post("/classify", {"model": ONE, "input": TEXTS})
    text = client.ask("GET", "/metrics").text
    digest = published.registry.resolve(ONE).digest

    assert f'vertical_served{{adapter="{TOPICS}",digest="{digest}",reference="{ONE}",version="1"}} 1.0' in text
    assert f'vertical_requests_total{{adapter="{TOPICS}",digest="{digest}",endpoint="/classify",outcome="ok"}}' in text
    assert "vertical_waiting_requests 0.0" in text
    assert TEXTS[0] not in text


def test_the_log_has_no_texts(client: Client) -> None:
    client.post("/classify", {"model": ONE, "input": "rash rash rash"})

    line = client.log[-1]
    assert (line["token"], line["path"], line["status"]) == ("app", "/classify", 200)
    assert "rash" not in json.dumps(client.log)


def test_tokens_and_scopes_decide_who_may_ask_and_who_may_change(client: Client) -> None:
    ask: Any = ("POST", "/classify", {"model": ONE, "input": "rash"})
    change: Any = ("POST", "/v1/admin/adapters", {"reference": ONE})
    may = {
        who: (client.ask(*ask, who).status_code, client.ask(*change, who).status_code) for who in ("app", "boss", "ci", None)
    }

    assert may == {"app": (200, 403), "boss": (200, 200), "ci": (403, 403), None: (401, 401)}
    wrong = openai.OpenAI(base_url=f"{client.address}/v1", api_key="vertical_wrong", max_retries=0)
    with wrong, pytest.raises(openai.AuthenticationError):
        wrong.models.list()


def test_an_anonymous_server_answers_clients_that_always_send_a_key(published: Published, tmp_path: Path) -> None:
    app, serving, secrets, log = build(published, tmp_path, ONE, server={"anonymous": True})
    with serving_http(app) as address, Client(address, secrets, log) as client:
        with openai.OpenAI(base_url=f"{address}/v1", api_key="EMPTY", max_retries=0) as one:
            assert len(one.models.list().data) == 2
        assert client.ask("POST", "/classify", {"model": ONE, "input": "rash"}, None).status_code == 200
        assert client.ask("GET", "/v1/admin/adapters", who=None).status_code == 401
    serving.close()


def test_an_admin_loads_pins_lists_and_unloads_by_reference(published: Published, tmp_path: Path) -> None:
    app, serving, secrets, log = build(published, tmp_path, ONE)
    with serving_http(app) as address, Client(address, secrets, log) as client:
        loaded = client.post("/v1/admin/adapters", {"reference": TWO, "pinned": True}, "boss")
        assert (loaded["vertical"]["version"], loaded["pinned"], loaded["task"]) == (2, True, "classification")
        assert client.post("/classify", {"model": TWO, "input": "rash"})["vertical"]["version"] == 2
        listed = client.ask("GET", "/v1/admin/adapters", who="boss").json()["data"]
        assert [(one["reference"], one["pinned"]) for one in listed] == [(ONE, False), (TWO, True)]
        for wrong in ("care/none", "../x", "/etc/passwd", "https://x/y", str(tmp_path), "./care"):
            answer = client.ask("POST", "/v1/admin/adapters", {"reference": wrong}, "boss")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "reference_not_found"), wrong
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(serving._engines, "open", _fail)
            failed = client.ask("POST", "/v1/admin/adapters", {"reference": RISK}, "boss")
        assert (failed.status_code, failed.json()["error"]["code"]) == (422, "adapter_failed")
        assert client.ask("DELETE", f"/v1/admin/adapters/{TWO}", who="boss").json() == {"reference": TWO, "unloaded": True}
        assert client.ask("POST", "/classify", {"model": TWO, "input": "rash"}).status_code == 404
        assert client.ask("DELETE", f"/v1/admin/adapters/{TWO}", who="boss").status_code == 404
    serving.close()


def test_a_full_queue_is_429_with_retry_after(published: Published, tmp_path: Path) -> None:
    app, serving, secrets, log = build(published, tmp_path, ONE, waiting=2)
    hold, held = threading.Event(), threading.Event()
    with serving_http(app) as address, Client(address, secrets, log) as client:
        answers: list[httpx2.Response] = []

        def ask() -> None:
            with Client(address, secrets, log) as own:
                answers.append(own.ask("POST", "/classify", {"model": ONE, "input": "rash"}))

        _block(serving, hold, held)
        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        _until(lambda: len(serving._find_batcher(serving.specialists.find(ONE).engine)) == 2)
        refused = client.ask("POST", "/classify", {"model": ONE, "input": "rash"})
        hold.set()
        for thread in threads:
            thread.join(30)
    serving.close()

    assert (refused.status_code, refused.headers["retry-after"], refused.json()["error"]["code"]) == (429, "1", "queue_full")
    assert [answer.status_code for answer in answers] == [200, 200]


def test_a_request_that_takes_too_long_is_given_up(published: Published, tmp_path: Path) -> None:
    app, serving, secrets, log = build(published, tmp_path, ONE, timeout=0.3)
    hold, held = threading.Event(), threading.Event()
    with serving_http(app) as address, Client(address, secrets, log) as client:
        _block(serving, hold, held)
        answer = client.ask("POST", "/classify", {"model": ONE, "input": "rash"})
        hold.set()
    serving.close()

    assert (answer.status_code, answer.json()["error"]["type"]) == (504, "server_error")


def test_a_client_that_goes_away_is_not_answered(published: Published, tmp_path: Path) -> None:
    app, serving, secrets, _ = build(published, tmp_path, NOTES, ONE)
    hold, held = threading.Event(), threading.Event()
    stream = {"model": NOTES, "messages": [{"role": "user", "content": "a"}], "max_tokens": 200, "stream": True,
              "temperature": 2.0, "seed": 1}  # fmt: skip
    with serving_http(app) as address:
        with _send(address, secrets, "/v1/chat/completions", stream) as connection:
            assert b"200 OK" in connection.recv(4000)
        _until(lambda: not serving.specialists.find(NOTES).in_use)
        _block(serving, hold, held)
        with _send(address, secrets, "/classify", {"model": ONE, "input": "rash"}):
            batcher = serving._find_batcher(serving.specialists.find(ONE).engine)
            _until(lambda: len(batcher) == 1)
        _until(lambda: batcher._jobs[0].future.cancelled())
        hold.set()
        _until(lambda: not serving.specialists.find(ONE).in_use)
    serving.close()


def test_a_server_that_ends_answers_what_it_has_started(published: Published, tmp_path: Path) -> None:
    app, serving, secrets, log = build(published, tmp_path, ONE)
    hold, held = threading.Event(), threading.Event()
    answers: list[httpx2.Response] = []

    def ask(address: str) -> None:
        with Client(address, secrets, log) as client:
            answers.append(client.ask("POST", "/classify", {"model": ONE, "input": "rash"}))

    with serving_http(app) as address:
        _block(serving, hold, held)
        thread = threading.Thread(target=ask, args=[address])
        thread.start()
        _until(lambda: len(serving._find_batcher(serving.specialists.find(ONE).engine)) == 1)
        threading.Timer(0.3, hold.set).start()
    thread.join(30)
    serving.close()

    assert [answer.status_code for answer in answers] == [200]


def test_clients_of_two_adapters_get_their_own_answers_while_an_alias_moves(own: Published, tmp_path: Path) -> None:
    alone = {n: [one.label for one in own.model(f"{TOPICS}@{n}").predict(TEXTS)] for n in (1, 2)}
    assert all(one != two for one, two in zip(alone[1], alone[2], strict=True))
    moving = f"{TOPICS}@production"
    app, serving, secrets, log = build(own, tmp_path, moving, ONE, TWO, poll=0.05)
    problems: list[Any] = []
    seen: set[int] = set()

    def ask(name: str) -> None:
        with Client(address, secrets, log) as client:
            for number in range(40):
                text = number % len(TEXTS)
                answer = client.ask("POST", "/classify", {"model": name, "input": TEXTS[text]}).json()
                version = answer.get("vertical", {}).get("version")
                if name == moving:
                    seen.add(version)
                elif version != int(name[-1]):
                    problems.append(answer)
                if answer["data"][0]["label"] != alone[version][text]:
                    problems.append(answer)

    with serving_http(app) as address:
        threads = [threading.Thread(target=ask, args=[name]) for name in (ONE, TWO, moving, moving)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            for version in (2, 1):
                own.registry.set_alias(TOPICS, "production", version, force=True, why="test")
                time.sleep(0.15)
    serving.close()

    assert problems == []
    assert seen == {1, 2}
    assert {line["status"] for line in log} == {200}


def test_a_stream_of_a_version_that_is_revoked_is_cut_with_an_error(published: Published, tmp_path: Path) -> None:
    def read_and_revoke(stream: Any, served: Any) -> None:
        for _ in stream:
            served.revoked = "leaks names"

    app, serving, secrets, log = build(published, tmp_path, NOTES)
    turns: Any = [{"role": "user", "content": "cough"}]
    with serving_http(app) as address, Client(address, secrets, log) as client:
        stream = client.openai.chat.completions.create(
            model=NOTES,
            messages=turns,
            stream=True,
            max_tokens=2000,
            temperature=2.0,
            seed=1,
            extra_body={"repetition_penalty": 9.0},
        )
        served = serving.specialists.find(NOTES)
        with stream, pytest.raises(openai.APIError, match="leaks names"):
            read_and_revoke(stream, served)
    serving.close()


def test_pictures_are_read_from_base64_and_never_from_paths(published: Published, tmp_path: Path) -> None:
    from PIL import Image

    from vertical_sdk.errors import DataError
    from vertical_sdk.server.model_routes.inputs import list_inputs

    file = tmp_path / "a.png"
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    Image.fromarray(pixels).save(file)
    served: Any = type("S", (), {})()
    served.adapter = type("A", (), {"recipe": type("R", (), {"data": type("D", (), {"modality": "image"})()})()})()
    code = base64.b64encode(file.read_bytes()).decode()

    for given in (code, f"data:image/png;base64,{code}", [code]):
        np.testing.assert_array_equal(list_inputs(served, given)[0], pixels)
    large = io.BytesIO()
    Image.new("1", (5000, 5000)).save(large, "PNG")
    for wrong, message in (
        (str(file), "not a picture in base64"),
        ("QUJD", "cannot be read as a PNG or JPEG"),
        (code[: len(code) // 2 // 4 * 4], "cannot be read as a PNG or JPEG"),
        (base64.b64encode(large.getvalue()).decode(), "at most 16777216 are read"),
        (3, "not a text"),
    ):
        with pytest.raises(DataError, match=message):
            list_inputs(served, [wrong])


def _fail(*_: Any) -> None:
    raise IdleAdapter("its outputs are others")


def _block(serving: Any, hold: threading.Event, held: threading.Event) -> None:
    """Let the worker of the first specialist's engine wait until `hold` is set."""
    from vertical_sdk.serving.batching import Job

    served = serving.specialists.find(ONE)

    def compute(jobs: Any) -> list[None]:
        held.set()
        hold.wait(30)
        return [None] * len(jobs)

    serving._find_batcher(served.engine).submit(Job(served, compute, None, 0, time.monotonic() + 60))
    held.wait(30)


def _until(condition: Any) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def _send(address: str, secrets: dict[str, str], path: str, body: Any) -> socket.socket:
    """Send a request and read nothing yet."""
    parts, content = urlsplit(address), json.dumps(body).encode()
    connection = socket.create_connection((str(parts.hostname), parts.port or 0), timeout=30)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secrets['app']}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    connection.sendall(head.encode() + content)
    return connection
