"""Who is let in: a token's name, how often it may ask, how much it may send; and what a route demands of it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable

import anyio
from fastapi import HTTPException, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vertical_sdk.errors import RegistryError
from vertical_sdk.server.answers import refusal
from vertical_sdk.server.limits import Buckets, Limits
from vertical_sdk.server.log import TOKEN_KEY
from vertical_sdk.server.tokens import Scope as TokenScope
from vertical_sdk.server.tokens import Token, Tokens

__all__ = ["API", "UPLOADS", "Guard", "needs"]

API = "/api/v1"
UPLOADS = f"{API}/uploads/"
"""Below this, bodies are files: the route itself reads them, piece by piece."""


class Guard:
    """Finds out whose token a request has, and refuses what is too much, before any route sees it."""

    def __init__(self, app: ASGIApp, tokens: Tokens, limits: Limits) -> None:
        self.app = app
        self.tokens = tokens
        self.limits = limits
        self.buckets = Buckets(limits.rate, limits.burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        length = len(scope["query_string"]) + len(scope["path"]) + sum(len(n) + len(v) for n, v in scope["headers"])
        if length > self.limits.headers:
            await refusal(431, f"the request's headers are too long: at most {self.limits.headers} bytes.")(
                scope, receive, send
            )
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        api = scope["path"].startswith("/api/")
        secret = _shown(headers.get(b"authorization", b""), basic=not api)
        try:
            token = self.tokens.find(secret) if secret else None
        except RegistryError as error:  # the file of tokens is broken: nobody is let in
            await refusal(503, str(error).replace(str(self.tokens.path), "the file of tokens"))(scope, receive, send)
            return
        scope[TOKEN_KEY] = token
        client = scope.get("client")
        seconds = self.buckets.wait(f"token {token.name}" if token else f"address {client[0] if client else ''}")
        if seconds:
            again = {"Retry-After": str(seconds)}
            await refusal(429, f"too many requests. Come back in {seconds} s.", headers=again)(scope, receive, send)
            return
        if secret is not None and token is None:
            message = "the token is not known here, or its time is over. Ask whoever runs the registry for a new one."
            await refusal(401, message, headers=_challenge(api))(scope, receive, send)
            return
        if scope["path"].startswith(UPLOADS):
            await self.app(scope, receive, send)
            return
        try:
            body = await self._body(headers, receive)
        except TimeoutError:
            await refusal(408, "the request was not sent to its end in time.")(scope, receive, send)
            return
        if body is None:
            message = f"the request is too long: at most {self.limits.body} bytes."
            await refusal(413, message)(scope, receive, send)
            return
        await self.app(scope, _again(body, receive), send)

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes | None:
        """The whole body; None where it is too long. Raises TimeoutError."""
        stated = headers.get(b"content-length", b"0")
        if not stated.isdigit() or int(stated) > self.limits.body:
            return None
        body = bytearray()
        while True:
            with anyio.fail_after(self.limits.silence):
                message = await receive()
            body += message.get("body", b"")
            if len(body) > self.limits.body:
                return None
            if not message.get("more_body", False):
                return bytes(body)


def needs(scope: TokenScope, *, anonymous: bool) -> Callable[[Request], Token | None]:
    """A dependency that lets nobody pass whose token has not this scope; its value is the token.

    anonymous  who has no token may read
    """

    def check(request: Request) -> Token | None:
        token: Token | None = request.scope.get(TOKEN_KEY)
        if token is None:
            if scope == "read" and anonymous:
                return None
            message = "a token is needed. Set $VERTICAL_TOKEN to yours; whoever runs the registry makes one."
            raise HTTPException(401, message, _challenge(request.url.path.startswith("/api/")))
        if not token.may(scope):
            has = ", ".join(token.scopes)
            raise HTTPException(403, f"the token {token.name!r} may not do this: it needs the scope {scope}, and has {has}.")
        return token

    return check


def _shown(authorization: bytes, *, basic: bool) -> str | None:
    """The secret in an Authorization header; None where there is no header.

    A browser shows it as a password (Basic). The API takes no passwords: browsers send them along with what other sites ask for.
    """
    if not authorization:
        return None
    kind, _, rest = authorization.decode("latin-1").strip().partition(" ")
    if kind.lower() == "bearer":
        return rest.strip()
    if kind.lower() == "basic" and basic:
        try:
            return base64.b64decode(rest.strip(), validate=True).decode("latin-1").partition(":")[2]
        except (binascii.Error, ValueError):
            return ""
    return ""


def _challenge(api: bool) -> dict[str, str]:
    return {"WWW-Authenticate": 'Bearer realm="vertical"' if api else 'Basic realm="vertical", charset="UTF-8"'}


def _again(body: bytes, receive: Receive) -> Receive:
    """A body that was read, to be received once more."""
    given = False

    async def once_more() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return once_more
