"""Audits: which labels and which groups of rows gained or lost, the specialist compared with its general model.

For two labels the rates and gaps are those of the literature on fairness: equal opportunity (Hardt, Price and Srebro, Equality
of Opportunity in Supervised Learning, 2016), demographic parity and predictive equality (Corbett-Davies et al., Algorithmic
Decision Making and the Cost of Fairness, 2017). The second label is the positive one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.errors import DataError, did_you_mean
from vertical_sdk.evaluation.result import Change, FieldAudit, Gap, GroupAudit, GroupRow, LabelAudit, LabelChange
from vertical_sdk.evaluation.statistics import (
    DEFAULT,
    Bootstrap,
    Ints,
    OfRows,
    paired_bootstrap,
    percentile_interval,
    resampled_rows,
)
from vertical_sdk.metrics.classification import label_counts
from vertical_sdk.metrics.measure import higher_is_better
from vertical_sdk.metrics.probability import auc
from vertical_sdk.outputs import Outputs
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Cell, Example, Interval, LabelSpace, TaskName

__all__ = [
    "FEW",
    "UNKNOWN",
    "Audited",
    "check_groups",
    "find_general_model",
    "group_audit",
    "group_names",
    "label_audit",
]

FEW = 10
"""A label or group with fewer rows gets no verdict, and gaps leave it out."""
MOST_GROUPS = 12
"""At most this many values of a field are groups of their own; the rarer values form one group together."""
UNKNOWN, OTHERS = "unknown", "others"
GAPS = ("demographic_parity", "equal_opportunity", "predictive_equality")


@dataclass(frozen=True, eq=False)
class Audited:
    """The outputs of the specialist and of its general model for the same rows.

    own            of the specialist
    baseline       of the general model; None if it was not measured
    references     as `Task.references` returns them: (rows,) positions in `labels`; multilabel (rows, labels) of 0 and 1
    labels         of the specialist; None if it has none
    task           of the specialist
    baseline_name  the general model's name among the systems
    resampling     how rows are drawn for intervals
    """

    own: Outputs
    baseline: Outputs | None
    references: Any
    labels: LabelSpace | None
    task: TaskName
    baseline_name: str = "base"
    resampling: Bootstrap = DEFAULT

    @cached_property
    def own_predictions(self) -> Any:
        """The specialist's predictions, in the form of `references`."""
        return get_task(self.task).predictions(self.own)

    @cached_property
    def baseline_predictions(self) -> Any:
        """The general model's predictions; None if it was not measured."""
        return None if self.baseline is None else get_task(self.task).predictions(self.baseline)

    @property
    def positive(self) -> str | None:
        """The second of two labels; None for other tasks."""
        labels = self.labels
        return labels.labels[1] if labels is not None and len(labels) == 2 and get_task(self.task).single_label else None


def find_general_model(measured: Iterable[str]) -> str | None:
    """Name the system that represents the general model: its linear probe if that was measured, otherwise the base."""
    names = set(measured)
    return next((name for name in ("probe", "base") if name in names), None)


def label_audit(audited: Audited) -> LabelAudit:
    """Measure F1 of each label, specialist and general model on the same resamples. Labels without rows are left out.

    audited  with labels and a baseline
    """
    references, labels = audited.references, audited.labels
    assert labels is not None
    size = len(labels)
    predictions = (audited.own_predictions, audited.baseline_predictions)

    def measure_f1(rows: Ints) -> NDArray[np.float64]:
        return np.stack([_f1(system[rows], references[rows], size) for system in predictions])

    f1 = measure_f1(np.arange(len(references)))
    resampled = [measure_f1(rows) for rows in resampled_rows(len(references), audited.resampling)]
    differences = np.array([own - baseline for own, baseline in resampled])
    counts = label_counts(references, references, size)[2]
    changes = []
    for i in np.flatnonzero(counts).tolist():
        difference = percentile_interval(float(f1[0, i] - f1[1, i]), differences[:, i], audited.resampling.confidence)
        n = int(counts[i])
        verdict = _verdict(difference, n, 1)
        changes.append(LabelChange(labels.labels[i], n, float(f1[0, i]), float(f1[1, i]), difference, verdict))
    order = ("gained", "not sure", "lost")
    changes.sort(key=lambda change: (order.index(change.verdict), -change.difference.value))
    return LabelAudit(audited.baseline_name, changes)


