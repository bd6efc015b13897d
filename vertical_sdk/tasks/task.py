"""The interface of all tasks. Code that depends on the task calls this object."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.card import Calibration
from vertical_sdk.errors import DataError
from vertical_sdk.metrics.measure import bind, inputs
from vertical_sdk.outputs import Outputs
from vertical_sdk.recipe import Gate, Part, Recipe
from vertical_sdk.tables import TASKS
from vertical_sdk.types import Example, Family, LabelSpace, Modality, Numbers, Prediction, SeriesLayout, Target

__all__ = [
    "UNCALIBRATED",
    "Floats",
    "Task",
    "get_gate",
    "get_task",
    "main_metric",
    "measured_baselines",
    "score_outputs",
    "score_predictions",
]

Floats = NDArray[np.float64]
UNCALIBRATED = Calibration()
Verb: TypeAlias = Literal["predict", "generate", "forecast", "monitor"]


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """One task: its traits, and the methods that differ between tasks. Each task is one object of a subclass.

    name              as recipes write it
    default_loss      the loss of a recipe that names none
    default_metrics   the metrics of a recipe that names none, the main one first
    cheap_baseline    what is measured if a gate names nothing and the recipe has at most the base to compare with
    like              tasks whose losses, metrics and other parts serve this task too
    labelled          the answers are labels of a LabelSpace
    single_label      each row has exactly one label, so probabilities sum to 1
    ordered           the order of the labels has a meaning, so a recipe must state it
    numeric           the answer is one number for each row
    written           the answer is a text; rows are conversations
    unlabelled        it learns from texts without labels. Its adapter answers nothing: other adapters start from it
    families          the families of bases that can do it; empty: all
    modalities        the kinds of rows that the task can read
    verb              the method of VerticalModel, and the command, that answers
    """

    name: str
    default_loss: str
    default_metrics: tuple[str, ...]
    cheap_baseline: str = "majority"
    like: tuple[str, ...] = ()
    labelled: bool = False
    single_label: bool = False
    ordered: bool = False
    numeric: bool = False
    written: bool = False
    unlabelled: bool = False
    families: tuple[Family, ...] = ()
    modalities: tuple[Modality, ...] = ("text", "records", "series", "image")
    verb: Verb = "predict"

    def pipeline_tag(self, modality: Modality) -> str:
        """Return the task in the terms of the Hugging Face hub."""
        if self.unlabelled:
            return "feature-extraction"
        if self.written:
            return "text-generation"
        if modality == "records":
            return "tabular-regression" if self.numeric else "tabular-classification"
        return "image-classification" if modality == "image" else "text-classification"

    @property
    def untrained(self) -> bool:
        """Whether a base can answer without training (zero-shot): with one of the labels, by writing, or as it reads texts."""
        return self.written or self.single_label or self.unlabelled

    @property
    def ahead(self) -> bool:
        """Whether the target is the steps that follow a series, instead of labels, a number or a text."""
        return self.modalities == ("series",)

    def encode_target(self, target: Target, labels: LabelSpace | None) -> int | float | tuple[float, ...] | Numbers:
        """Turn the target of a row into numbers for the loss.

        Raises DataError for a target that the task cannot learn.
        """
        raise DataError(f"a {self.name} task learns no target but the answers of conversations.")

    @abstractmethod
    def references(self, rows: Sequence[Example], labels: LabelSpace | None) -> Any:
        """Collect the truth about rows in the shape of `predictions`.

        Raises DataError for a row without a target, or with an unknown label.
        """

    def decode(self, raw: NDArray[Any], calibration: Calibration = UNCALIBRATED, rows: Sequence[Example] = ()) -> Outputs:
        """Turn raw outputs into calibrated Outputs.

        raw   (rows, k), or (rows, steps, channels, quantiles) with the median first
        rows  the input rows; only anomaly detection reads them, as it compares them with the forecast
        """
        raise ValueError(f"a {self.name} task has no raw outputs to decode.")

    @abstractmethod
    def predictions(self, outputs: Outputs) -> Any:
        """Choose the predictions, in the shape that the task's metrics read (see `vertical_sdk.metrics`).

        Raises ValueError for the outputs of another task.
        """

    def answers(self, outputs: Outputs) -> Any:
        """The answers of which a specialist must not give the same one to every row: the predictions, a list or an array of rows."""
        return self.predictions(outputs)

    def calibrate(
        self,
        raw: NDArray[Any],
        rows: Sequence[Example],
        labels: LabelSpace | None,
        recipe: Recipe,
        layout: SeriesLayout | None = None,
    ) -> Calibration:
        """Fit the calibration on the specialist's raw outputs for the validation rows."""
        return UNCALIBRATED

    def calibrate_alone(
        self,
        raw: NDArray[Any],
        rows: Sequence[Example],
        labels: LabelSpace | None,
        recipe: Recipe,
        layout: SeriesLayout | None = None,
    ) -> Calibration:
        """Fit what turns the raw outputs of an adapter that has members into evidence, and into answers of its own.

        Nothing, unless the raw outputs do not serve as evidence by themselves.
        """
        return UNCALIBRATED

    def fit_rule(
        self,
        outputs: Outputs,
        rows: Sequence[Example],
        labels: LabelSpace | None,
        recipe: Recipe,
        layout: SeriesLayout | None = None,
    ) -> tuple[float, ...]:
        """Fit how a system decides, on its outputs for the validation rows: label offsets, or the threshold of an alarm; else ()."""
        return ()

    def apply_rule(self, outputs: Outputs, rule: Sequence[float]) -> Outputs:
        """Give outputs the rule of `fit_rule`."""
        return replace(outputs, offsets=np.array(rule) if rule else None)

    def rule_size(self, labels: LabelSpace | None) -> int:
        """The numbers of a rule that is not ()."""
        return len(labels) if labels is not None else 0

    def evidence(self, outputs: Outputs) -> Floats:
        """Express outputs so that systems can be added up: numbers, log-probabilities or log-odds, (rows, k)."""
        raise ValueError(f"the outputs of a {self.name} task cannot be pooled.")

    def raw_evidence(self, raw: NDArray[Any], rows: Sequence[Example] = (), calibration: Calibration = UNCALIBRATED) -> Floats:
        """Express the adapter's raw outputs in the shape of `evidence`.

        rows         as for `decode`
        calibration  of `calibrate_alone`
        """
        return self.evidence(self.decode(np.asarray(raw, dtype=np.float64), calibration, rows))

    def pooled_raw(self, raw: NDArray[Any] | None, pooled: Floats) -> NDArray[np.float32]:
        """Bring pooled evidence into the form of raw outputs, which `decode` reads.

        raw  the adapter's raw outputs; None if members answer without the adapter
        """
        return pooled.astype(np.float32)

    def stack(self, systems: Sequence[Floats], truth: Any) -> tuple[Floats, Floats]:
        """Fit the weight of each system and the biases (k,) with which their evidence is pooled."""
        raise ValueError(f"the outputs of a {self.name} task cannot be pooled.")

    def to_predictions(self, outputs: Outputs, labels: LabelSpace | None, cut: Sequence[int], adapter: str) -> list[Prediction]:
        """Build one Prediction for each row.

        cut  tokens of each row that did not fit
        """
        raise ValueError(f"a {self.name} task has no Prediction; its verb is {self.verb}.")

    def format(self, values: Any, labels: LabelSpace | None) -> list[str]:
        """Write predictions or references as text for a report."""
        return [f"{value:.4g}" for value in values]


