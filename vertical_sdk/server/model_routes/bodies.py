"""What requests and answers of all endpoints have in common."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vertical_sdk.serving.service import Answerer

__all__ = ["Answer", "Body", "Identity", "Usage", "describe_answerer", "identity_headers"]

MOST_KEYS = 64
"""Keys of a request's body."""


class Body(BaseModel):
    """The base of request bodies. A parameter that is not known is an error, because it might change the answer.

    Those below change no answer, and are accepted as OpenAI's clients send them.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    model: Annotated[str, Field(max_length=300, description="A reference that is served, or the name of a base.")]
    user: Annotated[str, Field(max_length=1000)] | None = None
    metadata: dict[str, str] | None = None
    store: Literal[False] | None = None
    service_tier: Literal["auto", "default"] | None = None
    safety_identifier: Annotated[str, Field(max_length=1000)] | None = None
    prompt_cache_key: Annotated[str, Field(max_length=1000)] | None = None

    @model_validator(mode="before")
    @classmethod
    def check_keys(cls, value: Any) -> Any:
        """Refuse too many keys at once: an error for each one would hold the event loop."""
        if isinstance(value, dict) and len(value) > MOST_KEYS:
            raise ValueError(f"it has {len(value)} keys. Those that it may have: {', '.join(cls.model_fields)}")
        return value


class Identity(BaseModel):
    """Who answered. A base that answered without an adapter has only `base`.

    adapter  the name of the adapter
    version  its number in the registry
    digest   SHA-256 of its manifest: equal digests mean equal files
    base     the digest of the base's weights; None for members that answer without a base
    gate     the verdict of its gate: "passed", "non-inferior", "ungated", or "failed" or "not evaluated" if it was forced
    labels   the labels in the order of probabilities, if it has any
    """

    adapter: str | None = None
    version: int | None = None
    digest: str | None = None
    base: str | None = None
    gate: str | None = None
    labels: list[str] | None = None


class Usage(BaseModel):
    """Tokens of the request and of the answer."""

    prompt_tokens: int
    completion_tokens: int = 0
    total_tokens: int


class Answer(BaseModel):
    """What every answer says besides."""

    model: str
    vertical: Identity


def describe_answerer(answerer: Answerer, *, labels: bool = False) -> Identity:
    """Say who answers."""
    version, card = answerer.served.version, answerer.served.adapter.card
    base = None if card.members_only else card.base.weights
    if answerer.by_base:
        return Identity(base=base)
    return Identity(
        adapter=version.name,
        version=version.number,
        digest=f"sha256:{version.digest}",
        base=base,
        gate=version.gate,
        labels=list(card.labels.labels) if labels and card.labels else None,
    )


def identity_headers(who: Identity) -> dict[str, str]:
    """The same as headers of the response."""
    values = {"adapter": who.adapter, "version": who.version, "digest": who.digest, "base": who.base, "gate": who.gate}
    return {f"x-vertical-{name}": str(value) for name, value in values.items() if value is not None}


def fingerprint(who: Identity) -> str:
    """OpenAI's `system_fingerprint`: equal ones mean the same adapter on the same base."""
    parts = [(who.digest or "").removeprefix("sha256:")[:12], (who.base or "")[:12]]
    return "fp_" + "_".join(part for part in parts if part)
