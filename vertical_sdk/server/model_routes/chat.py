"""POST /v1/chat/completions: written answers to conversations, in OpenAI's shape."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from vertical_sdk.server.model_routes.bodies import Answer, Identity, Usage, describe_answerer, fingerprint
from vertical_sdk.server.model_routes.messages import Turn, read_turns
from vertical_sdk.server.model_routes.problems import Unsupported
from vertical_sdk.server.model_routes.sampling import SamplingBody, read_decodings
from vertical_sdk.server.model_routes.service import ModelService, create_id, model_router, now, write_answer
from vertical_sdk.server.model_routes.writing import EventStream, Writings, count_usage
from vertical_sdk.serving.service import Answerer
from vertical_sdk.types import GeneratedText

__all__ = ["routes"]

Finish = Literal["stop", "length"]


class ChatRequest(SamplingBody):
    """A conversation that ends with the user's turn."""

    messages: Annotated[list[Turn], Field(min_length=1, max_length=10_000)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    top_logprobs: int | None = None
    tools: list[Any] | None = None
    tool_choice: Literal["none"] | None = None


class ChatMessage(BaseModel):
    """The answer. `refusal` is for a specialist that abstains."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: str | None = None


class ChatChoice(BaseModel):
    """One answer, and why it ended."""

    index: int
    message: ChatMessage
    logprobs: None = None
    finish_reason: Finish


class ChatAnswer(Answer):
    """The answers."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage


class Delta(BaseModel):
    """What is new in an answer."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChunkChoice(BaseModel):
    """The next piece of one answer."""

    index: int
    delta: Delta
    logprobs: None = None
    finish_reason: Finish | None = None


class ChatChunk(BaseModel):
    """An event of a stream."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    vertical: Identity


def routes(service: ModelService) -> APIRouter:
    """Build the route of conversations."""
    router = model_router("specialists")

    @router.post("/v1/chat/completions", name="chat", dependencies=[Depends(service.may_infer)], response_model=ChatAnswer)
    async def chat(body: ChatRequest, request: Request) -> Response:
        """Ask a specialist of generation, or a causal base, for the next turn. With `stream`, as server-sent events."""
        if body.top_logprobs:
            raise Unsupported("top_logprobs", "this server does not give the probabilities of tokens. Leave it out.")
        if body.tools:
            raise Unsupported("tools", "specialists call no tools. Leave tools out.")
        decodings = read_decodings(body, body.max_completion_tokens or body.max_tokens)
        turns = read_turns(body.messages)
        with ExitStack() as stack:
            answerer = stack.enter_context(service.using("/v1/chat/completions", body.model, "causal"))
            jobs = [(turns, decoding) for decoding in decodings]
            writings = Writings(service, answerer, jobs, streamed=bool(body.stream))
            stack.callback(writings.cancel)
            if not body.stream:
                return write_answer(_describe(body, await writings.wait(request), answerer), answerer)
            events = writings.events()
            first = await service.wait(request, anext(events))  # an error before it is an answer of its own
            return EventStream(_write_chunks(body, first, events, answerer), stack.pop_all(), answerer)

    return router


def _describe(body: ChatRequest, results: list[GeneratedText], answerer: Answerer) -> ChatAnswer:
    who = describe_answerer(answerer)
    return ChatAnswer(
        id=create_id("chatcmpl"),
        created=now(),
        model=body.model,
        system_fingerprint=fingerprint(who),
        choices=[
            ChatChoice(index=index, message=ChatMessage(content=result.text), finish_reason=result.finish_reason)
            for index, result in enumerate(results)
        ],
        usage=count_usage(results, 1),
        vertical=who,
    )


async def _write_chunks(
    body: ChatRequest,
    first: tuple[int, str | GeneratedText],
    events: AsyncIterator[tuple[int, str | GeneratedText]],
    answerer: Answerer,
) -> AsyncIterator[str]:
    """The events of a stream: the role of each answer, its pieces and its end, and the counts of tokens if the request wants them."""
    who = describe_answerer(answerer)
    name, created, results = create_id("chatcmpl"), now(), []

    def write(choices: list[ChunkChoice], usage: Usage | None = None) -> str:
        return ChatChunk(
            id=name,
            created=created,
            model=body.model,
            system_fingerprint=fingerprint(who),
            choices=choices,
            usage=usage,
            vertical=who,
        ).model_dump_json(exclude={"usage"} if not body.includes_usage else None)

    def write_event(index: int, event: str | GeneratedText) -> str:
        if isinstance(event, str):
            return write([ChunkChoice(index=index, delta=Delta(content=event))])
        results.append(event)
        return write([ChunkChoice(index=index, delta=Delta(), finish_reason=event.finish_reason)])

    for index in range(body.choices):
        yield write([ChunkChoice(index=index, delta=Delta(role="assistant", content=""))])
    yield write_event(*first)
    async for event in events:
        yield write_event(*event)
    if body.includes_usage:
        yield write([], count_usage(results, 1))
