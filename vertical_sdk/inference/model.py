"""VerticalModel: one base with one or more specialists on it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.adapters.folder import Adapter, copy_adapter, open_adapter, read_adapter
from vertical_sdk.bases.base import Base, pull_base
from vertical_sdk.card import Card
from vertical_sdk.engines import Engine, Stream
from vertical_sdk.engines.members import MembersEngine
from vertical_sdk.families.continuation import Decoding
from vertical_sdk.families.specialist import Specialist
from vertical_sdk.families.structured import read_schema
from vertical_sdk.inference.answer import Answer, answer
from vertical_sdk.inference.batches import list_inputs
from vertical_sdk.inference.forecast import Forecast, Monitor, create_monitor, forecast
from vertical_sdk.inference.generation import generate
from vertical_sdk.inference.inputs import Input
from vertical_sdk.inference.predictions import label_names, predict, predict_iter, predict_proba
from vertical_sdk.tables import ENGINES
from vertical_sdk.types import Example, GeneratedText, Message, Prediction, Progress, log_progress

if TYPE_CHECKING:
    from vertical_sdk.registry import Registry

__all__ = ["VerticalModel"]


class VerticalModel:
    """A general base with specialists on it. Create one with `from_registry` or `from_pretrained`.

    Loading checks fingerprint, tensors and digests and replays the self-tests; a VerticalModel never answers as the bare base.
    Every method may be called from many threads at once; only `use` changes what other calls do.
    """

    def __init__(self, engine: Engine, active: str = "") -> None:
        self.engine = engine
        self._active = active

    def __repr__(self) -> str:
        names = ", ".join(f"{name!r} (in use)" if name == self._active else repr(name) for name in self.adapters)
        alone = any(self.engine.adapter(name).card.members_only for name in self.adapters)
        base = "members without a base" if alone else f"on {self.base.name}"
        return f"<VerticalModel {base}: {names}>"

    @classmethod
    def from_registry(
        cls, reference: str, registry: Registry | None = None, *, allow_revoked: Collection[str] = (), **options: Any
    ) -> VerticalModel:
        """Load the specialist that a reference names: "medical/icd-chapter@production", "...@3", "...@sha256:…".

        registry       where to look; None: the local registry
        allow_revoked  versions ("medical/icd-chapter@3") that may be used although they were revoked
        options        base, device, dtype and progress of `from_pretrained`, which raises; and RegistryError
        """
        from vertical_sdk.registry import Registry

        version = (registry or Registry()).resolve(reference, allow_revoked=allow_revoked)
        return cls.from_adapter(read_adapter(version), name=reference, **options)

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        name: str | None = None,
        base: str | None = None,
        device: str | None = None,
        dtype: str = "float32",
        progress: Progress = log_progress,
    ) -> VerticalModel:
        """Load the specialist in a run folder or an adapter folder.

        name    what to call it here; None: the name on its card
        base    another place of the same base model, such as a local folder
        device  such as "cpu" or "cuda:1"; None: a GPU if there is one
        dtype   what texts, series and pictures are read in: "float32"; "bfloat16", which can be several times as fast and changes
                probabilities a little; or "auto", the faster one as measured on this machine

        Raises CorruptAdapter, BaseMismatch, IdleAdapter, BaseModelError, OfflineError; AdapterError if the device is not available; and
        RegistryError if the policy of the environment requires signatures, which a folder does not have.
        """
        return cls.from_adapter(open_adapter(Path(path)), name=name, base=base, device=device, dtype=dtype, progress=progress)

    @classmethod
    def from_adapter(
        cls,
        adapter: Adapter,
        *,
        name: str | None = None,
        base: str | None = None,
        device: str | None = None,
        dtype: str = "float32",
        progress: Progress = log_progress,
    ) -> VerticalModel:
        """Load an adapter that `open_adapter` found; for the options see `from_pretrained`, which raises."""
        if adapter.card.members_only:
            members = MembersEngine()
            return cls(members, members.load(adapter, name or adapter.card.name))
        trained_on = adapter.card.base
        pulled = pull_base(base or trained_on.name, revision=trained_on.revision, progress=progress)
        engine: Engine = ENGINES.load("torch")(pulled, device=device, dtype=dtype)
        return cls(engine, engine.load(adapter, name or adapter.card.name))

    def add(self, adapter: str | Path, registry: Registry | None = None, *, name: str | None = None) -> str:
        """Load one more specialist from a reference, a run folder or an adapter folder, and return its name for `use`.

        adapter  as for `find_adapter`: a text is a reference unless it starts with "./", "../", "/", "~" or "runs/"

        Raises BaseMismatch, and what `from_pretrained` raises; the model is then as before.
        """
        return self.engine.load(open_adapter(adapter, registry), name or str(adapter))

    def use(self, name: str) -> VerticalModel:
        """Choose the specialist that answers if a call names none. Raises AdapterError, which lists the loaded ones."""
        self.engine.adapter(name)
        self._active = name
        return self

    @property
    def adapter(self) -> Adapter:
        """The adapter in use: its card, recipe and folder."""
        return self.engine.adapter(self._active)

    @property
    def adapters(self) -> tuple[str, ...]:
        """The names of the loaded specialists."""
        return self.engine.adapters

    @property
    def card(self) -> Card:
        """The card of the specialist in use."""
        return self.adapter.card

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the specialist in use, as `predict_proba` orders its columns; () if it has none."""
        return label_names(self.card)

    @property
    def base(self) -> Base:
        """The base model of all specialists."""
        return self.engine.base

    def specialist(self, name: str | None = None) -> Specialist:
        """Return a specialist as a torch module; None: the one in use."""
        return self.engine.general(name or self._active).specialist

    def predict(
        self,
        texts: Iterable[Input],
        *,
        adapters: str | Iterable[str] | None = None,
        top_k: int | None = None,
        batch_size: int | None = None,
        progress: Progress = log_progress,
    ) -> list[Prediction]:
        """Predict each text, record, series or picture in a list; a batch may mix specialists.

        texts       a list, tuple, pandas Series (read by position), numpy array of texts, Arrow array, column of `datasets`, or
                    iterator. Each item is a text; {field: value} for a specialist of records (`card.fields`), for which a DataFrame
                    may replace the list; numbers (steps,) or (steps, channels) for one of series; the path of a PNG or JPEG, or
                    bytes (height, width) or (height, width, 3), for one of pictures; or a row of a reader
        adapters    the specialist that answers, or a sequence with one for each text; None: the one in use
        top_k       how many of the likeliest labels to keep in each `Prediction.probabilities`, besides the chosen one; None: all
        batch_size  rows in one pass through the base; None: as many as fit a budget of tokens

        Raises DataError for an input that it cannot read, AdapterError for a specialist that is not loaded or has another task.
        """
        names = self._active if adapters is None else adapters
        return predict(self.engine, texts, names, top_k=top_k, batch_size=batch_size, progress=progress)

    def predict_iter(
        self,
        texts: Iterable[Input],
        *,
        adapter: str | None = None,
        top_k: int | None = None,
        batch_size: int | None = None,
        progress: Progress = log_progress,
    ) -> Iterator[Prediction]:
        """Predict as `predict` does, and yield each Prediction in order; memory does not grow with the number of texts.

        1,024 texts are read, answered together and yielded before the next ones are read, so `texts` may be a generator that reads a
        large file. The arguments and errors are those of `predict`. Wrong arguments raise at once; a text that cannot be read raises,
        by its number from 0, when its chunk is reached.

        adapter  the specialist that answers; None: the one in use at the time of the call
        """
        return predict_iter(self.engine, texts, adapter or self._active, top_k=top_k, batch_size=batch_size, progress=progress)

    def predict_proba(
        self,
        texts: Iterable[Input],
        *,
        adapter: str | None = None,
        batch_size: int | None = None,
        progress: Progress = log_progress,
    ) -> NDArray[np.float64]:
        """Predict the calibrated probability of every label, (texts, labels), in the order of `labels`; raises as `predict` does."""
        return predict_proba(self.engine, texts, adapter or self._active, batch_size=batch_size, progress=progress)

    def answer(self, rows: Sequence[Example], *, name: str | None = None, **options: Any) -> Answer:
        """Answer rows of a reader by one specialist; for `options` see `vertical_sdk.inference.answer`."""
        return answer(self.engine, rows, name or self._active, **options)[name or self._active]

    def outputs(
        self, examples: Sequence[Example], *, fused: bool = True, name: str | None = None, progress: Progress = log_progress
    ) -> NDArray[np.float32]:
        """Raw outputs of a specialist before calibration, (rows, k); `fused` with its members, else of the adapter alone."""
        result = self.answer(examples, name=name, progress=progress)
        return result.raw if fused else result.own_raw

    def forecast(self, history: Any, horizon: int | None = None, *, adapter: str | None = None) -> Forecast:
        """Forecast what comes after a history of measured values.

        history  a DataFrame with a column for each channel and times as its index, oldest first, or an array (steps, channels), of
                 which the last `card.layout.history` steps are read; NaN and missing steps count as not measured
        horizon  steps ahead, at most `card.layout.horizon`; None: all

        Raises AdapterError for a specialist of another task, DataError for a history or a horizon that it cannot use: among others
        times with a zone if it was trained on times without one, and the reverse.
        """
        return forecast(self.engine, adapter or self._active, history, horizon)

    def monitor(self, *, adapter: str | None = None) -> Monitor:
        """Watch values as they arrive: `update(value, time)` returns how unusual each is. Raises AdapterError for other tasks."""
        return create_monitor(self.engine, adapter or self._active)

    def generate(  # noqa: PLR0913  (each is one setting of transformers or of OpenAI's API)
        self,
        prompts: Iterable[str] | Iterable[Sequence[Message]],
        *,
        adapters: str | Iterable[str] | None = None,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int | None = None,
        repetition_penalty: float | None = None,
        seed: int | None = None,
        stop: str | Iterable[str] = (),
        choices: Iterable[str] | None = None,
        json_schema: Mapping[str, Any] | str | None = None,
        batch_size: int = 8,
        stream: Stream | None = None,
        progress: Progress = log_progress,
    ) -> list[GeneratedText]:
        """Write an answer to each prompt; a batch may mix specialists.

        prompts         texts for the recipe's prompt, or conversations that end with the user's turn, in whatever `predict` accepts as a
                        list; cleaned as the training rows were
        adapters        the specialist that answers, or a sequence with one for each prompt; None: the one in use
        max_new_tokens  tokens of an answer at most
        temperature     0 chooses the likeliest token each time; above it tokens are drawn, with softmax(scores / temperature)
        top_p, top_k    tokens are drawn from the likeliest only: those with this probability together, and so many
        repetition_penalty  above 1, tokens that the prompt or the answer has already become less likely, by transformers' formula; None: what
                        the base's generation_config says, usually 1
        seed            of the random numbers of each answer, so that an answer depends on its prompt, its specialist and the seed alone;
                        None: other ones each time
        stop            a text, or up to 16, before which an answer ends
        choices         each answer is one of these texts: at each token where they differ, one that the texts allow is chosen
        json_schema     each answer is a JSON document that follows this schema, a dict or JSON text; needs the extra "structured". An
                        answer with the finish_reason "length" is the beginning of a document
        batch_size      prompts that are answered at once
        stream          called with a prompt's number and the next piece of its answer

        Raises AdapterError if the base cannot write; DataError for a prompt that is too long, for a setting that is not possible and for
        a schema that is wrong or cannot be followed; MissingExtra.
        """
        decoding = Decoding(
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            repetition_penalty=repetition_penalty,
            seed=seed,
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            choices=None if choices is None else tuple(list_inputs(choices, "choices", reads="texts", one="text")),
            json_schema=None if json_schema is None else read_schema(json_schema),
        )
        return generate(
            self.engine,
            prompts,
            self._active if adapters is None else adapters,
            decoding,
            batch_size=batch_size,
            stream=stream,
            progress=progress,
        )

    def save_pretrained(self, path: str | Path) -> None:
        """Copy the complete adapter in use into a folder that is new or empty. Raises AdapterError, RunError."""
        copy_adapter(self.adapter, Path(path))
