"""How an answer is written: the parameters of OpenAI's chat and completions, and those that this server does not offer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from vertical_sdk.families.continuation import Decoding
from vertical_sdk.families.structured import read_schema
from vertical_sdk.server.model_routes.bodies import Body
from vertical_sdk.server.model_routes.problems import Unsupported

__all__ = ["SamplingBody", "read_decodings"]

MOST_CHOICES = 16
USUAL_TOKENS = 512
"""Tokens of an answer if the request does not say."""
STRICT = ConfigDict(extra="forbid", strict=True)


class StreamOptions(BaseModel):
    """include_usage: the last event has the counts of tokens."""

    model_config = STRICT

    include_usage: bool = False


class JsonSchema(BaseModel):
    """A JSON schema with a name; `strict` changes nothing, as each answer follows the schema."""

    model_config = STRICT

    name: str
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(BaseModel):
    """text: anything. json_object: a JSON object. json_schema: JSON that follows a schema."""

    model_config = STRICT

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class SamplingBody(Body):
    """The parameters of a written answer.

    temperature  0 by default, which is what specialists are evaluated with: the likeliest token each time
    n            answers to each prompt; with a seed, each has the next seed
    seed         with it, an answer depends on its prompt, its specialist and the seed alone
    top_k, repetition_penalty  as in transformers and vLLM

    The others are here to be refused with a reason, unless they have their neutral value.
    """

    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=100)] | None = None
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] | None = None
    stop: str | Annotated[list[str], Field(max_length=16)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | int | None = None

    @property
    def choices(self) -> int:
        """Answers to each prompt."""
        return self.n or 1

    @property
    def includes_usage(self) -> bool:
        """Whether the last event of a stream has the counts of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage


def read_decodings(body: SamplingBody, max_tokens: int | None) -> list[Decoding]:
    """How each choice is written.

    Raises Unsupported for a parameter that this server does not offer, DataError for a value that is not possible.
    """
    if body.logprobs:
        raise Unsupported("logprobs", "this server does not give the probabilities of tokens. Leave logprobs out.")
    for name in ("frequency_penalty", "presence_penalty"):
        if getattr(body, name):
            raise Unsupported(name, f"{name} is not offered. Leave it out, or use repetition_penalty.")
    if body.logit_bias:
        raise Unsupported("logit_bias", "logit_bias is not offered. Leave it out.")
    if body.stream_options is not None and not body.stream:
        raise Unsupported("stream_options", "stream_options belongs to stream: true.")
    stop = body.stop or ()
    return [
        Decoding(
            max_new_tokens=max_tokens or USUAL_TOKENS,
            temperature=body.temperature or 0.0,
            top_p=body.top_p or 1.0,
            top_k=body.top_k,
            repetition_penalty=body.repetition_penalty,
            seed=None if body.seed is None else body.seed + number,
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            json_schema=_read_format(body.response_format),
        )
        for number in range(body.choices)
    ]


def _read_format(form: ResponseFormat | None) -> str | None:
    """The JSON schema of an answer; None for any text."""
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return read_schema({"type": "object"})
    if form.json_schema is None:
        raise Unsupported("response_format", "response_format of the type json_schema needs `json_schema`.")
    return read_schema(form.json_schema.schema_)
