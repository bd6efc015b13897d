"""What an evaluation found, as plain data that survives JSON: what card, report and `metrics.json` hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from vertical_sdk.card import Calibration, Verdict
from vertical_sdk.types import Interval, Task

__all__ = ["Bin", "Comparison", "Evaluation", "ExampleRow", "LabelRow", "System"]


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
    """The adapter against one rival on the same rows: adapter minus rival in one metric, and how likely that is by luck.

    mcnemar_p  McNemar's test of which rows are right; None where right and wrong make no sense
    """

    rival: str
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
    """One test row as a person reads it; labels of a multilabel row stand in one string."""

    text: str
    reference: str
    adapter: str
    base: str | None = None
    probability: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """How the specialist does beside its rivals, on rows that it was not trained on.

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
    account: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; a number that is not finite becomes None."""
        plain: dict[str, Any] = _finite(asdict(self))
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
        for key, model in (("calibration", Calibration), ("gate", Verdict)):
            given[key] = None if plain.get(key) is None else model.model_validate(plain[key])
        return cls(**given)


def _system(plain: Mapping[str, Any]) -> System:
    return System(**{**plain, "metrics": {name: _interval(one) for name, one in plain["metrics"].items()}})


def _comparison(plain: Mapping[str, Any]) -> Comparison:
    return Comparison(**{**plain, "difference": _interval(plain["difference"])})


def _interval(plain: Mapping[str, float | None]) -> Interval:
    value, low, high = (math.nan if one is None else one for one in (plain["value"], plain["low"], plain["high"]))
    return Interval(value, low, high)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
