"""Specialists that answer: references to versions, versions to engines, and the queues of the engines."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vertical_sdk.bases.base import Base
from vertical_sdk.engines import Engine
from vertical_sdk.errors import DataError
from vertical_sdk.families.continuation import Decoding
from vertical_sdk.inference.forecast import Forecast
from vertical_sdk.inference.inputs import Input, as_rows, require_text
from vertical_sdk.registry import Registry
from vertical_sdk.serving.answers import Embeddings, Texts, embed_together, forecast_together, predict_together
from vertical_sdk.serving.batching import Batcher, Compute, Job
from vertical_sdk.serving.engines import Engines, name_base
from vertical_sdk.serving.problems import WrongModel
from vertical_sdk.serving.served import Served
from vertical_sdk.serving.settings import ServingSettings
from vertical_sdk.serving.specialists import Specialists
from vertical_sdk.serving.writing import Prompt, Writers, Writing
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Prediction, Progress, silent

__all__ = ["Answerer", "Serving", "require_verb"]

Log = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, eq=False)
class Answerer:
    """Who answers a request: a specialist, or the base that it reads with.

    served   the specialist; of a base, one through which the base reads
    by_base  the name of the base, if it answers without an adapter
    """

    served: Served
    by_base: str = ""


class Serving:
    """Answers requests for the specialists of a registry. Every method may be called from many threads at once.

    bases          places of bases, such as folders; without them a base is found by the name on an adapter's card
    log            receives a dict for each change of what is served
    observe_batch  called with the rows of each batch
    """

    def __init__(
        self,
        registry: Registry,
        settings: ServingSettings | None = None,
        *,
        bases: Sequence[str] = (),
        log: Log = lambda _: None,
        observe_batch: Callable[[int], None] = lambda _: None,
        progress: Progress = silent,
    ) -> None:
        self.settings = settings or ServingSettings()
        self._engines = Engines(self.settings, bases, progress)
        self.specialists = Specialists(registry, self._engines, log)
        self._observe_batch = observe_batch
        self._batchers: dict[int, Batcher] = {}
        self._writers = Writers(writers=self.settings.writers, waiting=self.settings.waiting)
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._follower = threading.Thread(target=self._follow, name="vertical-follower", daemon=True)

    def start(self, references: Iterable[str]) -> None:
        """Load and check what is to be served, then follow the registry until `close`.

        Raises the error of the first reference that cannot be served, with its name.
        """
        for reference in references:
            self.specialists.add(reference)
        self._follower.start()

    def close(self, timeout: float = 30.0) -> None:
        """Answer what waits, and take no more requests."""
        self._ended.set()
        for batcher in list(self._batchers.values()):
            batcher.close(timeout)
        self._writers.close(timeout)
        if self._follower.is_alive():
            self._follower.join(timeout)

    @property
    def waiting(self) -> int:
        """Requests that wait for an engine or are being written."""
        return sum(map(len, list(self._batchers.values()))) + len(self._writers)

    @property
    def bases(self) -> dict[str, Base]:
        """The loaded bases by the names that clients use."""
        return {name_base(base): base for base in self._engines.bases}

    @contextmanager
    def using(self, model: str, family: str = "") -> Iterator[Answerer]:
        """Find who answers for a model, and keep it loaded within the block.

        model   a reference, or the name of a base
        family  what a base needs to answer: "encoder" for embeddings, "causal" for texts; "" if bases do not answer this request

        Raises UnknownModel, RevokedModel; WrongModel for a base that does not answer.
        """
        base = self.bases.get(model)
        answerer = Answerer(self.specialists.take(model)) if base is None else self._take_reader(model, base, family)
        try:
            yield answerer
        finally:
            answerer.served.release()

    def predict(self, served: Served, inputs: Sequence[Input]) -> Future[list[Prediction]]:
        """Predict inputs as `VerticalModel.predict` does, together with those of other requests.

        Raises DataError for an input that the specialist cannot read, WrongModel for one of another task; Busy, Closed.
        """
        self._check_count(len(inputs))
        require_verb(served, "predict")
        if served.adapter.recipe.data.modality == "image" and any(isinstance(one, str | Path) for one in inputs):
            raise DataError("a picture is given by its content, never by a path of this machine.")
        rows = as_rows(inputs, range(len(inputs)), served.adapter, str(served.version))
        return self._submit(served, predict_together, rows, len(rows))

    def forecast(self, served: Served, history: Any, horizon: int | None) -> Future[Forecast]:
        """Forecast as `VerticalModel.forecast` does. Raises WrongModel for a specialist of another task; Busy, Closed."""
        require_verb(served, "forecast")
        return self._submit(served, forecast_together, (history, horizon), 1)

    def embed(self, answerer: Answerer, texts: Sequence[str]) -> Future[Embeddings]:
        """Embed texts by an encoder, with its adapter or as the base. Raises DataError, WrongModel, Busy, Closed."""
        self._check_count(len(texts))
        served, card = answerer.served, answerer.served.adapter.card
        if answerer.by_base:
            read = [require_text(text, f"text {number}", "every text") for number, text in enumerate(texts)]
        elif card.family == "encoder" and not card.fields:
            read = [row.text for row in as_rows(texts, range(len(texts)), served.adapter, str(served.version))]
        else:
            raise WrongModel(f"{served.version} does not read texts with an encoder, so it has no embeddings.")
        return self._submit(served, embed_together, Texts(tuple(read), bool(answerer.by_base)), len(read))

    def write(
        self, answerer: Answerer, prompt: Prompt, decoding: Decoding, deliver: Callable[[str], None] = lambda _: None
    ) -> Writing:
        """Begin to write an answer as `VerticalModel.generate` does, together with those of other requests.

        deliver  gets the answer piece by piece, in another thread

        Raises WrongModel for a specialist that does not write, DataError for too many tokens; Busy, Closed.
        """
        served = answerer.served
        if not answerer.by_base:
            require_verb(served, "generate")
        if decoding.max_new_tokens > self.settings.longest:
            raise DataError(
                f"{decoding.max_new_tokens} tokens are too many: this server writes at most {self.settings.longest}."
            )
        deadline = time.monotonic() + self.settings.timeout
        by_base = bool(answerer.by_base)
        writing = Writing(served, prompt, decoding, deliver=deliver, by_base=by_base, deadline=deadline)
        self._writers.submit(writing)
        return writing

    def _take_reader(self, name: str, base: Base, family: str) -> Answerer:
        """A specialist through which a base reads, kept loaded."""
        if not family:
            raise WrongModel(f"{name} is a base without an adapter, which cannot answer this. Name a specialist.")
        served = self.specialists.take_reader(family, base.fingerprint.weights)
        if served is None:
            kind = "an encoder" if family == "encoder" else "a base that writes"
            raise WrongModel(f"{name} answers this only as {kind}, and while a specialist for texts is served on it.")
        return Answerer(served, name)

    def _submit(self, served: Served, compute: Compute, inputs: Any, size: int) -> Future[Any]:
        deadline = time.monotonic() + self.settings.timeout
        return self._find_batcher(served.engine).submit(Job(served, compute, inputs, size, deadline))

    def _find_batcher(self, engine: Engine) -> Batcher:
        with self._lock:
            if id(engine) not in self._batchers:
                self._batchers[id(engine)] = Batcher(
                    waiting=self.settings.waiting, rows=self.settings.batch, observe=self._observe_batch
                )
            return self._batchers[id(engine)]

    def _check_count(self, count: int) -> None:
        if not 1 <= count <= self.settings.rows:
            raise DataError(f"a request has 1 to {self.settings.rows} inputs, and this one has {count}.")

    def _follow(self) -> None:
        while not self._ended.wait(self.settings.poll):
            self.specialists.refresh()


def require_verb(served: Served, verb: str) -> None:
    """Raise WrongModel for a specialist whose task has another verb, or that answers nothing."""
    card = served.adapter.card
    task = get_task(card.task)
    if task.unlabelled:
        raise WrongModel(f"{served.version} learned from texts without labels and answers nothing.")
    if task.verb != verb:
        raise WrongModel(f"{served.version} is a {card.task} specialist. It answers {task.verb}, not {verb}.")
