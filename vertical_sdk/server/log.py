"""What a server did: one JSON line a request, without tokens, bodies or queries; and every answer's safety headers."""

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
from vertical_sdk.server.answers import refusal
from vertical_sdk.server.tokens import PREFIX

__all__ = ["TOKEN_KEY", "Log", "Watch", "log_to"]

Log = Callable[[dict[str, Any]], None]
TOKEN_KEY = "vertical.token"  # noqa: S105
"""Where a request's scope has its Token, once it is known."""
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
"""On every answer that does not say otherwise, as the pages do for their style sheet. No script runs at all."""


def log_to(path: Path | None) -> Log:
    """A log that goes to a file, or to stderr; a token that somebody put where it does not belong is left out.

    Each line opens the file anew, so that it may be moved away (logrotate). Raises RunError where it cannot be written.
    """
    lock = threading.Lock()
    if path is not None:
        with report_full_disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.open("a").close()

    def write(line: dict[str, Any]) -> None:
        text = SECRET.sub(f"{PREFIX}***", json.dumps(line)) + "\n"  # all but ASCII is escaped: a terminal obeys some of it
        with lock:
            if path is not None:
                with contextlib.suppress(OSError), path.open("a", encoding="utf-8") as file:  # a full disk: then to stderr
                    file.write(text)
                    return
            sys.stderr.write(text)
            sys.stderr.flush()

    return write


class Watch:
    """The outermost layer: logs every request, answers what nobody foresaw with a plain 500, and adds the safety headers."""

    def __init__(self, app: ASGIApp, log: Log) -> None:
        self.app = app
        self.log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status, sent = time.monotonic(), 0, 0

        async def watched(message: Message) -> None:
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
            await self.app(scope, receive, watched)
        except Exception:  # noqa: BLE001  (the end of the request: the next one is served all the same)
            trace = traceback.format_exc()
            if not status:
                message = "The server failed. Its log has more; please tell whoever runs it."
                await refusal(500, message, kind="RunError")(scope, receive, watched)
        finally:
            token = scope.get(TOKEN_KEY)
            client = scope.get("client")
            line = {
                "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "ms": round((time.monotonic() - begun) * 1000, 1),
                "token": token.name if token else None,
                "address": client[0] if client else None,
                "bytes": sent,
            }
            self.log(line if trace is None else {**line, "trace": trace})
