"""The adapter and the members of its ensemble as one model: a stacker combines their predictions.

Wolpert, Stacked Generalization, 1992. Each system's probabilities p are pooled by their logarithms (Genest and Zidek, 1986):

    log P(label) = w_0 log p_adapter(label) + w_1 log p_1(label) + ... + constant        w ≥ 0

Each system has one weight, whatever the number of labels, so a few hundred rows are enough. The weights are the most likely ones
on the validation rows. The adapter was not trained on these rows, and each member predicts them out of fold, so the pooled
probabilities are calibrated. A yes-or-no decision (two labels, or each label of a multilabel task) also has a bias. A weak normal
prior keeps weights near an equal share, and biases near 0. Numbers are pooled as a weighted sum. Forecasts are pooled as the weighted
mean with the least absolute error, and the adapter's quantiles move with its median. Anomaly scores s are pooled as
log(1 + s) = w_0 log(1 + s_adapter) + w_1 log(1 + s_1) + ..., by the likeliest weights of whether a row is an anomaly; without known
anomalies among the validation rows, by weights with which a high score of each system is equally rare.

A second stacker is fitted on the same rows for the members alone. Without it, nothing would show what the adapter adds to them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk import catalog
from vertical_sdk.baselines.fitted import Arrays, Fitted, encode_json, load_fitted, save_arrays
from vertical_sdk.calibration.stacking import pool
from vertical_sdk.card import Calibration
from vertical_sdk.data.texts import stable_hash
from vertical_sdk.errors import AdapterError, CorruptAdapter
from vertical_sdk.members import ALONE, ENSEMBLE, WithoutAdapter, read_members
from vertical_sdk.outputs import Outputs, join_outputs
from vertical_sdk.recipe import Part, Recipe
from vertical_sdk.registry.checked_files import CheckedFiles
from vertical_sdk.tasks import get_task, score_outputs
from vertical_sdk.tasks.task import UNCALIBRATED
from vertical_sdk.types import Example, LabelSpace, Progress, SeriesLayout, TaskName, silent

__all__ = ["ENSEMBLE", "Ensemble", "fit_ensemble", "fit_member", "load_ensemble", "save_ensemble", "stack_members"]

FOLDS = 3
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ensemble:
    """The members that answer with an adapter, and their weights.

    parts    the members, as the recipe names them
    members  the same, fitted on training and validation rows
    weights  (1 + members,) the adapter's first
    bias     (k,)
    offsets  how each member decides by itself, when it is measured as a baseline: label offsets, or the threshold of an alarm
    scores   the value of each member in the recipe's main metric on the validation rows, out of fold; None if undefined
    without  how the members answer without the adapter; None in adapters of earlier versions, like the scores
    own      what turns the adapter's raw outputs into evidence, and into answers without the members
    """

    task: TaskName
    parts: tuple[Part, ...]
    members: tuple[Fitted, ...]
    weights: Floats
    bias: Floats
    offsets: tuple[tuple[float, ...], ...]
    scores: tuple[float | None, ...] = ()
    without: WithoutAdapter | None = None
    own: Calibration = UNCALIBRATED

    def gather(self, rows: Sequence[Example], base: Any) -> list[Floats]:
        """Gather the evidence of each member about the rows, (rows, k) each.

        base  the frozen base model (`FrozenBase`), for members that need it

        Raises AdapterError that names a member whose answers are not finite.
        """
        systems = []
        for part, member in zip(self.parts, self.members, strict=True):
            evidence = get_task(self.task).evidence(member.predict(rows, base))
            if not np.isfinite(evidence).all():
                raise AdapterError(f"the member {part.use} answers with numbers that are not finite. Train the adapter again.")
            systems.append(evidence)
        return systems

    def combine(self, own: NDArray[Any], gathered: Sequence[Floats], rows: Sequence[Example] = ()) -> NDArray[np.float32]:
        """Combine the adapter's raw outputs with the evidence of the members.

        own       the adapter's raw outputs: logits, numbers, or quantiles
        gathered  by `gather`, for the same rows
        rows      the same rows; only anomaly detection reads them, as it compares them with the forecast
        returns   the raw outputs of the whole, in the shape of `own`; for anomaly detection pooled evidence, (rows, 1)

        Raises AdapterError that names a member whose answers have another shape.
        """
        task = get_task(self.task)
        systems = [task.raw_evidence(own, rows, self.own), *gathered]
        self._require_shape(systems[0].shape, gathered)
        return task.pooled_raw(own, pool(systems, self.weights, self.bias))

    def combine_without(self, gathered: Sequence[Floats]) -> NDArray[np.float32]:
        """Combine the evidence of the members alone; return it in the form of raw outputs.

        gathered  by `gather`

        Raises AdapterError if the adapter was trained by an earlier version, or for a member whose answers have another shape.
        """
        if self.without is None:
            raise AdapterError(
                "the adapter was trained by an earlier version, which did not fit its members without it. Train it again to learn what "
                "it adds to them."
            )
        self._require_shape(gathered[0].shape, gathered)
        return get_task(self.task).pooled_raw(None, pool(gathered, self.without.weights, self.without.bias))

    def answer_without(self, gathered: Sequence[Floats], rows: Sequence[Example]) -> Outputs:
        """Answer rows by the members without the adapter, calibrated; raises as `combine_without` does.

        gathered  by `gather`, for these rows
        """
        raw = self.combine_without(gathered)
        assert self.without is not None
        return get_task(self.task).decode(raw, self.without.calibration, rows)

    def _require_shape(self, shape: tuple[int, ...], gathered: Sequence[Floats]) -> None:
        for part, evidence in zip(self.parts, gathered, strict=True):
            if evidence.shape != shape:
                raise AdapterError(
                    f"the member {part.use} answers with the shape {evidence.shape}; {shape} is needed. Train the adapter again."
                )

    def predict_member(self, part: Part, rows: Sequence[Example], base: Any) -> Outputs | None:
        """Predict with one member alone; None if the ensemble has no member of that name with those options."""
        for member_part, member, offsets in zip(self.parts, self.members, self.offsets, strict=True):
            if member_part == part:
                return get_task(self.task).apply_rule(member.predict(rows, base), offsets)
        return None

    def score_member(self, part: Part) -> float | None:
        """The value of a member in the main metric on the validation rows; None if it is not known."""
        scored = zip(self.parts, self.scores, strict=False)  # adapters of earlier versions have no scores
        return next((score for member_part, score in scored if member_part == part), None)

    @property
    def shares(self) -> dict[str, float]:
        """The weight of each system by name, for people to read."""
        return dict(zip(["adapter", *(part.use for part in self.parts)], map(float, self.weights), strict=True))


def fit_ensemble(
    recipe: Recipe,
    train: Sequence[Example],
    validation: Sequence[Example],
    own: NDArray[Any],
    labels: LabelSpace | None,
    seed: int,
    base: Any,
    progress: Progress = silent,
) -> tuple[Ensemble, NDArray[np.float32]]:
    """Fit the recipe's members, and the stacker on the validation rows.

    For each of 3 folds of the validation rows (whole groups), a member is fitted on the training rows and the other folds, and
    predicts the fold. In the end it is fitted on all of them. Rows that are only for evaluation are never learned.

    train, validation  rows without augmented copies
    own                the adapter's raw outputs for the validation rows, (rows, k)
    returns            the ensemble, and its raw predictions of the validation rows out of fold, (rows, k). Calibrate on these: the
                       stored members have learned the validation rows

    Raises what the baselines raise.
    """
    from vertical_sdk.baselines.timeline import read_layout

    members, out_of_fold = [], []
    for number in range(len(recipe.ensemble)):
        out_of_fold.append(_predict_out_of_fold(recipe, number, (train, validation), labels, seed, base, progress))
        members.append(fit_member(recipe, number, [*train, *_select_learned(validation)], labels, seed, base))
    layout = read_layout(base, train) if get_task(recipe.task).ahead else None
    return stack_members(recipe, members, out_of_fold, validation, own, labels, layout)


def stack_members(
    recipe: Recipe,
    members: Sequence[Fitted],
    out_of_fold: Sequence[Outputs],
    rows: Sequence[Example],
    own: NDArray[Any],
    labels: LabelSpace | None,
    layout: SeriesLayout | None = None,
) -> tuple[Ensemble, NDArray[np.float32]]:
    """Fit the stacker on rows that neither the adapter nor the members had learned when they answered them.

    members      as they are stored
    out_of_fold  the answers of each member to the rows
    own          the adapter's raw outputs for the rows, (rows, k)
    layout       of series
    returns      as `fit_ensemble`
    """
    task, truth = get_task(recipe.task), get_task(recipe.task).references(rows, labels)
    calibration = task.calibrate_alone(own, rows, labels, recipe, layout)
    systems, offsets, scores = [task.raw_evidence(own, rows, calibration)], [], []
    for answers in out_of_fold:
        systems.append(task.evidence(answers))
        offsets.append(task.fit_rule(answers, rows, labels, recipe, layout))
        scores.append(score_outputs(recipe, task.apply_rule(answers, offsets[-1]), rows, labels))
    weights, bias = task.stack(systems, truth)
    alone = task.stack(systems[1:], truth)
    pooled = task.pooled_raw(None, pool(systems[1:], *alone))
    without = WithoutAdapter(*alone, task.calibrate(pooled, rows, labels, recipe, layout))
    ensemble = Ensemble(
        task.name, recipe.ensemble, tuple(members), weights, bias, tuple(offsets), tuple(scores), without, calibration
    )
    return ensemble, task.pooled_raw(own, pool(systems, weights, bias))


def fit_member(recipe: Recipe, number: int, rows: Sequence[Example], labels: LabelSpace | None, seed: int, base: Any) -> Fitted:
    """Fit one member on rows without augmented copies, and return it as it is stored."""
    part = recipe.ensemble[number]
    arguments = catalog.baselines.check(part.use, part.arguments, f"ensemble.{number}")
    member = catalog.baselines.get(part.use)(rows, labels, recipe.task, seed, base, **arguments)
    return load_fitted(part.use, save_arrays(part.use, member, f"ensemble.{number}"))


def _predict_out_of_fold(
    recipe: Recipe,
    number: int,
    rows: tuple[Sequence[Example], Sequence[Example]],
    labels: LabelSpace | None,
    seed: int,
    base: Any,
    progress: Progress,
) -> Outputs:
    """Predict the validation rows with one member, each fold by one that was fitted on the training rows and the other folds.

    rows  training and validation rows
    """
    train, validation = rows
    part = recipe.ensemble[number]
    arguments = catalog.baselines.check(part.use, part.arguments, f"ensemble.{number}")
    fit = functools.partial(catalog.baselines.get(part.use), **arguments)
    folds = np.array([stable_hash(seed, row.group or row.id) % FOLDS for row in validation])
    fold_outputs: list[tuple[list[int], Outputs]] = []
    for fold in range(FOLDS):
        progress(f"ensemble: {part.use}", fold / (FOLDS + 1))
        in_fold = np.flatnonzero(folds == fold).tolist()
        if not in_fold:
            continue
        fold_train = [*train, *_select_learned([row for row, other in zip(validation, folds, strict=True) if other != fold])]
        fitted = fit(fold_train, labels, recipe.task, seed, base)
        fold_outputs.append((in_fold, fitted.predict([validation[i] for i in in_fold], base)))
    return join_outputs(fold_outputs)


def _select_learned(rows: Sequence[Example]) -> list[Example]:
    """The rows that may be learned."""
    return [row for row in rows if row.only != "evaluate"]


def save_ensemble(folder: Path, ensemble: Ensemble) -> None:
    """Write the ensemble as one file into the adapter's folder."""
    from safetensors.numpy import save_file

    settings: dict[str, Any] = {
        "task": ensemble.task,
        "parts": [part.model_dump() for part in ensemble.parts],
        "offsets": ensemble.offsets,
        "scores": ensemble.scores,
    }
    tensors: Arrays = {"weights": ensemble.weights, "bias": ensemble.bias}
    if ensemble.own != UNCALIBRATED:
        settings["own"] = ensemble.own.model_dump(mode="json")
    if (without := ensemble.without) is not None:
        settings["calibration"] = without.calibration.model_dump(mode="json")
        tensors |= {f"{ALONE}weights": without.weights, f"{ALONE}bias": without.bias}
    tensors["settings"] = encode_json(settings)
    for number, (part, member) in enumerate(zip(ensemble.parts, ensemble.members, strict=True)):
        tensors |= {f"{number}.{key}": value for key, value in save_arrays(part.use, member, "ensemble").items()}
    save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, folder / ENSEMBLE)


