"""POST /v1/completions: written answers to texts, in OpenAI's older shape."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from vertical_sdk.server.model_routes.bodies import Identity, Usage, describe_answerer, fingerprint
from vertical_sdk.server.model_routes.problems import Unsupported
from vertical_sdk.server.model_routes.sampling import SamplingBody, read_decodings
from vertical_sdk.server.model_routes.service import ModelService, create_id, model_router, now, write_answer
from vertical_sdk.server.model_routes.writing import EventStream, Writings, count_usage
from vertical_sdk.serving.service import Answerer
from vertical_sdk.types import GeneratedText

__all__ = ["routes"]

MOST_PROMPTS = 64


class CompletionRequest(SamplingBody):
    """Texts for a specialist, each put into its recipe's prompt, as `VerticalModel.generate` does; for a base, a user's turn."""

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=MOST_PROMPTS)]
    best_of: int | None = None
    echo: bool | None = None
    suffix: str | None = None


class CompletionChoice(BaseModel):
    """One answer, or the next piece of it."""

    index: int
    text: str
    logprobs: None = None
    finish_reason: Literal["stop", "length"] | None = None


class CompletionAnswer(BaseModel):
    """The answers, those of the first prompt first; or an event of a stream."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage | None = None
    vertical: Identity


def routes(service: ModelService) -> APIRouter:
    """Build the route of completions."""
    router = model_router("specialists")

    @router.post(
        "/v1/completions", name="completions", dependencies=[Depends(service.may_infer)], response_model=CompletionAnswer
    )
    async def complete(body: CompletionRequest, request: Request) -> Response:
        """Ask a specialist of generation, or a causal base, for an answer to each text. With `stream`, as server-sent events."""
        if body.best_of not in {None, body.choices}:
            raise Unsupported("best_of", "best_of is not offered. Leave it out.")
        if body.echo or body.suffix:
            name = "echo" if body.echo else "suffix"
            raise Unsupported(name, f"{name} is not offered. Leave it out.")
        prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
        decodings = read_decodings(body, body.max_tokens)
        with ExitStack() as stack:
            answerer = stack.enter_context(service.using("/v1/completions", body.model, "causal"))
            jobs = [(prompt, decoding) for prompt in prompts for decoding in decodings]
            writings = Writings(service, answerer, jobs, streamed=bool(body.stream))
            stack.callback(writings.cancel)
            if not body.stream:
                results = await writings.wait(request)
                choices = [
                    CompletionChoice(index=index, text=result.text, finish_reason=result.finish_reason)
                    for index, result in enumerate(results)
                ]
                answer = _describe(body, create_id("cmpl"), choices, answerer, count_usage(results, len(prompts)))
                return write_answer(answer, answerer)
            events = writings.events()
            first = await service.wait(request, anext(events))
            return EventStream(_write_chunks(body, len(prompts), first, events, answerer), stack.pop_all(), answerer)

    return router


def _describe(
    body: CompletionRequest, name: str, choices: list[CompletionChoice], answerer: Answerer, usage: Usage | None
) -> CompletionAnswer:
    who = describe_answerer(answerer)
    return CompletionAnswer(
        id=name,
        created=now(),
        model=body.model,
        system_fingerprint=fingerprint(who),
        choices=choices,
        usage=usage,
        vertical=who,
    )


async def _write_chunks(
    body: CompletionRequest,
    prompts: int,
    first: tuple[int, str | GeneratedText],
    events: AsyncIterator[tuple[int, str | GeneratedText]],
    answerer: Answerer,
) -> AsyncIterator[str]:
    """The events of a stream: the pieces and the end of each answer, and the counts of tokens if the request wants them."""
    name = create_id("cmpl")
    results: dict[int, GeneratedText] = {}

    def write(choices: list[CompletionChoice], usage: Usage | None = None) -> str:
        answer = _describe(body, name, choices, answerer, usage)
        return answer.model_dump_json(exclude={"usage"} if not body.includes_usage else None)

    def write_event(index: int, event: str | GeneratedText) -> str:
        if isinstance(event, str):
            return write([CompletionChoice(index=index, text=event)])
        results[index] = event
        return write([CompletionChoice(index=index, text="", finish_reason=event.finish_reason)])

    yield write_event(*first)
    async for event in events:
        yield write_event(*event)
    if body.includes_usage:
        yield write([], count_usage([results[index] for index in sorted(results)], prompts))
