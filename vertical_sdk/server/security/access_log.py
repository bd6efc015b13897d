"""The log of requests: one JSON line each, without tokens, bodies or queries; and the safety headers of every response."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vertical_sdk.paths import report_full_disk
from vertical_sdk.server.errors import Refusal, Refuse
from vertical_sdk.server.security.quiet_log import Allowance
from vertical_sdk.server.security.tokens import PREFIX, TOKEN_KEY

__all__ = ["AccessLog", "Log", "open_log", "timestamp"]

LONGEST_PATH = 1000
"""Characters of a path in the log."""
MOST_STRANGE = 100
"""Lines a second about requests without a token, or above their rate: anybody can send those."""
Log = Callable[[dict[str, Any]], None]
SECRET = re.compile(re.escape(PREFIX) + r"[A-Za-z0-9_-]{20,}")
SAFETY = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Headers of every response that does not set its own, as the pages do for their style sheet. No script runs at all."""


def open_log(path: Path | None) -> Log:
    """A log that writes to a file, or to stderr if the path is None. A token in a path is masked.

    The file is opened for each line, so that it may be moved away (logrotate). Raises RunError if it cannot be written.
    """
    lock = threading.Lock()
    if path is not None:
        with report_full_disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.open("a").close()

    def write(line: dict[str, Any]) -> None:
        text = (
            SECRET.sub(f"{PREFIX}***", json.dumps(line)).replace("\x7f", "\\u007f") + "\n"
        )  # only ASCII: a terminal would execute some control characters
        with lock:
            if path is not None:
                with contextlib.suppress(OSError), path.open("a", encoding="utf-8") as file:  # if the disk is full, use stderr
                    file.write(text)
                    return
            sys.stderr.write(text)
            sys.stderr.flush()

    return write


def timestamp() -> str:
    """The time for a line of the log."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


class AccessLog:
    """The outermost ASGI middleware: logs every request, answers an unexpected error with a plain 500, adds safety headers."""

    def __init__(self, app: ASGIApp, log: Log, refuse: Refuse) -> None:
        self.app = app
        self.log = log
        self.refuse = refuse
        self.strangers = Allowance(MOST_STRANGE, 1.0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status, sent = time.monotonic(), 0, 0

        async def send_and_count(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in SAFETY.items():
                    headers.setdefault(name, value)
                if scope["scheme"] == "https":
                    headers.setdefault("Strict-Transport-Security", "max-age=31536000")
            elif message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
            await send(message)

        trace = None
        try:
            await self.app(scope, receive, send_and_count)
        except Exception:  # noqa: BLE001  (the end of the request: the server continues with the next one)
            trace = traceback.format_exc()
            if not status:
                message = "The server failed. Its log has the details; please tell its administrator."
                await self.refuse(scope, Refusal(500, message, "RunError"))(scope, receive, send_and_count)
        finally:
            token = scope.get(TOKEN_KEY)
            client = scope.get("client")
            line: dict[str, Any] = {
                "time": timestamp(),
                "method": scope["method"],
                "path": scope["path"][:LONGEST_PATH],
                "status": status,
                "ms": round((time.monotonic() - start) * 1000, 1),
                "token": token.name if token else None,
                "address": client[0] if client else None,
                "bytes": sent,
            }
            if trace is not None:
                line["trace"] = trace
            left_out = self.strangers.take() if token is None or status == 429 else 0
            if left_out is not None:
                self.log({**line, "left_out": left_out} if left_out else line)