def load_ensemble(
    source: CheckedFiles | Path, recipe: Recipe, labels: LabelSpace | None = None, layout: SeriesLayout | None = None
) -> Ensemble:
    """Load the ensemble from an adapter's folder.

    recipe, labels, layout  those of the adapter's card: the members must be the recipe's, and fit the labels and the layout

    Raises CorruptAdapter if the file is incomplete, not an ensemble, another one, or contains numbers that cannot be right.
    """
    files, task = CheckedFiles.from_source(source), get_task(recipe.task)
    path = files.folder / ENSEMBLE
    stored = read_members(files.read(ENSEMBLE), path, recipe.ensemble)
    outputs = len(labels) if labels is not None else 1
    try:
        if stored.task != recipe.task:
            raise ValueError(f"the file is for {stored.task}, and the adapter for {recipe.task}")
        if len(stored.bias) != outputs:
            raise ValueError(f"bias has {len(stored.bias)} numbers, and {outputs} are needed")
        for offsets in stored.offsets:
            if offsets and len(offsets) != task.rule_size(labels):
                raise ValueError(f"the offsets of a member are {len(offsets)} numbers, and {task.rule_size(labels)} are needed")
        if stored.without is not None:
            stored.without.calibration.require_fit(labels, layout)
        stored.own.require_fit(labels, layout)
        entries = enumerate(zip(stored.parts, stored.arrays, strict=True))
        members = tuple(_load_member(number, part, arrays, stored.task) for number, (part, arrays) in entries)
    except ValueError as error:
        raise CorruptAdapter(
            f"The members of the ensemble cannot be read: {error}. Train or download the adapter again.",
            where=path,
        ) from None
    return Ensemble(
        *(stored.task, stored.parts, members, stored.weights, stored.bias, stored.offsets, stored.scores, stored.without),
        own=stored.own,
    )


def _load_member(number: int, part: Part, arrays: Arrays, task: str) -> Fitted:
    """Load a member of an ensemble for a task. Raises ValueError that names its array or setting which is wrong."""
    try:
        member = load_fitted(part.use, arrays)
        if (its := getattr(member, "task", task)) != task:
            raise ValueError(f"task is {its!r}, and that of the ensemble is {task!r}")
        return member
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        problem = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{number}.{problem} ({part.use})") from None
