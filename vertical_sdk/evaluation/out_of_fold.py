"""Cross-fitting: every row is answered by systems that were trained on the other folds (Stone, 1974; Chernozhukov et al., 2018).

The answers are then calibrated, and pooled with those of the members, by numbers that were fitted on the rows of the other folds. So
no row's answer is calibrated or pooled with the row's own label. The systems of the other folds had learned this label, so it still
has a weak influence on these few numbers; only K² trainings would remove it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.adapters.folder import read_adapter
from vertical_sdk.baselines.fitted import Fitted
from vertical_sdk.baselines.frozen_base import FrozenBase
from vertical_sdk.calibration.stacking import pool
from vertical_sdk.card import Card
from vertical_sdk.catalog import baselines
from vertical_sdk.data.prepare import Prepared
from vertical_sdk.engines import Engine
from vertical_sdk.errors import CorruptAdapter, DataError
from vertical_sdk.families.lora import ADAPTER_WEIGHTS
from vertical_sdk.inference.answer import answer
from vertical_sdk.model_card import CROSSFIT
from vertical_sdk.outputs import Outputs, join_outputs, select_outputs
from vertical_sdk.recipe import Part, Recipe
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, LabelSpace, Progress, silent

__all__ = ["Folds", "fold_folder", "load_folds", "require_same_folds"]


@dataclass(frozen=True, eq=False)
class Folds:
    """The adapters of the folds on one engine, and the rows that each of them has not learned.

    recipe    of the whole
    prepared  with the folds
    names     of the adapters on the engine, fold by fold
    generals  the base of each adapter, with the adapter's files
    rows      the judged rows, fold by fold
    places    the fold of each row, from 0: (rows,)
    """

    recipe: Recipe
    prepared: Prepared
    engine: Engine
    names: Sequence[str]
    generals: Sequence[FrozenBase]
    rows: Sequence[Example]
    places: NDArray[np.int64]

    def answer(self, progress: Progress = silent) -> NDArray[np.float32]:
        """The raw outputs (rows, k) of the adapters alone, each row by the one that has not learned it."""
        names = [self.names[place] for place in self.places]
        answers = list(answer(self.engine, self.rows, names, progress=progress).values())
        raw = np.zeros((len(self.rows), answers[0].own_raw.shape[1]), np.float32)
        for one in answers:
            raw[list(one.positions)] = one.own_raw
        return raw

    def predict(self, part: Part) -> Outputs:
        """The answers of a baseline or member, fitted for each fold on the rows that the fold's adapter has learned."""
        arguments = baselines.check(part.use, part.arguments, f"{self.recipe.name}: {part.use}")
        seed = int(self.recipe.train.get("seed", 0))
        parts: list[tuple[Sequence[int], Outputs]] = []
        for number, (fold, general) in enumerate(zip(self.prepared.folds, self.generals, strict=True)):
            fit = baselines.get(part.use)
            fitted: Fitted = fit(fold.originals, fold.labels, self.recipe.task, seed, general, **arguments)
            parts.append((np.flatnonzero(self.places == number).tolist(), fitted.predict(fold.test, general)))
        return join_outputs(parts)

    def tune(self, outputs: Outputs) -> Outputs:
        """Give outputs for the rows the label offsets that suit the rows of the other folds."""
        task = get_task(self.recipe.task)

        def decide(others: NDArray[np.bool_], labels: LabelSpace | None) -> Outputs:
            rule = task.fit_rule(select_outputs(outputs, others), self._select(others), labels, self.recipe)
            return task.apply_rule(select_outputs(outputs, ~others), rule)

        return self._join(decide)

    def pool(self, systems: Sequence[NDArray[np.float64]], own: NDArray[Any] | None) -> Outputs:
        """Pool the evidence of systems about the rows, and calibrate it, by what was fitted on the rows of the other folds.

        systems  the evidence of each, (rows, k)
        own      the raw outputs of the adapters; None without them
        """
        task = get_task(self.recipe.task)

        def decide(others: NDArray[np.bool_], labels: LabelSpace | None) -> Outputs:
            truth = task.references(self._select(others), labels)
            raw = task.pooled_raw(own, pool(systems, *task.stack([system[others] for system in systems], truth)))
            return self._calibrate(raw, others, labels)

        return self._join(decide)

    def calibrate(self, raw: NDArray[Any]) -> Outputs:
        """Calibrate raw outputs (rows, k) by what was fitted on the rows of the other folds."""
        return self._join(lambda others, labels: self._calibrate(raw, others, labels))

    def _calibrate(self, raw: NDArray[Any], others: NDArray[np.bool_], labels: LabelSpace | None) -> Outputs:
        """Fit the calibration on some rows, and apply it to the others."""
        task = get_task(self.recipe.task)
        fitted = task.calibrate(raw[others], self._select(others), labels, self.recipe)
        return task.decode(raw[~others], fitted, self._select(~others))

    def _join(self, decide: Callable[[NDArray[np.bool_], LabelSpace | None], Outputs]) -> Outputs:
        """Join the outputs for each fold, by the rows of the others and by the labels as the fold's adapter has counted them."""
        parts: list[tuple[Sequence[int], Outputs]] = []
        for number, fold in enumerate(self.prepared.folds):
            own = self.places == number
            parts.append((np.flatnonzero(own).tolist(), decide(~own, fold.labels)))
        return join_outputs(parts)

    def _select(self, chosen: NDArray[np.bool_]) -> list[Example]:
        return [row for row, is_chosen in zip(self.rows, chosen.tolist(), strict=True) if is_chosen]


def fold_folder(run: Path, number: int) -> Path:
    """The folder of a fold's own run inside the run of a cross-fitting; the first number is 1."""
    return run / "folds" / str(number)


def load_folds(engine: Engine, run: Path, recipe: Recipe, prepared: Prepared, base: FrozenBase) -> Folds:
    """Load the adapters of a run's folds.

    base  reads rows for all of them, each once

    Raises DataError if one is missing; what reading and loading an adapter raises.
    """
    names, generals = [], []
    for number in range(1, len(prepared.folds) + 1):
        folder = fold_folder(run, number) / "adapter"
        if not folder.is_dir():
            raise DataError(
                f"it was cross-fitted, so its own rows are judged by the adapters of its folds, and that of fold {number} is not here. "
                "Evaluate the run that it was trained in, or name a file of new rows with --data.",
                where=folder,
            )
        adapter = read_adapter(folder)
        names.append(engine.load(adapter, f"fold {number}"))
        general = FrozenBase(engine.general(names[-1]).specialist, adapter.files, base.progress)
        general.known = base.known
        generals.append(general)
    places = np.repeat(np.arange(len(prepared.folds)), [len(fold.test) for fold in prepared.folds])
    return Folds(recipe, prepared, engine, names, generals, prepared.judged, places)


def require_same_folds(folds: Folds, card: Card) -> None:
    """Check that a run's folds have the adapters of which the run's adapter is the mean.

    Raises CorruptAdapter.
    """
    recorded = list((card.training.get(CROSSFIT) or {}).get("adapters") or ())
    found = [folds.engine.adapter(name).card.files.get(ADAPTER_WEIGHTS) for name in folds.names]
    if found != recorded:
        raise CorruptAdapter("the run's folds are not those of which its adapter is the mean. Train it again.", where=card.name)
