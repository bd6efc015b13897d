"""The check of every request before a route sees it: its size, its token and its rate."""

from __future__ import annotations

import anyio
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vertical_sdk.errors import RegistryError, RunError
from vertical_sdk.server.errors import error_response
from vertical_sdk.server.presence import Presence
from vertical_sdk.server.security.authentication import challenge, read_secret
from vertical_sdk.server.security.rate_limit import Buckets
from vertical_sdk.server.security.tokens import TOKEN_KEY, Tokens
from vertical_sdk.server.settings import Limits

__all__ = ["Guard"]

CHECKS = frozenset({"/api/v1/health", "/api/v1/live"})
"""The health checks."""


class Guard:
    """ASGI middleware that finds the token of a request and rejects what is too large or too frequent.

    unbuffered  paths with this prefix receive files: their routes read the body piece by piece
    presence    whether the registry's folder is still there; without it, every request but the health checks is 503
    """

    def __init__(self, app: ASGIApp, tokens: Tokens, limits: Limits, unbuffered: str, presence: Presence) -> None:
        self.app = app
        self.tokens = tokens
        self.limits = limits
        self.unbuffered = unbuffered
        self.presence = presence
        self.buckets = Buckets(limits.rate, limits.burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI)."""
        if scope["type"] == "http":
            problem = self._authenticate(scope)
            if problem is None and not scope["path"].startswith(self.unbuffered):
                body = await self._read_body(scope, receive)
                problem = body if isinstance(body, JSONResponse) else None
                receive = _replay(body, receive) if isinstance(body, bytes) else receive
            if problem is not None:
                await problem(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _authenticate(self, scope: Scope) -> JSONResponse | None:
        """Store the request's token in its scope. Returns an error to answer with, or None."""
        path = scope["path"]
        length = len(scope["query_string"]) + len(path) + sum(len(name) + len(value) for name, value in scope["headers"])
        if length > self.limits.headers:
            return error_response(431, f"the request's headers are too long: at most {self.limits.headers} bytes.")
        secret = read_secret(_header(scope, b"authorization", b""), path)
        try:
            if path not in CHECKS:
                self.presence.require()
            token = self.tokens.find(secret) if secret else None
        except RunError as error:  # an empty registry is not the one that clients ask for
            return error_response(503, error.message, kind="RunError")
        except RegistryError as error:  # the token file is broken: no token is accepted
            return error_response(503, f"the token file: {error.message}")
        scope[TOKEN_KEY] = token
        client = scope.get("client")
        seconds = self.buckets.take(f"token {token.name}" if token else f"address {client[0] if client else ''}")
        if seconds:
            message = f"too many requests. Come back in {seconds} s."
            return error_response(429, message, headers={"Retry-After": str(seconds)})
        if secret is not None and token is None:
            message = "the token is unknown here or has expired. Ask the administrator of the registry for a new one."
            return error_response(401, message, headers=challenge(path))
        return None

    async def _read_body(self, scope: Scope, receive: Receive) -> bytes | JSONResponse:
        """The whole body, or an error to answer with."""
        too_long = error_response(413, f"the request is too long: at most {self.limits.body} bytes.")
        stated = _header(scope, b"content-length", b"0")
        if not stated.isdigit() or int(stated) > self.limits.body:
            return too_long
        body = bytearray()
        more = True
        while more:
            try:
                with anyio.fail_after(self.limits.silence):
                    message = await receive()
            except TimeoutError:
                return error_response(408, "the request did not arrive completely in time.")
            body += message.get("body", b"")
            if len(body) > self.limits.body:
                return too_long
            more = message.get("more_body", False)
        return bytes(body)


def _header(scope: Scope, name: bytes, default: bytes) -> bytes:
    """The value of a header; the last one, if there are several."""
    values: list[bytes] = [value for key, value in scope["headers"] if key.lower() == name]
    return values[-1] if values else default


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns a body that was read already."""
    sent = False

    async def receive_again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again
