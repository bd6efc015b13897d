"""What all routes of the API share: the registry that is served, who may call a route, and the types of parameters.

The server trusts nothing that a client claims about a version: it collects the uploaded files in a folder, reads the card in
it and publishes the folder itself, with every check that publishing has. The author in the log is the token's name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict, Field, model_validator

from vertical_sdk.registry import Registry
from vertical_sdk.server.registry_files.presence import Presence
from vertical_sdk.server.registry_files.quotas import PublishedBytes
from vertical_sdk.server.registry_files.uploads import Uploads
from vertical_sdk.server.registry_routes.problems import Problem
from vertical_sdk.server.security.authentication import require
from vertical_sdk.server.security.tokens import Token
from vertical_sdk.server.settings import Limits

__all__ = ["API", "LARGEST", "MOST_TAGS", "PAGE", "Body", "Done", "Service", "registry_router"]

API = "/api/v1"
PAGE = 1000
"""The most rows of one answer."""
BYTES = "application/octet-stream"
LARGEST = 10**18 - 1
MOST_TAGS = 100
"""Tags of one request."""
STATUSES = (400, 401, 403, 404, 405, 408, 409, 413, 414, 422, 429, 431, 500, 502, 503, 507)

NAME = 129
"""Characters of the longest name."""
Name = Annotated[str, Query(max_length=NAME, description="Such as medical/icd-chapter.")]
Prefix = Annotated[str, Query(max_length=NAME, description="Only names with this prefix.")]
After = Annotated[str, Query(max_length=NAME, description="Only names after this one.")]
Number = Annotated[int, Field(ge=1, le=LARGEST)]
Limit = Annotated[int, Query(ge=1, le=PAGE)]
Named = Annotated[str, Field(max_length=NAME)]
Key = Annotated[str, Field(max_length=200)]
Tag = Annotated[str, Field(max_length=2000)]
Sha256 = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Why = Annotated[str, Field(max_length=10_000)]


class Body(BaseModel):
    """The base of request bodies: no unknown keys, no conversion of types."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def check_keys(cls, value: Any) -> Any:
        """Refuse too many keys at once: an error for each one would hold the event loop."""
        if isinstance(value, dict) and len(value) > len(cls.model_fields):
            raise ValueError(f"it has {len(value)} keys. Those that it may have: {', '.join(cls.model_fields)}")
        return value


class Done(BaseModel):
    """The change was made."""

    done: bool = True


@dataclass(frozen=True)
class Service:
    """A served registry."""

    registry: Registry
    uploads: Uploads
    limits: Limits
    anonymous_read: bool = False
    presence: Presence | None = None
    published: PublishedBytes | None = None

    @contextlib.contextmanager
    def counting(self, token: Token, size: int) -> Iterator[None]:
        """Count a version of this size for a token while it is published; if that fails, it counts no longer. Raises TooLarge."""
        if self.published is None or not size:
            yield
            return
        self.published.add(token.name, size)
        try:
            yield
        except BaseException:
            self.published.add(token.name, -size)
            raise

    @property
    def may_read(self) -> Callable[[Request], Awaitable[Token | None]]:
        """A dependency: the caller may read."""
        return require("read", anonymous=self.anonymous_read)

    @property
    def may_publish(self) -> Callable[[Request], Awaitable[Token | None]]:
        """A dependency: the caller's token may publish."""
        return require("publish")

    @property
    def may_promote(self) -> Callable[[Request], Awaitable[Token | None]]:
        """A dependency: the caller's token may promote."""
        return require("promote")


def registry_router() -> APIRouter:
    """A router below /api/v1 whose document says that a token is needed and what errors look like."""
    bearer = HTTPBearer(auto_error=False, description="A token, from `vertical registry token add`.")
    errors = {status: {"model": Problem} for status in STATUSES}
    return APIRouter(prefix=API, responses=errors, dependencies=[Depends(bearer)])  # type: ignore[arg-type]
