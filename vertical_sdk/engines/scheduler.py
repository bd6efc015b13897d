"""Answers to many prompts at once: a batch that prompts join and leave between two tokens, each with its own adapter."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterable
from itertools import groupby

import torch

from vertical_sdk.engines.prefixes import Prefixes
from vertical_sdk.errors import AdapterError, VerticalError
from vertical_sdk.families.continuation import NOT_A_NUMBER, Continuation
from vertical_sdk.kernels.decoder import Decoder, Segment
from vertical_sdk.kernels.low_rank import LowRank

__all__ = ["Request", "Scheduler"]

SLOTS = 64
"""Prompts that are answered at once; others wait."""
IDLE_BYTES = 256 << 20
"""Memory of keys and values that is kept while there is nothing to do."""
BASE = LowRank({})
"""The base without an adapter."""


class Request:
    """A prompt and its answer.

    prompt   token ids, at least one
    adapter  None: the base without an adapter

    `error` is set if the answer could not be written; `answer.finished` and `answer.result` tell the rest.
    """

    def __init__(self, prompt: tuple[int, ...], adapter: LowRank | None, answer: Continuation) -> None:
        self.prompt, self.adapter, self.answer = prompt, adapter, answer
        self.error: VerticalError | None = None
        self.cancelled = False
        self._next = -1

    @property
    def done(self) -> bool:
        """Whether nothing more is computed for it."""
        return self.answer.finished or self.cancelled or self.error is not None


class Scheduler:
    """Answers requests on one decoder. Every method may be called from many threads at once.

    It has no thread: a caller that waits for an answer calls `step`, which computes a token for every request of every caller.

    slots  requests that are answered at once
    """

    def __init__(self, decoder: Decoder, *, slots: int = SLOTS) -> None:
        self._decoder, self._slots = decoder, slots
        self._cache, self._stack = decoder.create_cache(), decoder.create_stack()
        self._prefixes = Prefixes()
        self._waiting: deque[Request] = deque()
        self._running: list[Request] = []  # the request of each slot
        self._lock = threading.Lock()

    def submit(self, request: Request) -> Request:
        """Let a request wait for a free slot. It joins the batch at the next step."""
        self._waiting.append(request)
        return request

    def cancel(self, requests: Iterable[Request]) -> None:
        """Compute nothing more for these requests."""
        for request in requests:
            request.cancelled = True

    def step(self, wanted: Iterable[Request] = ()) -> None:
        """Let waiting requests join, compute one token for each request, and let the finished ones leave.

        wanted  do nothing if one of these is done, as after waiting for another thread's step
        """
        with self._lock, torch.inference_mode():
            if any(request.done for request in wanted):
                return
            try:
                changed = self._leave()
                new = self._join()
                if self._running and (changed or new):
                    self._stack.keep([request.adapter for request in self._running])
                if new:
                    self._read(new)
                    self._leave()
                if self._running:
                    scores = self._decoder.step(
                        [request._next for request in self._running],
                        [request.adapter for request in self._running],
                        self._cache,
                        self._stack,
                    )
                    self._take(self._running, scores)
                self._leave()
            except BaseException:
                self._drop_all()
                raise

    def _join(self) -> list[Request]:
        """Move waiting requests into free slots."""
        new: list[Request] = []
        with contextlib.suppress(IndexError):
            while len(self._running) + len(new) < self._slots:
                request = self._waiting.popleft()
                if not request.done:
                    new.append(request)
        if new:
            slots = 1 << (len(self._running) + len(new) - 1).bit_length()
            self._cache.reserve(min(slots, self._slots), max(len(request.prompt) + request.answer.most for request in new))
        for request in new:
            self._cache.open()
            self._running.append(request)
        return new

    def _leave(self) -> bool:
        """Free the slots of requests that are done; the last ones take their place."""
        left = False
        for slot in range(len(self._running) - 1, -1, -1):
            if self._running[slot].done:
                left = True
                self._cache.close(slot, clear=self._running[slot].error is not None)
                self._running[slot] = self._running[-1]
                self._running.pop()
        if not self._running and self._cache.nbytes > IDLE_BYTES:
            self._cache = self._decoder.create_cache()
        return left

    def _read(self, new: list[Request]) -> None:
        """Read the prompts of new requests and choose the first token of each."""
        slots = {id(request): slot for slot, request in enumerate(self._running)}
        groups = [list(group) for _, group in groupby(sorted(new, key=lambda r: id(r.adapter)), key=lambda r: id(r.adapter))]
        shared = []
        for group in groups:
            adapter = group[0].adapter or BASE
            begin = self._prefixes.plan(adapter, [request.prompt for request in group])
            if begin:
                known = self._load_beginning(group[0], slots, (*begin, -1))
                shared.append((adapter, begin, Segment(slots[id(group[0])], begin[known:], group[0].adapter)))
        if shared:
            self._decoder.read([segment for _, _, segment in shared], self._cache, self._stack)
            for adapter, begin, segment in shared:
                self._prefixes.keep(adapter, begin, self._cache.copy_out(segment.slot, len(begin)))
        ordered = [request for group in groups for request in group]
        segments = []
        for request in ordered:
            slot = slots[id(request)]
            known = self._cache.lengths[slot] or self._load_beginning(request, slots, request.prompt)
            segments.append(Segment(slot, request.prompt[known:], request.adapter))
        self._take(ordered, self._decoder.read(segments, self._cache, self._stack))

    def _load_beginning(self, request: Request, slots: dict[int, int], prompt: tuple[int, ...]) -> int:
        """Begin a request's slot with what is known of its prompt, and return the number of those tokens."""
        known = self._prefixes.find(request.adapter or BASE, prompt)
        if known is None:
            return 0
        self._cache.copy_in(slots[id(request)], known)
        return int(known.shape[3])

    def _take(self, requests: list[Request], scores: torch.Tensor) -> None:
        """Choose the next token of each request: scores (requests, vocabulary)."""
        highest, likeliest = scores.max(dim=-1)  # NaN is the highest of scores with NaN
        wrong, tokens = highest.isnan().tolist(), likeliest.tolist()
        for row, request in enumerate(requests):
            if wrong[row]:
                request.error = AdapterError(NOT_A_NUMBER)
                continue
            try:
                request._next = tokens[row] if request.answer.takes_likeliest else request.answer.choose(scores[row])
                request.answer.add(request._next)
            except VerticalError as error:  # of this request alone
                request.error = error

    def _drop_all(self) -> None:
        """Give up the batch after a step that was interrupted: what its slots hold is not known."""
        for request in self._running:
            if not request.done:
                request.error = AdapterError(
                    "the answer was given up, as the computation of its batch was interrupted. Ask again."
                )
        self._running = []
        self._cache, self._stack = self._decoder.create_cache(), self._decoder.create_stack()
