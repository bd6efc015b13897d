"""The answers of specialists: raw outputs by an engine, then members and calibration.

`predict`, evaluation and promotion all come here, so what is measured is what is served.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.adapters.folder import Adapter
from vertical_sdk.baselines.frozen_base import FrozenBase
from vertical_sdk.engines import Engine
from vertical_sdk.errors import AdapterError
from vertical_sdk.inference.inputs import clean_turns
from vertical_sdk.outputs import Outputs
from vertical_sdk.tasks import get_task
from vertical_sdk.tasks.task import UNCALIBRATED
from vertical_sdk.types import Example, Progress, silent

__all__ = ["Answer", "answer"]


@dataclass(frozen=True, eq=False)
class Answer:
    """What one specialist answers to its rows; each step is computed when it is first read, and once.

    adapter    which one
    rows       the rows it read
    positions  their places in the batch
    own        the adapter's raw outputs: (rows, k) logits or numbers, (rows, steps, channels, quantiles) for series;
               None for generation
    texts      for generation
    cut        tokens of each row that did not fit
    unknown    tokens of each row that the base's vocabulary does not have; 0 for generation
    control    control tokens that are written in each row; 0 for generation
    general    returns the base as members read it
    """

    adapter: Adapter
    rows: Sequence[Example]
    positions: Sequence[int]
    own: NDArray[np.float32] | None
    texts: list[str] | None
    cut: Sequence[int]
    unknown: Sequence[int]
    control: Sequence[int]
    general: Callable[[], FrozenBase]

    @property
    def own_raw(self) -> NDArray[np.float32]:
        """`own` of a task with numbers.

        Raises AdapterError for generation.
        """
        if self.own is None:
            raise AdapterError(f"a {self.adapter.card.task} specialist has no raw outputs. Call generate().")
        return self.own

    @functools.cached_property
    def raw(self) -> NDArray[np.float32]:
        """The raw outputs of adapter and members together, in the shape of `own`; of the members alone if there is no adapter."""
        ensemble = self.adapter.ensemble
        if self.adapter.card.members_only and ensemble is not None:
            return ensemble.combine_without(self.gathered)
        self._require_finite(self.own_raw)
        return self.own_raw if ensemble is None or not self.rows else ensemble.combine(self.own_raw, self.gathered, self.rows)

    @functools.cached_property
    def gathered(self) -> list[NDArray[np.float64]]:
        """The evidence of each member of the ensemble about the rows; [] without an ensemble."""
        ensemble = self.adapter.ensemble
        base = None if self.adapter.card.members_only else self.general()
        return [] if ensemble is None else ensemble.gather(self.rows, base)

    @functools.cached_property
    def outputs(self) -> Outputs:
        """What the specialist answers: with members, calibrated."""
        if self.texts is not None:
            return Outputs(texts=self.texts)
        card = self.adapter.card
        outputs = get_task(card.task).decode(self.raw, card.calibration, self.rows)
        for numbers in (outputs.probabilities, outputs.values, outputs.quantiles):
            if numbers is not None:
                self._require_finite(numbers)
        return outputs

    def _require_finite(self, numbers: NDArray[Any]) -> None:
        """Raise AdapterError that names the first row with a number that is not finite."""
        wrong = np.flatnonzero(~np.isfinite(numbers.reshape(len(numbers), -1)).all(axis=1)) if len(numbers) else numbers[:0]
        if len(wrong):
            raise AdapterError(
                f"{self.adapter.card.name} answers {self.rows[int(wrong[0])].id!r} with a number that is not finite. Its weights or its "
                "calibration are wrong, so none of its answers can be used. Train it again, or load another version."
            )

    @functools.cached_property
    def alone(self) -> Outputs:
        """What the adapter answers without members and without the calibration, both of which were fitted for the whole."""
        own = self.adapter.ensemble.own if self.adapter.ensemble is not None else UNCALIBRATED
        return get_task(self.adapter.card.task).decode(self.own_raw, own, self.rows)

    @property
    def without_adapter(self) -> Outputs:
        """What the members answer without the adapter: with the stacker and the calibration that were fitted for them alone.

        Raises AdapterError for an adapter without members, or one of an earlier version.
        """
        if self.adapter.ensemble is None:
            raise AdapterError(f"{self.adapter.card.name} has no members.")
        return self.adapter.ensemble.answer_without(self.gathered, self.rows)


def answer(
    engine: Engine,
    rows: Sequence[Example],
    adapters: str | Sequence[str],
    *,
    general: FrozenBase | None = None,
    batch_size: int | None = None,
    progress: Progress = silent,
) -> dict[str, Answer]:
    """Answer rows by one specialist, or by one for each row; each adapter reads its rows once.

    rows        for generation, conversations whose last turn is the reference, which is not shown to the specialist
    adapters    a name for all rows, or one name for each
    general     the base as members read it, if features of these rows are in memory already
    batch_size  rows in one pass through the base; None: the engine's own limit

    returns  name → Answer

    Raises AdapterError for a name that is not loaded, DataError for a row that the specialist cannot read.
    """
    names = [adapters] * len(rows) if isinstance(adapters, str) else list(adapters)
    groups: dict[str, list[int]] = {adapters: []} if isinstance(adapters, str) else {}
    for position, name in enumerate(names):
        groups.setdefault(name, []).append(position)
    loaded = {name: engine.adapter(name) for name in groups}
    read = [n for n, name in enumerate(names) if not get_task(loaded[name].card.task).written]
    outputs = engine.outputs([rows[n] for n in read], [names[n] for n in read], batch_size=batch_size, progress=progress)
    raw = dict(zip(read, outputs, strict=True))
    answers = {}
    for name, positions in groups.items():
        own, texts = None, None
        own_rows = [rows[n] for n in positions]
        if get_task(loaded[name].card.task).written:
            prompts = clean_turns([row.messages[:-1] for row in own_rows], loaded[name].recipe)
            texts = [written.text for written in engine.generate(prompts, [name] * len(prompts), progress=progress)]
        else:
            own = np.stack([raw[n].values for n in positions]) if positions else np.zeros(0, np.float32)
        answers[name] = Answer(
            loaded[name],
            own_rows,
            positions,
            own,
            texts,
            [raw[n].cut if n in raw else 0 for n in positions],
            [raw[n].unknown if n in raw else 0 for n in positions],
            [raw[n].control if n in raw else 0 for n in positions],
            functools.partial(_general, engine, name, general, progress),
        )
    return answers


def _general(engine: Engine, name: str, general: FrozenBase | None, progress: Progress) -> FrozenBase:
    return general or engine.general(name, progress)
