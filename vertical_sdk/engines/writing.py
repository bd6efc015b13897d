"""How an engine writes answers: many adapters in one batch where `plain_decoder` reads them, else by transformers."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import torch

from vertical_sdk.engines.engine import Stream, renumber
from vertical_sdk.engines.scheduler import Request, Scheduler
from vertical_sdk.families.causal import CausalSpecialist
from vertical_sdk.families.continuation import Decoding
from vertical_sdk.families.low_rank import AdaptedModel
from vertical_sdk.families.plain_decoder import read_decoder, read_low_rank
from vertical_sdk.families.shared_base import computes_base
from vertical_sdk.kernels.low_rank import LowRank
from vertical_sdk.types import GeneratedText, Progress, silent

__all__ = ["Writer"]

State: TypeAlias = tuple[Any, ...]


class Writer:
    """Writes answers for the adapters of one engine. May be called from many threads at once, which then share batches."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._base: State | None = None
        self._scheduler: Scheduler | None = None
        self._low_ranks: WeakKeyDictionary[CausalSpecialist, tuple[State, LowRank | None]] = WeakKeyDictionary()

    def write(
        self,
        specialists: Sequence[CausalSpecialist],
        prompts: Sequence[tuple[int, ...]],
        decoding: Decoding,
        *,
        batch_size: int,
        stream: Stream | None = None,
        progress: Progress = silent,
    ) -> list[GeneratedText]:
        """Write an answer to each prompt by its specialist.

        prompts     token ids of each
        batch_size  prompts of this call that are answered at once
        stream      gets the number of a prompt and the next piece of its answer

        Raises AdapterError for a specialist whose output is not a number, and what `CausalSpecialist.begin_answers` raises.
        """
        results: dict[int, GeneratedText] = {}
        together: dict[Scheduler, list[tuple[int, Request]]] = {}
        for specialist in dict.fromkeys(specialists):
            rows = [row for row, owner in enumerate(specialists) if owner is specialist]
            scheduler, adapter = self._find_scheduler(specialist)
            if scheduler is None:
                written = specialist.write(
                    [prompts[row] for row in rows],
                    decoding,
                    batch_size=batch_size,
                    stream=renumber(stream, rows),
                    progress=progress,
                )
                results |= zip(rows, written, strict=True)
                continue
            answers = specialist.begin_answers([prompts[row] for row in rows], decoding, streamed=stream is not None)
            requests = [(row, Request(prompts[row], adapter, a)) for row, a in zip(rows, answers, strict=True)]
            together.setdefault(scheduler, []).extend(requests)
        for scheduler, requests in together.items():
            _run(scheduler, requests, batch_size, stream, progress)
            results |= {row: request.answer.result for row, request in requests}
        return [results[row] for row in range(len(prompts))]

    def _find_scheduler(self, specialist: CausalSpecialist) -> tuple[Scheduler | None, LowRank | None]:
        """The scheduler of a specialist's base and its adapter, None within `use_base`; (None, None) if transformers has to write."""
        if self._process != os.getpid():  # a thread that was not copied may have held the locks
            self.__init__()  # type: ignore[misc]
        model = specialist.backbone.get_base_model()
        with self._lock, torch.inference_mode():
            adapter = None
            if not computes_base() and (adapter := self._read_adapter(specialist, model)) is None:
                return None, None
            base = _describe(model, lora=False)
            if self._base != base:
                decoder = read_decoder(model)
                self._base, self._scheduler = base, None if decoder is None else Scheduler(decoder)
            return self._scheduler, adapter

    def _read_adapter(self, specialist: CausalSpecialist, model: Any) -> LowRank | None:
        """The adapter, read again if a number of it has changed."""
        own = specialist.backbone
        state = own.describe_weights() if isinstance(own, AdaptedModel) else _describe(model, lora=True)
        known = self._low_ranks.get(specialist)
        if known is None or known[0] != state:
            known = self._low_ranks[specialist] = state, read_low_rank(model)
        return known[1]


def _describe(model: Any, *, lora: bool) -> State:
    """The memory of the adapter's tensors, or of all others, each with its count of changes."""
    tensors = [tensor for name, tensor in model.named_parameters() if ("lora_" in name) == lora]
    return tuple((tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for tensor in tensors)


def _run(
    scheduler: Scheduler, requests: Sequence[tuple[int, Request]], batch_size: int, stream: Stream | None, progress: Progress
) -> None:
    """Answer requests, `batch_size` at once."""
    waiting = deque(requests)
    running: list[tuple[int, Request]] = []
    try:
        while waiting or running:
            while waiting and len(running) < batch_size:
                running.append(waiting.popleft())
                if not running[-1][1].done:
                    scheduler.submit(running[-1][1])
            scheduler.step([request for _, request in running])
            for row, request in running:
                if request.error is not None:
                    raise request.error
                if stream is not None and (piece := request.answer.take_piece()):
                    stream(row, piece)
            left = [(row, request) for row, request in running if not request.done]
            if len(left) < len(running):
                progress("writing", 1 - (len(left) + len(waiting)) / len(requests))
            running = left
    finally:
        scheduler.cancel(request for _, request in (*running, *waiting) if not request.done)
