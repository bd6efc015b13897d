"""An S3 server in this process, for real clients of this and other processes over HTTP."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_CONFIG_FILE": "none",
    "AWS_SHARED_CREDENTIALS_FILE": "none",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class OneAtATime:
    """A WSGI application that answers one request at a time.

    moto checks whether a key exists (If-None-Match) and writes it in two steps, so another thread can interfere. S3 does both
    atomically.
    """

    def __init__(self, application: Any) -> None:
        self.application = application
        self.lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with self.lock:
            return list(self.application(environ, start_response))


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """Serve an empty S3 server until the block ends, and yield its address."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, *_: object) -> None: ...

    application = OneAtATime(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def use_server(patch: pytest.MonkeyPatch, address: str) -> None:
    """Make AWS's clients in this process and its children use that server."""
    for key, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": address}.items():
        patch.setenv(key, value)


def make_bucket(name: str) -> str:
    """Make a bucket on the server in use; its address."""
    import boto3

    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}"
