"""How many clients are served, how fast, and within which memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vertical_sdk.errors import DataError

__all__ = ["ServingSettings"]


@dataclass(frozen=True)
class ServingSettings:
    """Settings of a service of specialists.

    memory   bytes of the adapters in memory for each base; those that are not used make room for others
    waiting  requests that wait for an engine at most; above it, clients get an error and try again later
    batch    rows that are answered together
    rows     inputs of one request at most
    writers  texts that are written at the same time
    longest  tokens of a written answer at most
    timeout  seconds until a request is given up
    poll     seconds between two looks at the registry, which find aliases that moved and versions that were revoked
    device   such as "cuda:1"; None: a GPU if there is one
    dtype    what inputs are read in: "float32", "bfloat16", or "auto", the faster one as measured here

    Raises DataError for a number that is not above 0.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    memory: int = 2 << 30
    waiting: int = 128
    batch: int = 256
    rows: int = 1024
    writers: int = 64
    longest: int = 2048
    timeout: float = 60.0
    poll: float = 5.0
    device: str | None = None
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name in ("memory", "waiting", "batch", "rows", "writers", "longest", "timeout", "poll"):
            if not getattr(self, name) > 0:
                raise DataError(f"{name} = {getattr(self, name)!r} is wrong: it should be above 0.")
