"""What an evaluation found, as plain data that survives JSON: what card, report and `evaluation.json` hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from vertical_sdk.card import Calibration, Verdict
from vertical_sdk.types import Interval, Task

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
"""What became of a label or a group, beside the general model."""


@dataclass(frozen=True)
class System:
    """One system on the test rows: the adapter, its base, a baseline.

    title     what a reader calls it: "general base (zero-shot)"
    metrics   name → value and interval
    unparsed  rows whose answer could not be read; they count as wrong
    seconds   how long it took, training of a baseline included
    error     why there are no metrics, where it failed
    """

    title: str
    metrics: dict[str, Interval] = field(default_factory=dict)
    unparsed: int = 0
    seconds: float = 0.0
    error: str | None = None


@dataclass(frozen=True)
class Comparison:
    """The adapter against one baseline on the same rows: adapter minus baseline in one metric, and how likely that is by luck.

    mcnemar_p  McNemar's test of which rows are right; None where right and wrong make no sense
    """

    baseline: str
    metric: str
    difference: Interval
    p_value: float
    mcnemar_p: float | None = None


@dataclass(frozen=True)
class LabelRow:
    """One label: how many test rows have it, how the adapter does on it, and the base (None where it was not measured)."""

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
    """The rows whose confidence lies in (low, high]: their mean confidence, the share of them that is right, their number."""

    low: float
    high: float
    confidence: float
    accuracy: float
    count: int


@dataclass(frozen=True)
class ExampleRow:
    """One test row as a person reads it; labels of a multilabel row stand in one string.

    picture, evidence  of an image: itself, and where in it the evidence for what the specialist says is, as data: addresses
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
    """One label: test rows that have it, F1 of the specialist and of the general model, and what became of it."""

    label: str
    n: int
    own: float
    baseline: float
    difference: Interval
    verdict: Change


@dataclass(frozen=True)
class LabelAudit:
    """Which labels gained and which lost against the general model `baseline`; those that gained first."""

    baseline: str
    labels: list[LabelChange] = field(default_factory=list)


