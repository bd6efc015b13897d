"""A real MLflow server on this machine, with SQLite and a folder for artifacts."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

START = 120.0
"""Seconds to wait for its start on a busy machine."""


@contextlib.contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """The address of a server whose data are in a folder; it is ended by its process id."""
    pytest.importorskip("mlflow.server", reason="the server is in mlflow, not in mlflow-skinny")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    options = {
        "--backend-store-uri": f"sqlite:///{folder}/mlflow.sqlite",
        "--artifacts-destination": str(folder / "artifacts"),
        "--host": "127.0.0.1",
        "--port": str(port),
        "--workers": "1",
    }
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("wb") as log:
        command = [sys.executable, "-m", "mlflow", "server", *(word for option in options.items() for word in option)]
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env={**os.environ, **quiet})
    try:
        until = time.monotonic() + START
        while not _answers(address):
            if server.poll() is not None or time.monotonic() > until:
                pytest.fail(f"MLflow's server did not start:\n{(folder / 'server.log').read_text()}")
            time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def delete_models(address: str) -> None:
    """Delete all registered models, with their versions, aliases and tags."""
    from mlflow import MlflowClient

    client = MlflowClient(address, address)
    for model in client.search_registered_models(max_results=1000):
        client.delete_registered_model(model.name)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False
