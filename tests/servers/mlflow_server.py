"""A real MLflow server on this machine, with SQLite and a folder for artifacts."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

START = 120.0
"""Seconds to wait for its start on a busy machine."""
PROGRAM = """
import os, sys

folder = sys.argv[1]
from mlflow import server as mlflow
from werkzeug.serving import make_server

os.environ[mlflow.BACKEND_STORE_URI_ENV_VAR] = f"sqlite:///{folder}/mlflow.sqlite"
os.environ[mlflow.ARTIFACTS_DESTINATION_ENV_VAR] = f"{folder}/artifacts"
os.environ[mlflow.ARTIFACT_ROOT_ENV_VAR] = "mlflow-artifacts:/"
os.environ[mlflow.SERVE_ARTIFACTS_ENV_VAR] = "true"
server = make_server("127.0.0.1", 0, mlflow.app, threaded=True)
print(server.server_port, flush=True)
server.serve_forever()
"""
"""Serves MLflow's WSGI application, as `mlflow server` does with gunicorn, but imports MLflow once, not in two processes."""


@contextlib.contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """Serve MLflow until the block ends, with its data in a folder. Yield the address."""
    try:
        metadata.distribution("mlflow")
    except metadata.PackageNotFoundError:
        pytest.skip("the server is in mlflow, not in mlflow-skinny")
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("wb") as log:
        command = [sys.executable, "-c", PROGRAM, str(folder)]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, cwd=folder, env=environment, text=True)
    assert server.stdout is not None
    timer = threading.Timer(START, server.kill)
    timer.start()
    try:
        port = server.stdout.readline().strip()
        timer.cancel()
        if not port:
            pytest.fail(f"MLflow's server did not start:\n{(folder / 'server.log').read_text()}")
        yield f"http://127.0.0.1:{port}"
    finally:
        timer.cancel()
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        server.stdout.close()


def delete_models(address: str) -> None:
    """Delete all registered models, with their versions, aliases and tags."""
    from mlflow import MlflowClient

    client = MlflowClient(address, address)
    for model in client.search_registered_models(max_results=1000):
        client.delete_registered_model(model.name)
