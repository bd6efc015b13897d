"""The examples of docs/serving.md run as printed, against a server of tiny specialists."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from server.test_model_api import Client, build
from servers.http_server import serving as serving_http
from serving.conftest import NOTES, TOPICS, Published

from vertical_sdk.server.config import ServeConfig, read_config
from vertical_sdk.serving import ServingSettings

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
NAMES = {
    "medical/icd-chapter@production": f"{TOPICS}@1",
    "medical/icd-chapter": TOPICS,
    "medical/dialogue-note@production": NOTES,
    "smollm2-135m": "causal0",
    "minilm-l6": "encoder0",
}


@pytest.fixture(scope="module")
def client(published: Published, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    app, serving, secrets, log = build(published, tmp_path_factory.mktemp("tokens"), f"{TOPICS}@1", NOTES)
    with serving_http(app) as address, Client(address, secrets, log) as one:
        yield one
    serving.close()


def adapt(text: str, client: Client) -> str:
    """An example for this server: its address, and names that it has."""
    for name, own in NAMES.items():
        text = text.replace(name, own)
    return text.replace("http://127.0.0.1:8000", client.address)


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def test_the_curl_examples_answer(client: Client) -> None:
    calls = [line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines()]
    assert len(calls) == 6
    environment = {"PATH": "/usr/bin:/bin", "VERTICAL_TOKEN": client.secrets["app"], "VERTICAL_ADMIN": client.secrets["boss"]}

    answers = [
        json.loads(subprocess.run(["bash", "-c", adapt(call, client)], env=environment, capture_output=True, check=True).stdout)
        for call in calls
    ]

    assert [answer for answer in answers if "error" in answer] == []
    assert [row["num_classes"] for row in answers[0]["data"]] == [3, 3]
    assert answers[2]["ok"]
    assert answers[5] == {"reference": TOPICS, "unloaded": True}


def test_the_python_example_runs(client: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks("python")
    monkeypatch.setenv("VERTICAL_TOKEN", client.secrets["app"])
    values: dict[str, object] = {}

    exec(compile(adapt(code, client), "serving.md", "exec"), values)
    values["client"].close()  # type: ignore[attr-defined]

    assert "fp_" in capsys.readouterr().out
    assert len(values["vector"]) == 32  # type: ignore[arg-type]


def test_the_configuration_can_be_read_and_its_numbers_are_the_defaults(tmp_path: Path) -> None:
    (block,) = blocks("yaml")
    (tmp_path / "serve.yaml").write_text(block)

    config = read_config(tmp_path / "serve.yaml")

    usual = ServeConfig()
    assert (config.limits, config.rate, config.largest) == (ServingSettings(), usual.rate, usual.largest)


def test_every_endpoint_is_in_the_page(client: Client) -> None:
    paths = {path.partition("{")[0].rstrip("/") for path in client.ask("GET", "/openapi.json").json()["paths"]}

    assert [path for path in sorted(paths) if path not in PAGE] == []


def test_every_metric_is_in_the_page(client: Client) -> None:
    names = re.findall(r"^# TYPE (\w+)", client.ask("GET", "/metrics").text, re.MULTILINE)

    assert [name for name in names if not name.endswith("_created") and name not in PAGE] == []