def group_audit(
    audited: Audited,
    rows: Sequence[Example],
    fields: Mapping[str, Sequence[float]],
    metric: str,
    measure: Callable[[str, Outputs], OfRows],
) -> GroupAudit:
    """Measure specialist and general model on each group of rows, for each of these fields of the record.

    fields   field → bounds (`evaluate.groups` of a recipe); without bounds each value is a group
    metric   the metric that groups are compared in
    measure  (metric, outputs) → the metric as a function of positions of rows

    Raises DataError if no row has a field.
    """
    check_groups(rows, fields)
    own = measure(metric, audited.own)
    baseline = None if audited.baseline is None else measure(metric, audited.baseline)
    audits = []
    for field, bounds in fields.items():
        members = _members(group_names(rows, field, bounds), bounds)
        groups = [_group_row(audited, metric, own, baseline, group, at) for group, at in members.items()]
        known = [at for group, at in members.items() if group != UNKNOWN]
        audits.append(FieldAudit(field, groups, _gaps(audited, known) if audited.positive else {}))
    return GroupAudit(metric, None if baseline is None else audited.baseline_name, audits, audited.positive)


def _group_row(audited: Audited, metric: str, own: OfRows, baseline: OfRows | None, group: str, at: Ints) -> GroupRow:
    """One group of rows.

    own, baseline  the metric of specialist and general model as functions of positions of rows
    at             the positions of the group's rows
    """
    difference = None
    if baseline is not None:
        resampling = audited.resampling.select(at)
        difference = paired_bootstrap(_inside(own, at), _inside(baseline, at), len(at), resampling).difference
    references, predictions, labels = audited.references, audited.own_predictions, audited.labels
    sign = 1 if higher_is_better(metric) else -1
    has_rates = audited.positive is not None
    return GroupRow(
        group=group,
        n=len(at),
        own=own(at),
        baseline=None if baseline is None else baseline(at),
        difference=difference,
        verdict="not sure" if difference is None else _verdict(difference, len(at), sign),
        truth={} if labels is None else _shares(references[at], labels),
        predicted={} if labels is None else _shares(predictions[at], labels),
        true_positive_rate=_positive_share(predictions, references == 1, at) if has_rates else None,
        false_positive_rate=_positive_share(predictions, references == 0, at) if has_rates else None,
        auc=_auc(audited.own, references, at) if has_rates else None,
    )


def _gaps(audited: Audited, members: Sequence[Ints]) -> dict[str, Gap]:
    own, baseline = audited.own_predictions, audited.baseline_predictions
    references = audited.references
    return {name: Gap(_gap(name, own, references, members), _gap(name, baseline, references, members)) for name in GAPS}


def check_groups(rows: Sequence[Example], fields: Iterable[str]) -> None:
    """Raise DataError for a field that no row's record has."""
    names = list(dict.fromkeys(name for row in rows for name, _ in row.record))
    for field in fields:
        if field not in names:
            available = f"The fields are {', '.join(names)}." if names else "These rows have no records."
            raise DataError(f"no row has a field {field!r}.{did_you_mean(field, names)} {available}", where="evaluate.groups")


def group_names(rows: Sequence[Example], field: str, bounds: Sequence[float] = ()) -> list[str]:
    """Name the group of each row by one field of its record: the value, or the bounds around it; "unknown" without a value.

    A value equal to a bound belongs to the upper group. If there are more than 12 values, the rarest are "others".
    """
    cells = [dict(row.record).get(field) for row in rows]
    if bounds:
        return [_between(cell, sorted(bounds)) for cell in cells]
    names = [UNKNOWN if cell is None else str(cell) if isinstance(cell, str | int) else f"{cell:g}" for cell in cells]
    common = [name for name, _ in Counter(name for name in names if name != UNKNOWN).most_common()]
    if len(common) <= MOST_GROUPS:
        return names
    own_groups = {*common[: MOST_GROUPS - 1], UNKNOWN}
    return [name if name in own_groups else OTHERS for name in names]


