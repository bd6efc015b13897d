"""The results of an evaluation, as plain data that survives JSON: for the card, the report and `evaluation.json`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from vertical_sdk.card import Calibration, Verdict
from vertical_sdk.types import Interval, TaskName

__all__ = [
    "Bin",
    "Change",
    "Comparison",
    "Evaluation",
    "ExampleRow",
    "FieldAudit",
    "Gap",
    "GroupAudit",
    "GroupRow",
    "LabelAudit",
    "LabelChange",
    "LabelRow",
    "System",
    "finite",
]

Change: TypeAlias = Literal["gained", "lost", "not sure"]
"""How a label or a group changed compared with the general model."""


@dataclass(frozen=True)
class System:
    """One system on the test rows: the specialist, its base, a baseline.

    title     its name in reports: "general base, zero-shot"
    metrics   name → value and interval
    unparsed  rows whose answer could not be read; they count as wrong
    seconds   how long it took, including the training of a baseline
    error     why there are no metrics, if it failed
    """

    title: str
    metrics: dict[str, Interval] = field(default_factory=dict)
    unparsed: int = 0
    seconds: float = 0.0
    error: str | None = None


@dataclass(frozen=True)
class Comparison:
    """The specialist compared with one baseline on the same rows: the difference in one metric, and its p-value.

    difference  specialist minus baseline; NaN, like the p-value, if the metric of one of them is undefined
    mcnemar_p   p-value of McNemar's test of which rows are right; None for a task without right and wrong answers
    """

    baseline: str
    metric: str
    difference: Interval
    p_value: float
    mcnemar_p: float | None = None

    def outcome(self, lower_is_better: Iterable[str]) -> str:
        """Whether the specialist is "better" or "worse", whether that is "open", or "undefined".

        lower_is_better  the metrics of which lower values are better
        """
        sign = -1 if self.metric in lower_is_better else 1
        low, high = sorted((sign * self.difference.low, sign * self.difference.high))
        if math.isnan(low) or math.isnan(high):
            return "undefined"
        return "better" if low > 0 else "worse" if high < 0 else "open"


@dataclass(frozen=True)
class LabelRow:
    """One label: how many test rows have it, and the values of the specialist and of the base (None if it was not measured)."""

    label: str
    n: int
    precision: float
    recall: float
    f1: float
    base_precision: float | None = None
    base_recall: float | None = None
    base_f1: float | None = None


@dataclass(frozen=True)
class Bin:
    """The rows with a confidence in (low, high]: their mean confidence, the share that is right, their number."""

    low: float
    high: float
    confidence: float
    accuracy: float
    count: int


@dataclass(frozen=True)
class ExampleRow:
    """One test row for a reader; the labels of a multilabel row are joined in one string.

    picture, evidence  of an image, as data: addresses: the image, and the image with the evidence for the prediction in red
    """

    text: str
    reference: str
    adapter: str
    base: str | None = None
    probability: float | None = None
    picture: str | None = None
    evidence: str | None = None


@dataclass(frozen=True)
class LabelChange:
    """One label: the test rows that have it, F1 of the specialist and of the general model, and the verdict."""

    label: str
    n: int
    own: float
    baseline: float
    difference: Interval
    verdict: Change


@dataclass(frozen=True)
class LabelAudit:
    """The labels that gained and lost compared with the general model `baseline`; gains come first."""

    baseline: str
    labels: list[LabelChange] = field(default_factory=list)


@dataclass(frozen=True)
class GroupRow:
    """One group of rows: the main metric of the specialist and of the general model, and the rates of two labels.

    baseline, difference  None if the general model was not measured
    truth, predicted      label → share of the group's rows that have it, and for which it is predicted; empty without labels
    true_positive_rate    how often the second label is predicted if it is true; None without such rows or without two labels
    false_positive_rate   how often it is predicted if it is not true
    auc                   None if the group has only one label
    """

    group: str
    n: int
    own: float
    baseline: float | None = None
    difference: Interval | None = None
    verdict: Change = "not sure"
    truth: dict[str, float] = field(default_factory=dict)
    predicted: dict[str, float] = field(default_factory=dict)
    true_positive_rate: float | None = None
    false_positive_rate: float | None = None
    auc: float | None = None


@dataclass(frozen=True)
class Gap:
    """The largest rate of a group minus the smallest, of the specialist and of the general model; None if unknown."""

    own: float | None = None
    baseline: float | None = None


@dataclass(frozen=True)
class FieldAudit:
    """The groups by one field of the record, and for two labels the gaps between them: demographic_parity (how often the
    second label is predicted), equal_opportunity (if it is true), predictive_equality (if it is not true)."""

    name: str
    groups: list[GroupRow]
    gaps: dict[str, Gap] = field(default_factory=dict)


@dataclass(frozen=True)
class GroupAudit:
    """The groups of rows in one metric, by each field; `positive` is the second of two labels."""

    metric: str
    baseline: str | None
    fields: list[FieldAudit] = field(default_factory=list)
    positive: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """The specialist compared with its baselines, on rows that it was not trained on.

    name             of the adapter
    rows             number of test rows
    labels           in the order of the outputs; empty for regression and generation
    systems          "adapter" (the specialist), "base" and the baselines, by their names in the recipe
    confidence       of every interval
    tests            in the main metric first
    baseline         which of the systems is the classical baseline
    lower_is_better  the metrics in which lower is better
    validation       system → its value in the main metric on the validation rows, by which the gate chose what it compares with
    contribution     what the adapter adds to the best system that does without it (`Contribution.to_dict`); None if it was not measured
    warnings         what the test rows cannot show, and what the specialist does wrong throughout, a sentence each
    per_label        empty without labels
    confusion        rows of the test set by [reference][prediction of the adapter]; empty for multilabel and without labels
    reliability      "before" and "after" calibration → bins with rows
    label_audit      the labels that gained and lost compared with the general model; None without labels or such a model
    group_audit      groups of rows, by fields of the record; None if the recipe names no field
    abstention       system → (share of rows answered, share of those that is right, lowest confidence among them)
    promise          whether the promise of `evaluate.abstention` is kept (`measure.check_promise`); None without one
    curves           name → {"title", "x", "y": what the axes are, "lines": {name: [[x, y], …]}}; x a number or a date
    forgetting       the adapter's cost in general ability (`Forgot.to_dict`); None if it was not measured
    right            system → evaluated rows whose answer is right; empty for tasks without labels
    errors           system → mean absolute error, in the unit of the target; empty for tasks without numbers
    folds            of a cross-fitting, whose adapters answered the rows that they had not learned; 0 if the specialist itself answered
    left_out         rows of the given file that were not evaluated because the specialist was trained on them
    tuned            how many of them were its validation rows
    repeated         evaluated rows that it was trained on as well: test rows of a recipe whose splits are not apart
    unknown          why it is unknown whether it was trained on some of the rows; "" if it was trained on none of them
    members          tests, gate and warnings of the members without the adapter, if these are published; None without members
    report           the path of the report; "" if none was written
    unwritten        why evaluation.json and the report could not be written; "" if they were
    account          what happened to every row of data (`Account.to_dict()`), and what was cut
    provenance       base, recipe_digest, sources, versions, seed, seconds and more
    """

    name: str
    task: TaskName
    rows: int
    labels: list[str] = field(default_factory=list)
    systems: dict[str, System] = field(default_factory=dict)
    confidence: float = 0.95
    tests: list[Comparison] = field(default_factory=list)
    baseline: str | None = None
    lower_is_better: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    per_label: list[LabelRow] = field(default_factory=list)
    confusion: list[list[int]] = field(default_factory=list)
    reliability: dict[str, list[Bin]] = field(default_factory=dict)
    calibration: Calibration | None = None
    examples: list[ExampleRow] = field(default_factory=list)
    gate: Verdict | None = None
    validation: dict[str, float] = field(default_factory=dict)
    contribution: dict[str, Any] | None = None
    members: dict[str, Any] | None = None
    label_audit: LabelAudit | None = None
    group_audit: GroupAudit | None = None
    abstention: dict[str, list[tuple[float, float, float]]] = field(default_factory=dict)
    promise: dict[str, Any] | None = None
    curves: dict[str, dict[str, Any]] = field(default_factory=dict)
    forgetting: dict[str, Any] | None = None
    right: dict[str, int] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    folds: int = 0
    left_out: int = 0
    tuned: int = 0
    repeated: int = 0
    unknown: str = ""
    report: str = ""
    unwritten: str = ""
    account: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; a number that is not finite becomes None."""
        plain: dict[str, Any] = finite(asdict(self))
        plain["calibration"] = self.calibration and self.calibration.model_dump(mode="json")
        plain["gate"] = self.gate and self.gate.model_dump(mode="json")
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Evaluation:
        """Create the evaluation from the result of `to_dict`; None in place of a number becomes NaN."""
        given = dict(plain)
        given["systems"] = {key: _system(item) for key, item in plain.get("systems", {}).items()}
        given["warnings"] = list(plain.get("warnings", ()))
        given["tests"] = [_comparison(item) for item in plain.get("tests", ())]
        given["per_label"] = [LabelRow(**item) for item in plain.get("per_label", ())]
        given["reliability"] = {key: [Bin(**item) for item in bins] for key, bins in plain.get("reliability", {}).items()}
        given["errors"] = {key: math.nan if item is None else item for key, item in plain.get("errors", {}).items()}
        given["examples"] = [ExampleRow(**item) for item in plain.get("examples", ())]
        given["label_audit"] = _label_audit(plain.get("label_audit"))
        given["group_audit"] = _group_audit(plain.get("group_audit"))
        given["abstention"] = {key: [(c, a, t) for c, a, t in points] for key, points in plain.get("abstention", {}).items()}
        for key, model in (("calibration", Calibration), ("gate", Verdict)):
            given[key] = None if plain.get(key) is None else model.model_validate(plain[key])
        return cls(**given)


