"""VerticalModel: one base, one or more specialists on it."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.adapters.folder import find_adapter
from vertical_sdk.adapters.load import open_specialist
from vertical_sdk.baselines.frozen_base import FrozenBase
from vertical_sdk.baselines.stacking import ENSEMBLE, Ensemble, load_ensemble
from vertical_sdk.bases.base import Base, pull_base
from vertical_sdk.calibration.intervals import widen_quantiles
from vertical_sdk.card import Card, read_card
from vertical_sdk.data.clean import normalize_texts
from vertical_sdk.data.texts import format_prompt
from vertical_sdk.errors import AdapterError, DataError
from vertical_sdk.families.batching import Encoded
from vertical_sdk.families.chat import encode_turns
from vertical_sdk.families.specialist import Specialist, load_backbone, run_rows
from vertical_sdk.inference.forecast import Forecast, Monitor, as_forecast, as_history
from vertical_sdk.inference.inputs import Asked, as_rows
from vertical_sdk.paths import report_full_disk
from vertical_sdk.recipe import Recipe
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, Message, Prediction, Progress, silent

if TYPE_CHECKING:
    from vertical_sdk.registry import Registry

__all__ = ["VerticalModel"]


@dataclass(frozen=True)
class _Loaded:
    specialist: Specialist
    card: Card
    folder: Path
    ensemble: Ensemble | None


class VerticalModel:
    """A general base with specialists on it. Make one with `from_registry` or `from_pretrained`.

    Loading checks the base's fingerprint, every tensor's name and shape and every file's digest, and replays the adapter's
    probes; what does not hold is an error. A VerticalModel never answers as the bare base.
    """

    def __init__(self, base: Base, backbone: Any) -> None:
        self._base = base
        self._backbone = backbone
        self._loaded: dict[str, _Loaded] = {}
        self._active = ""
        self._slots: dict[str, str] = {}

    @classmethod
    def from_registry(
        cls,
        reference: str,
        registry: Registry | None = None,
        *,
        base: str | None = None,
        allow_revoked: Collection[str] = (),
        progress: Progress = silent,
    ) -> VerticalModel:
        """The specialist that a reference names: "medical/icd-chapter@production", "...@3", "...@sha256:…".

        registry       where to look; the local one where there is none
        base           another place of the same base model, such as a local folder
        allow_revoked  versions ("medical/icd-chapter@3") that may be used although they were revoked

        Raises RegistryError, and what `from_pretrained` raises.
        """
        from vertical_sdk.registry import Registry

        version = (registry or Registry()).resolve(reference, allow_revoked=allow_revoked)
        return cls.from_pretrained(version.path, name=reference, base=base, progress=progress)

    @classmethod
    def from_pretrained(
        cls, path: str | Path, *, name: str | None = None, base: str | None = None, progress: Progress = silent
    ) -> VerticalModel:
        """The specialist in a run's folder or an adapter's folder.

        name  what it is called here; its card's name where there is none
        base  another place of the same base model, such as a local folder

        Raises CorruptAdapter, BaseMismatch, IdleAdapter, BaseModelError, OfflineError.
        """
        folder = find_adapter(Path(path))
        card = read_card(folder)
        pulled = pull_base(base or card.base.name, revision=card.base.revision, progress=progress)
        model = cls(pulled, None)
        model._put(folder, name or card.name)
        model._active = name or card.name
        return model

    def add(self, adapter: str | Path, registry: Registry | None = None, *, name: str | None = None) -> str:
        """Put one more specialist on the same base.

        adapter  a registry reference, a run's folder or an adapter's folder
        returns  the name by which `predict` and `use` know it

        Raises BaseMismatch where it was made for another base, and what `from_pretrained` raises; the model is then as before.
        """
        called = name or str(adapter)
        if called in self._loaded:
            raise AdapterError(f"an adapter is already called {called!r} here; give another name=.")
        self._put(find_adapter(adapter, registry), called)
        return called

    def use(self, name: str) -> VerticalModel:
        """Make one of the specialists the one that answers where none is named.

        Raises AdapterError that lists those that are loaded.
        """
        self._active = self._known(name)
        return self

    @property
    def adapters(self) -> tuple[str, ...]:
        """The names of the specialists that are loaded."""
        return tuple(self._loaded)

    @property
    def card(self) -> Card:
        """The card of the specialist in use."""
        return self._loaded[self._active].card

    @property
    def base(self) -> Base:
        """The base model that all specialists stand on."""
        return self._base

    def specialist(self, name: str | None = None) -> Specialist:
        """One specialist, switched on, as a torch module."""
        loaded = self._loaded[self._known(name or self._active)]
        self._backbone.set_adapter(self._slot(name or self._active))
        return loaded.specialist

    def predict(self, texts: Sequence[Asked], *, adapters: Sequence[str] | None = None) -> list[Prediction]:
        """What the specialist in use says about each text, record, series or picture; a batch may mix specialists.

        texts     one an answer: a text; {field: value} for a specialist that reads records (`card.fields`); an array (steps,) or
                  (steps, channels) for one that reads series; the path of a PNG or JPEG, or bytes (height, width) or
                  (height, width, 3), for one that reads pictures; or a row as a reader gives it. What is not in a list is refused,
                  as a text would be read letter by letter
        adapters  for each text the specialist to ask; the one in use where there is none

        Raises DataError for what the specialist does not read, AdapterError for one that is not loaded or does something else.
        """
        if isinstance(texts, str | Path | Mapping | np.ndarray):
            raise DataError("predict takes a list of texts, records, series or pictures; for one text write predict([text]).")
        names = [self._active] * len(texts) if adapters is None else [self._known(name) for name in adapters]
        if len(names) != len(texts):
            raise DataError(f"{len(texts)} texts but {len(names)} adapters: give one adapter for each text.")
        answers: dict[int, Prediction] = {}
        for name in dict.fromkeys(names):
            positions = [number for number, owner in enumerate(names) if owner == name]
            card = self._loaded[name].card
            _refuse_other_tasks(card, name)
            rows = as_rows([texts[number] for number in positions], positions, card, name)
            answers |= zip(positions, self._predict(rows, name), strict=True)
        return [answers[number] for number in range(len(texts))]

    def outputs(
        self, examples: Sequence[Example], *, fused: bool = True, name: str | None = None, progress: Progress = silent
    ) -> NDArray[np.float32]:
        """Raw outputs of a specialist, before calibration: (rows, labels) logits, or (rows, 1) for regression.

        fused  with its members, where it has any; else the adapter alone
        name   which specialist; the one in use where there is none
        """
        return self._ask(examples, name or self._active, fused=fused, progress=progress)[0]

    def forecast(self, history: Any, horizon: int | None = None, *, adapter: str | None = None) -> Forecast:
        """What comes after a history of measured values.

        history  a DataFrame with a column a channel and times as its index, oldest first, or an array (steps, channels); NaN and left
                 out steps count as not measured. The last `card.layout.history` steps are read
        horizon  steps ahead, at most `card.layout.horizon`, which is meant where it is None

        Raises AdapterError for a specialist that forecasts nothing; DataError for channels or times that it does not know.
        """
        name = self._known(adapter or self._active)
        card = self._loaded[name].card
        if get_task(card.task).verb != "forecast" or card.layout is None:
            raise AdapterError(f"{name}: is made for {card.task}, and forecasts nothing; use predict.")
        layout = card.layout
        row, last = as_history(history, layout, name)
        outputs, _ = self._ask([row], name)
        found = widen_quantiles(outputs[0:1], card.calibration.widths)[0]
        return as_forecast(found, (0.5, *sorted(Recipe.model_validate(card.recipe).series.quantiles)), layout, last, horizon)

    def monitor(self, *, adapter: str | None = None) -> Monitor:
        """A watch over values as they come in: `update(value, time)` says how unusual each is, and whether that is an alarm.

        Raises AdapterError for a specialist that was not trained for anomalies.
        """
        name = self._known(adapter or self._active)
        card = self._loaded[name].card
        if get_task(card.task).verb != "monitor" or card.layout is None:
            raise AdapterError(f"{name}: is made for {card.task}, and watches nothing; use predict.")
        return Monitor(card, lambda row: self._ask([row], name)[0][0])

    @property
    def ensemble(self) -> Ensemble | None:
        """What stands beside the adapter in use; None where it answers alone."""
        return self._loaded[self._active].ensemble

    def generate(
        self,
        prompts: Sequence[str] | Sequence[Sequence[Message]],
        *,
        max_new_tokens: int = 128,
        batch_size: int = 8,
        adapter: str | None = None,
        progress: Progress = silent,
    ) -> list[str]:
        """What the specialist writes, choosing the likeliest token each time.

        prompts  texts, put into the recipe's prompt; or conversations that end with the user's turn. They are cleaned as training rows
                 were

        Raises AdapterError where the base is an encoder, which cannot write.
        """
        from vertical_sdk.families.causal import CausalSpecialist

        specialist = self.specialist(adapter)
        if not isinstance(specialist, CausalSpecialist):
            raise AdapterError(f"{adapter or self._active}: {self._base.name} is an encoder and cannot write; use predict.")
        turns = [format_prompt(specialist.prompt, p) if isinstance(p, str) else tuple(p) for p in prompts]
        recipe = Recipe.model_validate(self._loaded[adapter or self._active].card.recipe)
        cleaned, _ = normalize_texts([Example(id=str(n), messages=messages) for n, messages in enumerate(turns)], recipe)
        rows = [encode_turns(specialist.tokenizer, row.messages, specialist.max_length) for row in cleaned]
        return specialist.write(rows, max_new_tokens=max_new_tokens, batch_size=batch_size, progress=progress)

    def save_pretrained(self, path: str | Path) -> None:
        """Copy the adapter in use, complete, into a folder that is new or empty.

        Raises AdapterError where the folder holds something, RunError where it cannot be written.
        """
        target = Path(path)
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise AdapterError(f"{target}: is not empty; choose a new folder.")
        with report_full_disk(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            staged = target.with_name(f".{target.name}.part")
            shutil.rmtree(staged, ignore_errors=True)
            try:
                shutil.copytree(self._loaded[self._active].folder, staged)
                if target.exists():
                    target.rmdir()
                staged.rename(target)
            finally:
                shutil.rmtree(staged, ignore_errors=True)

    def _predict(self, examples: Sequence[Example], name: str) -> list[Prediction]:
        card = self._loaded[name].card
        outputs, rows = self._ask(examples, name)
        task = get_task(card.task)
        decoded = task.decode(outputs, card.calibration)
        return task.to_predictions(decoded, card.labels, [row.cut for row in rows], name)

    def _ask(
        self, examples: Sequence[Example], name: str, *, fused: bool = True, progress: Progress = silent
    ) -> tuple[NDArray[np.float32], list[Encoded]]:
        """Raw outputs, and the rows as the specialist read them."""
        specialist = self.specialist(name)
        rows = [specialist.encode(example, learn=False) for example in examples]
        outputs: NDArray[np.float32] = run_rows(
            specialist,
            rows,
            lambda batch: specialist(batch)[0],
            progress=lambda share: progress("asking the specialist", share),
        ).numpy()
        ensemble = self._loaded[name].ensemble
        if ensemble is not None and fused and len(examples):
            outputs = ensemble.combine(outputs, examples, FrozenBase(specialist, progress=progress))
        return outputs, rows

    def _put(self, folder: Path, name: str) -> None:
        backbone = self._backbone if self._backbone is not None else load_backbone(self._base)
        specialist, card, self._backbone = open_specialist(folder, self._slot(name), self._base, backbone)
        self._loaded[name] = _Loaded(specialist, card, folder, load_ensemble(folder) if ENSEMBLE in card.files else None)

    def _slot(self, name: str) -> str:
        """What PEFT calls the adapter: module names take no dots, so names are numbered."""
        return self._slots.setdefault(name, f"a{len(self._slots)}")

    def _known(self, name: str) -> str:
        if name not in self._loaded:
            raise AdapterError(f"no adapter is called {name!r} here. Loaded: {', '.join(self._loaded)}.")
        return name


def _refuse_other_tasks(card: Card, name: str) -> None:
    """Raise AdapterError for a specialist that `predict` is not for."""
    verb = get_task(card.task).verb
    if verb != "predict":
        raise AdapterError(f"{name}: is a {card.task} specialist. Call {verb}() instead of predict().")