def _between(cell: Cell, bounds: Sequence[float]) -> str:
    if not isinstance(cell, int | float) or not math.isfinite(cell):
        return UNKNOWN
    return _span(int(np.searchsorted(bounds, cell, side="right")), bounds)


def _span(place: int, bounds: Sequence[float]) -> str:
    """The name of the interval between two bounds, the upper bound excluded."""
    if place == 0:
        return f"below {bounds[0]:g}"
    if place == len(bounds):
        return f"{bounds[-1]:g} and more"
    return f"{bounds[place - 1]:g} to below {bounds[place]:g}"


def _members(names: Sequence[str], bounds: Sequence[float]) -> dict[str, Ints]:
    """The rows of each group: intervals in their order, values sorted (numbers as numbers), "others" and "unknown" last."""
    first = [_span(place, sorted(bounds)) for place in range(len(bounds) + 1)] if bounds else _sort_values({*names})
    order = [*(name for name in first if name not in {OTHERS, UNKNOWN}), OTHERS, UNKNOWN]
    column = np.array(names, dtype=object)
    members = {name: np.flatnonzero(column == name) for name in order}
    return {name: at for name, at in members.items() if len(at)}


def _sort_values(names: Iterable[str]) -> list[str]:
    def key(name: str) -> tuple[int, float, str]:
        try:
            return 0, float(name), name
        except ValueError:
            return 1, 0.0, name

    return sorted(names, key=key)


def _inside(metric: OfRows, at: Ints) -> OfRows:
    """Turn a metric of positions in all rows into one of positions in a group."""
    return lambda rows: metric(at[rows])


def _verdict(difference: Interval, n: int, sign: int) -> Change:
    if n < FEW or difference.low <= 0 <= difference.high or math.isnan(difference.low):
        return "not sure"
    return "gained" if sign * difference.value > 0 else "lost"


def _f1(predictions: Any, references: Any, size: int) -> NDArray[np.float64]:
    """F1 of each label; 0 for a label that occurs neither in the references nor in the predictions."""
    right, predicted, true = label_counts(predictions, references, size)
    return np.asarray(2 * right / (predicted + true).clip(1))


def _shares(values: Any, labels: LabelSpace) -> dict[str, float]:
    """label → the share of these rows that have it; a missing answer has none."""
    counts = values.sum(axis=0) if values.ndim == 2 else np.bincount(values[values >= 0], minlength=len(labels))
    return {label: float(count) / len(values) for label, count in zip(labels.labels, counts, strict=True)}


def _positive_share(predictions: Any, among: Any, at: Ints) -> float | None:
    """The share of a group's rows `among` these for which the second label is predicted; None without such rows."""
    selected = at[among[at]]
    return float((predictions[selected] == 1).mean()) if len(selected) else None


def _auc(outputs: Outputs, references: Any, at: Ints) -> float | None:
    if outputs.probabilities is None or len(np.unique(references[at])) < 2:
        return None
    return float(auc(outputs.probabilities[at], references[at]))


def _gap(name: str, predictions: Any, references: Any, members: Sequence[Ints]) -> float | None:
    """The largest rate of a group minus the smallest, over groups with enough rows; None for fewer than two such groups.

    demographic_parity   the rate of predicting the second label
    equal_opportunity    the same among rows that have it
    predictive_equality  the same among rows that do not have it
    """
    if predictions is None:
        return None
    selections = {"equal_opportunity": references == 1, "predictive_equality": references == 0}
    among = selections.get(name, np.ones(len(references), dtype=bool))
    rates = [_positive_share(predictions, among, at) for at in members if np.count_nonzero(among[at]) >= FEW]
    known = [rate for rate in rates if rate is not None]
    return max(known) - min(known) if len(known) > 1 else None
