"""The check of every request before a route sees it: its size, its token and its rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vertical_sdk.errors import RegistryError, RunError
from vertical_sdk.server.errors import Refusal, Refuse
from vertical_sdk.server.security.authentication import NO_TOKEN, WRONG_TOKEN, challenge, read_secret
from vertical_sdk.server.security.connections import address_key
from vertical_sdk.server.security.rate_limit import Buckets, Slots
from vertical_sdk.server.security.tokens import TOKEN_KEY, Tokens
from vertical_sdk.server.settings import Limits

__all__ = ["Guard", "GuardRules"]

BUSY = Refusal(503, "too many requests are being answered. Try again.", "RunError", {"Retry-After": "1"})


@dataclass(frozen=True)
class GuardRules:
    """What a server asks of a request.

    checks        paths of the health checks, which need no token and wait for no other request
    open_methods  methods of requests that need no token
    any_secret    a request with an unknown token counts as one without a token: some clients always send something
    unbuffered    paths with one of these prefixes receive files: their routes read the body piece by piece
    require_ready raises RunError if nothing can be answered now, such as a registry whose folder has gone; called for each request but
                  the health checks
    """

    checks: frozenset[str]
    open_methods: frozenset[str] = frozenset()
    any_secret: bool = False
    unbuffered: tuple[str, ...] = ()
    require_ready: Callable[[], None] = lambda: None


class Guard:
    """ASGI middleware that finds the token of a request and rejects what is too large, too frequent or without a token.

    refuse  how the server writes an error
    """

    def __init__(self, app: ASGIApp, *, tokens: Tokens, limits: Limits, rules: GuardRules, refuse: Refuse) -> None:
        self.app = app
        self.tokens = tokens
        self.limits = limits
        self.rules = rules
        self.refuse = refuse
        self.buckets = Buckets(limits.rate, limits.burst)
        self.slots = Slots(limits.together, max(1, limits.together // 2), limits.patience)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        problem = self._authenticate(scope)
        if problem is None and not scope["path"].startswith(self.rules.unbuffered):
            body = await self._read_body(scope, receive)
            problem = body if isinstance(body, Refusal) else None
            receive = _replay(body, receive) if isinstance(body, bytes) else receive
        if problem is not None:
            await self.refuse(scope, problem)(scope, receive, send)
        elif scope["path"] in self.rules.checks:
            await self.app(scope, receive, send)
        else:
            async with self.slots.hold(_client(scope)) as slot:

                async def send_and_leave(message: Message) -> None:
                    await slot.aclose()  # the answer is known; who reads it slowly keeps no one else waiting
                    await send(message)

                await (self.app if slot.held else self.refuse(scope, BUSY))(scope, receive, send_and_leave)

    def _authenticate(self, scope: Scope) -> Refusal | None:
        """Store the request's token in its scope. Returns an error to answer with, or None."""
        path = scope["path"]
        problem = _check_framing(scope) or self._check_length(scope)
        if problem is not None:
            return problem
        secret = read_secret(_header(scope, b"authorization", b""), path)
        try:
            if path not in self.rules.checks:
                self.rules.require_ready()
            token = self.tokens.find(secret) if secret else None
        except RunError as error:  # an empty registry is not the one that clients ask for
            return Refusal(503, error.message, "RunError")
        except RegistryError as error:  # the token file is broken: no token is accepted
            return Refusal(503, f"the token file: {error.message}")
        scope[TOKEN_KEY] = token
        # A health check has its own share: others of its address must not make a server look ill.
        seconds = self.buckets.take(f"check of {_client(scope)}" if path in self.rules.checks else _client(scope))
        if seconds:
            message = f"too many requests. Come back in {seconds} s."
            return Refusal(429, message, headers={"Retry-After": str(seconds)})
        may_be_missing = path in self.rules.checks or scope["method"] in self.rules.open_methods
        if token is None and not (may_be_missing and (secret is None or self.rules.any_secret)):
            return Refusal(401, NO_TOKEN if secret is None else WRONG_TOKEN, headers=challenge(path))
        return None

    def _check_length(self, scope: Scope) -> Refusal | None:
        """An error for a path or headers that are too long, before anything reads them."""
        path = scope["path"]
        if len(path) > self.limits.path:
            return Refusal(414, f"the address is too long: at most {self.limits.path} characters.")
        length = len(scope["query_string"]) + len(path) + sum(len(name) + len(value) for name, value in scope["headers"])
        if length > self.limits.headers:
            return Refusal(431, f"the request's headers are too long: at most {self.limits.headers} bytes.")
        return None

    async def _read_body(self, scope: Scope, receive: Receive) -> bytes | Refusal:
        """The whole body, or an error to answer with."""
        too_long = Refusal(413, f"the request is too long: at most {self.limits.body} bytes.")
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
            return Refusal(408, "the request did not arrive completely in time.")
        return bytes(body)


def _check_framing(scope: Scope) -> Refusal | None:
    """An error for a request with two lengths: a proxy may read the other one, and then its next request starts elsewhere (smuggling)."""
    if {b"content-length", b"transfer-encoding"} <= {name.lower() for name, _ in scope["headers"]}:
        message = "the request has both Content-Length and Transfer-Encoding. Send one of them."
        return Refusal(400, message, headers={"Connection": "close"})
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