def main_metric(recipe: Recipe) -> Part:
    """The metric that decides: the gate's, else the recipe's first, else the task's first."""
    gate = recipe.evaluate.gate
    parts = recipe.evaluate.metrics
    if gate:
        return next((part for part in parts if part.use == gate.metric), Part(use=gate.metric))
    return parts[0] if parts else Part(use=get_task(recipe.task).default_metrics[0])


def get_gate(recipe: Recipe) -> Gate | None:
    """The gate of a recipe: its own, or the default one in the main metric; None if the recipe says `gate: false`."""
    gate = recipe.evaluate.gate
    if gate is False:
        return None
    return Gate(metric=main_metric(recipe).use) if gate is None else gate


def measured_baselines(recipe: Recipe) -> tuple[Part, ...]:
    """The baselines that an evaluation measures: those of the recipe, and the members of its ensemble.

    If the gate names nothing and this is at most the base, the task's cheap baseline is added. A member with the name of a
    baseline but other options is measured only together with the other members.
    """
    parts, gate = [*recipe.evaluate.baselines], get_gate(recipe)
    parts += [part for part in recipe.ensemble if part.use not in {measured.use for measured in parts}]
    cheap, names = get_task(recipe.task).cheap_baseline, {part.use for part in parts}
    if gate is not None and gate.beats is None and names <= {"base"} and cheap not in names:
        parts.append(Part(use=cheap))
    return tuple(parts)


def score_outputs(recipe: Recipe, outputs: Outputs, rows: Sequence[Example], labels: LabelSpace | None) -> float | None:
    """Measure the outputs for these rows in the recipe's main metric; None if it is undefined, or reads what the outputs lack."""
    predictions = get_task(recipe.task).predictions(outputs)
    return score_predictions(recipe, predictions, rows, labels, outputs.probabilities, outputs.quantiles)


def score_predictions(
    recipe: Recipe,
    predictions: Any,
    rows: Sequence[Example],
    labels: LabelSpace | None,
    probabilities: NDArray[Any] | None,
    quantiles: NDArray[Any] | None,
) -> float | None:
    """As `score_outputs`, of predictions that `Task.predictions` chose."""
    part, given = main_metric(recipe), {"probabilities": probabilities, "quantiles": quantiles}
    if any(name in inputs(part.use) and numbers is None for name, numbers in given.items()):
        return None
    measure = bind(part.use, labels, part.arguments)
    value = measure(predictions, get_task(recipe.task).references(rows, labels), probabilities, rows, quantiles)
    return value if math.isfinite(value) else None


def get_task(name: str, where: str = "") -> Task:
    """Look up a task by its name.

    Raises UnknownName.
    """
    task: Task = TASKS.load(name, where)
    return task