@dataclass(frozen=True)
class GroupRow:
    """One group of rows: the main metric of the specialist and of the general model, and what is said of whom.

    baseline, difference    None where the general model was not measured
    truth, predicted     label → share of the group's rows that have it, and that are given it; empty without labels
    true_positive_rate   how often the second label is said where it is true; None without such rows, or not two labels
    false_positive_rate  how often it is said where it is not true
    auc                  None where the group has one label only
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
    """The largest rate of a group less the smallest, of the specialist and of the general model; None where unknown."""

    own: float | None = None
    baseline: float | None = None


@dataclass(frozen=True)
class FieldAudit:
    """The groups by one field of the record, and for two labels the gaps between them: demographic_parity (how often the
    second label is said), equal_opportunity (where it is true), predictive_equality (where it is not)."""

    name: str
    groups: list[GroupRow]
    gaps: dict[str, Gap] = field(default_factory=dict)


@dataclass(frozen=True)
class GroupAudit:
    """How groups of rows fare in one metric, by each field; `positive` is the second of two labels."""

    metric: str
    baseline: str | None
    fields: list[FieldAudit] = field(default_factory=list)
    positive: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """How the specialist does beside its baselines, on rows that it was not trained on.

    name             the adapter's
    rows             number of test rows
    labels           in the order of the outputs; empty for regression and generation
    systems          "adapter", "base" and the baselines, by the names that the recipe gives them
    confidence       of every interval
    tests            those of the main metric first
    baseline         which of the systems is the classical baseline
    lower_is_better  the metrics of which less is better
    per_label        empty where there are no labels
    confusion        rows of the test set by [reference][prediction of the adapter]; empty for multilabel and without labels
    reliability      "before" and "after" calibration → bins that hold rows
    label_audit      which labels gained and lost against the general model; None without labels, or without such a model
    group_audit      how groups of rows fare, by fields of the record; None where the recipe names none
    abstention       system → (share of rows answered, share of those that is right, least confidence answered with)
    curves           name → {"title", "x", "y": what the axes are, "lines": {name: [[x, y], …]}}; x a number or a date
    forgetting       what the adapter costs in general ability (`Forgot.to_dict`); None where it was not measured
    account          what became of every row of data (`Account.to_dict()`), and of what was cut
    provenance       base, recipe_digest, sources, versions, seed, seconds, and whatever else is to be known
    """

    name: str
    task: Task
    rows: int
    labels: list[str] = field(default_factory=list)
    systems: dict[str, System] = field(default_factory=dict)
    confidence: float = 0.95
    tests: list[Comparison] = field(default_factory=list)
    baseline: str | None = None
    lower_is_better: list[str] = field(default_factory=list)
    per_label: list[LabelRow] = field(default_factory=list)
    confusion: list[list[int]] = field(default_factory=list)
    reliability: dict[str, list[Bin]] = field(default_factory=dict)
    calibration: Calibration | None = None
    examples: list[ExampleRow] = field(default_factory=list)
    gate: Verdict | None = None
    label_audit: LabelAudit | None = None
    group_audit: GroupAudit | None = None
    abstention: dict[str, list[tuple[float, float, float]]] = field(default_factory=dict)
    curves: dict[str, dict[str, Any]] = field(default_factory=dict)
    forgetting: dict[str, Any] | None = None
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
        """The evaluation that `to_dict` made plain; None where a number must be becomes NaN."""
        given = dict(plain)
        given["systems"] = {key: _system(one) for key, one in plain.get("systems", {}).items()}
        given["tests"] = [_comparison(one) for one in plain.get("tests", ())]
        given["per_label"] = [LabelRow(**one) for one in plain.get("per_label", ())]
        given["reliability"] = {key: [Bin(**one) for one in bins] for key, bins in plain.get("reliability", {}).items()}
        given["examples"] = [ExampleRow(**one) for one in plain.get("examples", ())]
        given["label_audit"] = _label_audit(plain.get("label_audit"))
        given["group_audit"] = _group_audit(plain.get("group_audit"))
        given["abstention"] = {key: [(c, a, t) for c, a, t in points] for key, points in plain.get("abstention", {}).items()}
        for key, model in (("calibration", Calibration), ("gate", Verdict)):
            given[key] = None if plain.get(key) is None else model.model_validate(plain[key])
        return cls(**given)


def _system(plain: Mapping[str, Any]) -> System:
    return System(**{**plain, "metrics": {name: _interval(one) for name, one in plain["metrics"].items()}})


def _comparison(plain: Mapping[str, Any]) -> Comparison:
    return Comparison(**{**plain, "difference": _interval(plain["difference"])})


def _label_audit(plain: Mapping[str, Any] | None) -> LabelAudit | None:
    if plain is None:
        return None
    return LabelAudit(plain["baseline"], [LabelChange(**_measured(one)) for one in plain["labels"]])


def _group_audit(plain: Mapping[str, Any] | None) -> GroupAudit | None:
    if plain is None:
        return None
    fields = [
        FieldAudit(
            one["name"],
            [GroupRow(**_measured(row)) for row in one["groups"]],
            {name: Gap(**gap) for name, gap in one["gaps"].items()},
        )
        for one in plain["fields"]
    ]
    return GroupAudit(**{**plain, "fields": fields})


def _measured(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The specialist's value as a number, the difference as an Interval; a difference or baseline that is not there stays None."""
    found = {**plain, "own": math.nan if plain["own"] is None else plain["own"]}
    if plain["difference"] is not None:
        found["difference"] = _interval(plain["difference"])
        found["baseline"] = math.nan if plain["baseline"] is None else plain["baseline"]
    return found


def _interval(plain: Mapping[str, float | None]) -> Interval:
    value, low, high = (math.nan if one is None else one for one in (plain["value"], plain["low"], plain["high"]))
    return Interval(value, low, high)


def finite(value: Any) -> Any:
    """Plain data with None for every number that is not finite, which JSON cannot hold."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
