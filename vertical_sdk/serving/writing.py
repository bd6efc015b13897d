"""Written answers of many clients: each has a thread, and all of them share the engine's batch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import nullcontext

from vertical_sdk.families.continuation import Decoding
from vertical_sdk.families.shared_base import use_base
from vertical_sdk.inference.generation import generate
from vertical_sdk.inference.inputs import as_turns
from vertical_sdk.serving.problems import Busy, Cancelled, Closed, TooSlow
from vertical_sdk.serving.served import Served
from vertical_sdk.types import GeneratedText, Message

__all__ = ["Prompt", "Writers", "Writing"]

Prompt = str | tuple[Message, ...]


class Writing:
    """An answer that is being written.

    deliver  gets it piece by piece, in the thread that writes it
    by_base  the base writes, without the adapter and without the recipe's prompt and cleaners
    deadline of `time.monotonic`
    """

    def __init__(
        self,
        served: Served,
        prompt: Prompt,
        decoding: Decoding,
        *,
        deliver: Callable[[str], None],
        by_base: bool,
        deadline: float,
    ) -> None:
        self.served, self.prompt, self.decoding = served, prompt, decoding
        self.deadline = deadline
        self.future: Future[GeneratedText] = Future()
        self._deliver, self._by_base = deliver, by_base
        self._cancelled = False

    def cancel(self) -> None:
        """Write no more of it: no one waits for it."""
        self._cancelled = True
        self.future.cancel()

    def run(self) -> None:
        """Write it. The future gets the whole answer or the error."""
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self._check()
            self.future.set_result(self._write())
        except BaseException as error:  # noqa: BLE001  (whatever it is, it belongs to the client)
            self.future.set_exception(error)

    def _write(self) -> GeneratedText:
        key, engine = self.served.key, self.served.engine
        with use_base() if self._by_base else nullcontext():
            if self._by_base:
                prompt = (Message("user", self.prompt),) if isinstance(self.prompt, str) else self.prompt
                turns = as_turns(prompt, 0, self.served.adapter.recipe)
                (written,) = engine.generate([turns], [key], decoding=self.decoding, stream=self._take)
            else:
                prompts: list[Prompt] = [self.prompt]
                (written,) = generate(engine, prompts, key, self.decoding, stream=self._take)  # type: ignore[arg-type]
        self.served.require_valid()
        return written

    def _take(self, _row: int, piece: str) -> None:
        self._check()
        self._deliver(piece)

    def _check(self) -> None:
        """Raise if no one waits, the time is over, or the version was revoked."""
        if self._cancelled:
            raise Cancelled
        if time.monotonic() > self.deadline:
            raise TooSlow("the answer was not written in time. Ask for fewer tokens, or come back later.")
        self.served.require_valid()


class Writers:
    """Threads that write answers.

    writers  answers that are written at once
    waiting  those that wait besides; above it, clients get an error and try again later
    """

    def __init__(self, *, writers: int, waiting: int) -> None:
        self._pool = ThreadPoolExecutor(writers, thread_name_prefix="vertical-writer")
        self._most = writers + waiting
        self._lock = threading.Lock()
        self._open: set[Writing] = set()

    def __len__(self) -> int:
        return len(self._open)

    def submit(self, writing: Writing) -> None:
        """Let an answer be written; its specialist stays loaded until then. Raises Busy, Closed."""
        with self._lock:
            if len(self._open) >= self._most:
                raise Busy(f"{len(self._open)} answers are being written or wait already. Come back later.")
            self._open.add(writing)
        writing.served.acquire()
        writing.future.add_done_callback(lambda _: self._end(writing))
        try:
            self._pool.submit(writing.run)
        except RuntimeError:  # it was shut down
            writing.future.cancel()
            raise Closed("this server ends, and takes no more requests. Ask another one.") from None

    def close(self, timeout: float) -> None:
        """Write the answers that were started or wait, and take no more. After a time in seconds the rest is given up."""
        self._pool.shutdown(wait=False)
        with self._lock:
            open_now = list(self._open)
        wait([writing.future for writing in open_now], timeout)
        for writing in open_now:
            writing.cancel()
        self._pool.shutdown(wait=True)

    def _end(self, writing: Writing) -> None:
        writing.served.release()
        with self._lock:
            self._open.discard(writing)
