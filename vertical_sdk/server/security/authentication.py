"""Which token a request carries, and what a route requires of it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable

from fastapi import HTTPException, Request

from vertical_sdk.server.security.tokens import TOKEN_KEY, Scope, Token

__all__ = ["NO_TOKEN", "WRONG_TOKEN", "challenge", "is_api", "read_secret", "require"]

APIS = ("/api/", "/v1/", "/classify", "/tokenize", "/metrics", "/openapi.json")
"""The beginnings of the paths of APIs: of a registry, and of a server of specialists."""
NO_TOKEN = "a token is needed. Set $VERTICAL_TOKEN to yours; ask the administrator of the server for one."  # noqa: S105
WRONG_TOKEN = "the token is unknown here or has expired. Ask the administrator of the server for a new one."  # noqa: S105


def require(scope: Scope, *, anonymous: bool = False) -> Callable[[Request], Awaitable[Token | None]]:
    """A FastAPI dependency that rejects a token without this scope. Its value is the token.

    anonymous  allow it without a token
    """

    async def check(request: Request) -> Token | None:  # a plain function would wait for a thread
        token: Token | None = request.scope.get(TOKEN_KEY)
        if token is None:
            if anonymous:
                return None
            raise HTTPException(401, NO_TOKEN, challenge(request.url.path))
        if not token.may(scope):
            has = ", ".join(token.scopes)
            raise HTTPException(403, f"the token {token.name!r} may not do this: it needs the scope {scope}, and has {has}.")
        return token

    return check


def is_api(path: str) -> bool:
    """Whether a path belongs to an API; the other paths of a registry are pages."""
    return path.startswith(APIS)


def read_secret(authorization: bytes, path: str) -> str | None:
    """The secret in an Authorization header; None if there is no header, "" if the header is malformed.

    A browser sends it as a password (Basic), which only pages accept: browsers also send passwords with requests that
    other sites trigger.
    """
    if not authorization:
        return None
    kind, _, rest = authorization.decode("latin-1").strip().partition(" ")
    if kind.lower() == "bearer":
        return rest.strip()
    if kind.lower() == "basic" and not is_api(path):
        try:
            return base64.b64decode(rest.strip(), validate=True).decode("latin-1").partition(":")[2]
        except (binascii.Error, ValueError):
            return ""
    return ""


def challenge(path: str) -> dict[str, str]:
    """The header that says how to authenticate, for an answer with status 401."""
    return {"WWW-Authenticate": 'Bearer realm="vertical"' if is_api(path) else 'Basic realm="vertical", charset="UTF-8"'}
