"""Written answers of one request: all of them together, or piece by piece as server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any

import anyio
from fastapi import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from vertical_sdk.errors import VerticalError
from vertical_sdk.families.continuation import Decoding
from vertical_sdk.server.model_routes.bodies import Usage, describe_answerer, identity_headers
from vertical_sdk.server.model_routes.problems import describe, error_body
from vertical_sdk.server.model_routes.service import ModelService
from vertical_sdk.serving.problems import Cancelled, TooSlow
from vertical_sdk.serving.service import Answerer
from vertical_sdk.serving.writing import Prompt, Writing
from vertical_sdk.types import GeneratedText

__all__ = ["EventStream", "Writings", "count_usage"]

DONE = "[DONE]"


class Writings:
    """The answers to the prompts of one request.

    jobs      prompts with how each is written
    streamed  whether `events` is read
    """

    def __init__(
        self, service: ModelService, answerer: Answerer, jobs: Sequence[tuple[Prompt, Decoding]], *, streamed: bool
    ) -> None:
        self._service, self._answerer = service, answerer
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[tuple[int, str | Future[GeneratedText]]] = asyncio.Queue()
        self._writings: list[Writing] = []
        try:
            for number, (prompt, decoding) in enumerate(jobs):
                deliver = functools.partial(self._put, number) if streamed else _ignore
                writing = service.serving.write(answerer, prompt, decoding, deliver)
                self._writings.append(writing)
                writing.future.add_done_callback(functools.partial(self._put, number))
        except BaseException:
            self.cancel()
            raise

    async def wait(self, request: Request) -> list[GeneratedText]:
        """Wait for all answers. Raises what `ModelService.wait` raises."""
        results = [await self._service.wait(request, writing.future) for writing in self._writings]
        self._count(results)
        return results

    async def events(self) -> AsyncIterator[tuple[int, str | GeneratedText]]:
        """The number of an answer with its next piece, or with the whole of it when it is complete. Raises its error."""
        results: list[GeneratedText] = []
        while len(results) < len(self._writings):
            try:
                number, event = await asyncio.wait_for(self._events.get(), self._service.serving.settings.timeout)
            except asyncio.TimeoutError:
                raise TooSlow("the answer was not there in time. Come back later.") from None
            if isinstance(event, str):
                yield number, event
            else:
                results.append(event.result())
                yield number, results[-1]
        self._count(results)

    def cancel(self) -> None:
        """Write no more: no one waits for the answers."""
        for writing in self._writings:
            writing.cancel()

    def _put(self, number: int, event: str | Future[GeneratedText]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and no one reads
            self._loop.call_soon_threadsafe(self._events.put_nowait, (number, event))

    def _count(self, results: Sequence[GeneratedText]) -> None:
        usage = count_usage(results)
        self._service.metrics.count(
            self._answerer, rows=len(results), read=usage.prompt_tokens, written=usage.completion_tokens
        )


class EventStream(Response):
    """Server-sent events that end as soon as the client has gone.

    events   the data of each event as JSON; a VerticalError becomes the last event, and then there is no [DONE]
    closing  is closed after the last event
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[str], closing: ExitStack, answerer: Answerer) -> None:
        super().__init__(headers=identity_headers(describe_answerer(answerer)) | {"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events, self._closing = events, closing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send the events (ASGI)."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with anyio.create_task_group() as group:
            group.start_soon(_cancel_when_gone, receive, group.cancel_scope)
            with self._closing:
                end = DONE
                try:
                    async for event in self._events:
                        await send(_write_event(event, more=True))
                except VerticalError as error:
                    end = error_body(describe(error)[1])
                except Cancelled:
                    end = ""
                await send(_write_event(end, more=False))
            group.cancel_scope.cancel()


def count_usage(results: Sequence[GeneratedText], prompts: int | None = None) -> Usage:
    """Count tokens. `prompts`: how many prompts there are, if each has several answers; a prompt is counted once."""
    each = len(results) // (prompts or len(results) or 1)
    read = sum(result.prompt_tokens for result in results[:: max(1, each)])
    written = sum(result.new_tokens for result in results)
    return Usage(prompt_tokens=read, completion_tokens=written, total_tokens=read + written)


async def _cancel_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def _write_event(data: str, *, more: bool) -> dict[str, Any]:
    return {"type": "http.response.body", "body": f"data: {data}\n\n".encode() if data else b"", "more_body": more}


def _ignore(_: str) -> None:
    """No one reads the pieces."""
