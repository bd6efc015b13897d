"""The check of every request before a route sees it: its size, its token and its rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import anyio
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vertical_sdk.errors import RegistryError, RunError
from vertical_sdk.server.errors import error_response
from vertical_sdk.server.presence import Presence
from vertical_sdk.server.security.authentication import NO_TOKEN, WRONG_TOKEN, challenge, read_secret
from vertical_sdk.server.security.connections import address_key
from vertical_sdk.server.security.rate_limit import Buckets, Slots
from vertical_sdk.server.security.tokens import TOKEN_KEY, Tokens
from vertical_sdk.server.settings import Limits

__all__ = ["CHECKS", "Guard", "Refuse"]

Refuse = Callable[[Scope, int, str, Mapping[str, str]], Response]
CHECKS = frozenset({"/api/v1/health", "/api/v1/live"})
"""The health checks."""
BUSY = error_response(503, "too many requests are being answered. Try again.", kind="RunError", headers={"Retry-After": "1"})


class Guard:
    """ASGI middleware that finds the token of a request and rejects what is too large, too frequent or without a token.

    unbuffered      paths with this prefix receive files: their routes read the body piece by piece
    presence        whether the registry's folder is still there; without it, every request but the health checks is 503
    refuse          makes the answer for a request without a valid token: scope, status, message, headers
    anonymous_read  allow GET and HEAD without a token
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        tokens: Tokens,
        limits: Limits,
        unbuffered: str,
        presence: Presence,
        refuse: Refuse,
        anonymous_read: bool,
    ) -> None:
        self.app = app
        self.tokens = tokens
        self.limits = limits
        self.unbuffered = unbuffered
        self.presence = presence
        self.refuse = refuse
        self.open_methods = {"GET", "HEAD"} if anonymous_read else set()
        self.buckets = Buckets(limits.rate, limits.burst)
        self.slots = Slots(limits.together, max(1, limits.together // 2), limits.patience)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        problem = self._authenticate(scope)
        if problem is None and not scope["path"].startswith(self.unbuffered):
            body = await self._read_body(scope, receive)
            problem = body if isinstance(body, Response) else None
            receive = _replay(body, receive) if isinstance(body, bytes) else receive
        if problem is not None:
            await problem(scope, receive, send)
        elif scope["path"] in CHECKS:
            await self.app(scope, receive, send)
        else:
            async with self.slots.hold(_client(scope)) as slot:

                async def send_and_leave(message: Message) -> None:
                    await slot.aclose()  # the answer is known; who reads it slowly keeps no one else waiting
                    await send(message)

                await (self.app if slot.held else BUSY)(scope, receive, send_and_leave)

    def _authenticate(self, scope: Scope) -> Response | None:
        """Store the request's token in its scope. Returns an error to answer with, or None."""
        path = scope["path"]
        problem = _check_framing(scope) or self._check_length(scope)
        if problem is not None:
            return problem
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
        # A health check has its own share: others of its address must not make a server look ill.
        seconds = self.buckets.take(f"check of {_client(scope)}" if path in CHECKS else _client(scope))
        if seconds:
            message = f"too many requests. Come back in {seconds} s."
            return error_response(429, message, headers={"Retry-After": str(seconds)})
        may_be_missing = path in CHECKS or scope["method"] in self.open_methods
        if token is None and (secret is not None or not may_be_missing):
            return self.refuse(scope, 401, NO_TOKEN if secret is None else WRONG_TOKEN, challenge(path))
        return None

    def _check_length(self, scope: Scope) -> Response | None:
        """An error for a path or headers that are too long, before anything reads them."""
        path = scope["path"]
        if len(path) > self.limits.path:
            return error_response(414, f"the address is too long: at most {self.limits.path} characters.")
        length = len(scope["query_string"]) + len(path) + sum(len(name) + len(value) for name, value in scope["headers"])
        if length > self.limits.headers:
            return error_response(431, f"the request's headers are too long: at most {self.limits.headers} bytes.")
        return None

    async def _read_body(self, scope: Scope, receive: Receive) -> bytes | Response:
        """The whole body, or an error to answer with."""
        too_long = error_response(413, f"the request is too long: at most {self.limits.body} bytes.")
        stated = _header(scope, b"content-length", b"0")
        if not stated.isdigit() or int(stated) > self.limits.body:
            return too_long
        body = bytearray()
        more = True
        try:
            with anyio.fail_after(self.limits.silence):  # for the whole body: a byte now and then is not enough
                while more:
                    message = await receive()
                    body += message.get("body", b"")
                    if len(body) > self.limits.body:
                        return too_long
                    more = message.get("more_body", False)
        except TimeoutError:
            return error_response(408, "the request did not arrive completely in time.")
        return bytes(body)


def _check_framing(scope: Scope) -> Response | None:
    """An error for a request with two lengths: a proxy may read the other one, and then its next request starts elsewhere (smuggling)."""
    if {b"content-length", b"transfer-encoding"} <= {name.lower() for name, _ in scope["headers"]}:
        message = "the request has both Content-Length and Transfer-Encoding. Send one of them."
        return error_response(400, message, headers={"Connection": "close"})
    return None


def _client(scope: Scope) -> str:
    """Who sends a request, for what is counted: its token, or its address."""
    token, client = scope[TOKEN_KEY], scope.get("client")
    return f"token {token.name}" if token else f"address {address_key(client[0]) if client else ''}"


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
