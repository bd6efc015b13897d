"""vertical serve as a process: it checks what it serves, answers, follows its configuration and ends in order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from serving.conftest import TOPICS, Published, published  # noqa: F401  (a fixture)

from vertical_sdk.cli import main
from vertical_sdk.errors import DataError, IdleAdapter, RecipeError, RegistryError


def test_a_process_serves_and_ends_with_ctrl_c(published: Published, tmp_path: Path) -> None:  # noqa: F811
    config = tmp_path / "serve.yaml"
    config.write_text(
        f"adapters: [{TOPICS}@1]\nregistry: {published.registry.location}\nbases: [{published.bases[0]}]\n"
        f"port: 0\nanonymous: true\nlog: {tmp_path}/log.jsonl\nlimits: {{poll: 600, waiting: 5}}\n"
    )
    command = [sys.executable, "-m", "vertical_sdk", "serve", f"{TOPICS}@2", "--config", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address, process.stderr.read() if process.stderr else ""
        body = {"model": f"{TOPICS}@2", "input": "rash"}
        answer = httpx2.post(f"{address}/classify", json=body, verify=False)
        unknown = httpx2.post(f"{address}/classify", json={**body, "model": f"{TOPICS}@1"}, verify=False)
        process.send_signal(signal.SIGINT)
        process.wait(30)

    assert answer.json()["vertical"]["version"] == 2
    assert unknown.status_code == 404  # the command line wins over the file
    assert process.returncode in {0, 130}
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[0]["loaded"] == f"{TOPICS}@2"
    assert [line["status"] for line in lines if "status" in line] == [200, 404]


def test_a_reference_that_cannot_be_served_stops_the_start(
    published: Published,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = ["--registry", published.registry.location, "--port", "0"]
    base = ["--base", published.bases[0]]

    assert main(["serve", f"{TOPICS}@1", *place, *base]) == RegistryError.exit_code
    assert "vertical registry token add NAME --scope infer" in capsys.readouterr().err
    assert main(["serve", *place, "--anonymous"]) == DataError.exit_code
    assert main(["serve", "care/none", *place, *base, "--anonymous"]) == RegistryError.exit_code
    config = tmp_path / "serve.yaml"
    config.write_text("adapter: [a]\nlimits: {poll: fast, wait: 3}\n")
    assert main(["serve", "--config", str(config)]) == RecipeError.exit_code
    assert "unknown key 'adapter'. Did you mean 'adapters'?" in capsys.readouterr().err

    def fail(*_: object, **__: object) -> None:
        raise IdleAdapter("the self-test 'x' gives other outputs than after training", where="care/topics@1")

    monkeypatch.setattr("vertical_sdk.adapters.load.replay_adapter", fail)
    assert main(["serve", f"{TOPICS}@1", *place, *base, "--anonymous"]) == IdleAdapter.exit_code
    assert "gives other outputs than after training" in capsys.readouterr().err