def _system(plain: Mapping[str, Any]) -> System:
    return System(**{**plain, "metrics": {name: _interval(item) for name, item in plain["metrics"].items()}})


def _comparison(plain: Mapping[str, Any]) -> Comparison:
    p_value = math.nan if plain["p_value"] is None else plain["p_value"]
    return Comparison(**{**plain, "difference": _interval(plain["difference"]), "p_value": p_value})


def _label_audit(plain: Mapping[str, Any] | None) -> LabelAudit | None:
    if plain is None:
        return None
    return LabelAudit(plain["baseline"], [LabelChange(**_measured(item)) for item in plain["labels"]])


def _group_audit(plain: Mapping[str, Any] | None) -> GroupAudit | None:
    if plain is None:
        return None
    fields = [
        FieldAudit(
            item["name"],
            [GroupRow(**_measured(row)) for row in item["groups"]],
            {name: Gap(**gap) for name, gap in item["gaps"].items()},
        )
        for item in plain["fields"]
    ]
    return GroupAudit(**{**plain, "fields": fields})


def _measured(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The specialist's value as a number, the difference as an Interval; a missing difference or baseline stays None."""
    values = {**plain, "own": math.nan if plain["own"] is None else plain["own"]}
    if plain["difference"] is not None:
        values["difference"] = _interval(plain["difference"])
        values["baseline"] = math.nan if plain["baseline"] is None else plain["baseline"]
    return values


def _interval(plain: Mapping[str, float | None]) -> Interval:
    value, low, high = (math.nan if item is None else item for item in (plain["value"], plain["low"], plain["high"]))
    return Interval(value, low, high)


def finite(value: Any) -> Any:
    """Plain data with None for every number that is not finite, which JSON cannot hold."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
