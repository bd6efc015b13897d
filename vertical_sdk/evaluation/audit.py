"""Who gained and who lost: the specialist against its general model, label by label, and over groups of rows.

For two labels the rates and gaps are those of the literature on fairness: equal opportunity (Hardt, Price and Srebro, Equality
of Opportunity in Supervised Learning, 2016), demographic parity and predictive equality (Corbett-Davies et al., Algorithmic
Decision Making and the Cost of Fairness, 2017). The second label is the one that is looked for.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.errors import DataError, did_you_mean
from vertical_sdk.evaluation.result import Change, FieldAudit, Gap, GroupAudit, GroupRow, LabelAudit, LabelChange
from vertical_sdk.evaluation.statistics import Ints, OfRows, paired_bootstrap, percentile_interval, resampled_rows
from vertical_sdk.metrics.classification import label_counts
from vertical_sdk.metrics.measure import higher_is_better
from vertical_sdk.metrics.probability import auc
from vertical_sdk.outputs import Outputs
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Cell, Example, Interval, LabelSpace, Task

__all__ = ["FEW", "UNKNOWN", "check_groups", "general_model", "group_audit", "group_names", "label_audit"]

FEW = 10
"""Of fewer rows than this nothing is said for sure, and no gap is taken over them."""
MOST_GROUPS = 12
"""So many values of a field are groups of their own; the rarer ones stand together."""
UNKNOWN, OTHERS = "unknown", "others"
GAPS = ("demographic_parity", "equal_opportunity", "predictive_equality")


def general_model(measured: Iterable[str]) -> str | None:
    """Which system stands for the general model: its linear probe where that was measured, else the base itself."""
    known = set(measured)
    return next((name for name in ("probe", "base") if name in known), None)


def label_audit(
    own: Outputs,
    baseline: Outputs,
    truth: Any,
    labels: LabelSpace,
    task: Task,
    *,
    baseline_name: str,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    groups: Sequence[Hashable | None] | None = None,
) -> LabelAudit:
    """F1 of each label, specialist and general model on the same resamples; labels that no row has are left out.

    own, baseline  what the specialist and the general model said
    truth       (rows,) positions in `labels`; multilabel (rows, labels) of 0 and 1
    baseline_name  the general model's name among the systems
    groups      for each row the group it is drawn with; each row by itself where there is none
    """
    said = (get_task(task).predictions(own), get_task(task).predictions(baseline))
    size = len(labels)

    def f1(rows: Ints) -> NDArray[np.float64]:
        return np.stack([_f1(one[rows], truth[rows], size) for one in said])

    value = f1(np.arange(len(truth)))
    drawn = [f1(rows) for rows in resampled_rows(len(truth), resamples, seed, groups)]
    differences = np.array([one[0] - one[1] for one in drawn])
    counts = label_counts(truth, truth, size)[2]
    changes = []
    for i in np.flatnonzero(counts).tolist():
        difference = percentile_interval(float(value[0, i] - value[1, i]), differences[:, i], confidence)
        n = int(counts[i])
        verdict = _verdict(difference, n, 1)
        changes.append(LabelChange(labels.labels[i], n, float(value[0, i]), float(value[1, i]), difference, verdict))
    order = ("gained", "not sure", "lost")
    return LabelAudit(baseline_name, sorted(changes, key=lambda one: (order.index(one.verdict), -one.difference.value)))


def group_audit(
    own: Outputs,
    baseline: Outputs | None,
    truth: Any,
    rows: Sequence[Example],
    fields: Mapping[str, Sequence[float]],
    *,
    labels: LabelSpace | None,
    task: Task,
    metric: str,
    measure: Callable[[str, Outputs], OfRows],
    baseline_name: str = "base",
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    groups: Sequence[Hashable | None] | None = None,
) -> GroupAudit:
    """How specialist and general model do on each group of rows, for each field of the record that is asked about.

    own, baseline  what the specialist and the general model said (None: it was not measured)
    truth       as `outputs.references` has it
    fields      field → bounds (`evaluate.groups` of a recipe); without bounds each value is a group
    metric      the metric that groups are compared by
    measure     (metric, outputs) → the metric as a function of positions of rows
    groups      for each row the group it is drawn with; each row by itself where there is none

    Raises DataError where no row has a field.
    """
    check_groups(rows, fields)
    two = labels is not None and len(labels) == 2 and get_task(task).single_label
    first, second = measure(metric, own), None if baseline is None else measure(metric, baseline)
    said, theirs = get_task(task).predictions(own), None if baseline is None else get_task(task).predictions(baseline)
    sign = 1 if higher_is_better(metric) else -1

    def group_row(group: str, at: Ints) -> GroupRow:
        difference = None
        if second is not None:
            difference = paired_bootstrap(
                _inside(first, at),
                _inside(second, at),
                len(at),
                resamples=resamples,
                confidence=confidence,
                seed=seed,
                groups=None if groups is None else [groups[i] for i in at.tolist()],
            ).difference
        return GroupRow(
            group,
            len(at),
            first(at),
            None if second is None else second(at),
            difference,
            "not sure" if difference is None else _verdict(difference, len(at), sign),
            {} if labels is None else _shares(truth[at], labels),
            {} if labels is None else _shares(said[at], labels),
            _share(said, truth == 1, at) if two else None,
            _share(said, truth == 0, at) if two else None,
            _auc(own, truth, at) if two else None,
        )

    tables = []
    for field, bounds in fields.items():
        members = _members(group_names(rows, field, bounds), bounds)
        known = [at for group, at in members.items() if group != UNKNOWN]
        gaps = {name: Gap(_gap(name, said, truth, known), _gap(name, theirs, truth, known)) for name in GAPS} if two else {}
        tables.append(FieldAudit(field, [group_row(group, at) for group, at in members.items()], gaps))
    positive = labels.labels[1] if two and labels is not None else None
    return GroupAudit(metric, None if baseline is None else baseline_name, tables, positive)


def check_groups(rows: Sequence[Example], fields: Iterable[str]) -> None:
    """Raise DataError for a field that no row's record has."""
    known = list(dict.fromkeys(name for row in rows for name, _ in row.record))
    for field in fields:
        if field not in known:
            there = f"The fields are {', '.join(known)}." if known else "These rows have no records at all."
            raise DataError(f"evaluate.groups: no row has a field {field!r}.{did_you_mean(field, known)} {there}")


def group_names(rows: Sequence[Example], field: str, bounds: Sequence[float] = ()) -> list[str]:
    """The group of each row by one field of its record: its value, or between which bounds it lies; "unknown" without one.

    A value at a bound belongs to the upper side. Of more than 12 values the rarest are "others".
    """
    cells = [dict(row.record).get(field) for row in rows]
    if bounds:
        return [_between(cell, sorted(bounds)) for cell in cells]
    names = [UNKNOWN if cell is None else cell if isinstance(cell, str) else f"{cell:g}" for cell in cells]
    common = [name for name, _ in Counter(name for name in names if name != UNKNOWN).most_common()]
    if len(common) <= MOST_GROUPS:
        return names
    kept = {*common[: MOST_GROUPS - 1], UNKNOWN}
    return [name if name in kept else OTHERS for name in names]


def _between(cell: Cell, bounds: Sequence[float]) -> str:
    if not isinstance(cell, int | float) or not math.isfinite(cell):
        return UNKNOWN
    return _span(int(np.searchsorted(bounds, cell, side="right")), bounds)


def _span(place: int, bounds: Sequence[float]) -> str:
    """The name of what lies between two bounds, the upper one left out."""
    if place == 0:
        return f"below {bounds[0]:g}"
    if place == len(bounds):
        return f"{bounds[-1]:g} and more"
    return f"{bounds[place - 1]:g} to below {bounds[place]:g}"


def _members(names: Sequence[str], bounds: Sequence[float]) -> dict[str, Ints]:
    """The rows of each group: bounds in their order, values as they sort (numbers as numbers), the leftovers last."""
    first = [_span(place, sorted(bounds)) for place in range(len(bounds) + 1)] if bounds else _in_order({*names})
    order = [*(name for name in first if name not in {OTHERS, UNKNOWN}), OTHERS, UNKNOWN]
    column = np.array(names, dtype=object)
    found = {name: np.flatnonzero(column == name) for name in order}
    return {name: at for name, at in found.items() if len(at)}


def _in_order(names: Iterable[str]) -> list[str]:
    def key(name: str) -> tuple[int, float, str]:
        try:
            return 0, float(name), name
        except ValueError:
            return 1, 0.0, name

    return sorted(names, key=key)


def _inside(metric: OfRows, at: Ints) -> OfRows:
    """A metric of positions in a group, made of one of positions in all rows."""
    return lambda rows: metric(at[rows])


def _verdict(difference: Interval, n: int, sign: int) -> Change:
    if n < FEW or difference.low <= 0 <= difference.high or math.isnan(difference.value):
        return "not sure"
    return "gained" if sign * difference.value > 0 else "lost"


def _f1(predictions: Any, truth: Any, size: int) -> NDArray[np.float64]:
    """F1 of each label; 0 where a label is neither there nor said."""
    right, predicted, true = label_counts(predictions, truth, size)
    return np.asarray(2 * right / (predicted + true).clip(1))


def _shares(values: Any, labels: LabelSpace) -> dict[str, float]:
    """label → the share of these rows that have it; a missing answer has none."""
    counts = values.sum(axis=0) if values.ndim == 2 else np.bincount(values[values >= 0], minlength=len(labels))
    return {label: float(count) / len(values) for label, count in zip(labels.labels, counts, strict=True)}


def _share(said: Any, among: Any, at: Ints) -> float | None:
    """How often the second label is said of the rows of a group that are `among` them; None where there are none."""
    picked = at[among[at]]
    return float((said[picked] == 1).mean()) if len(picked) else None


def _auc(outputs: Outputs, truth: Any, at: Ints) -> float | None:
    if outputs.probabilities is None or len(np.unique(truth[at])) < 2:
        return None
    return float(auc(outputs.probabilities[at], truth[at]))


def _gap(name: str, said: Any, truth: Any, members: Sequence[Ints]) -> float | None:
    """The largest rate of a group less the smallest, over groups with enough rows to have a rate; None for fewer than two.

    demographic_parity   of saying the second label
    equal_opportunity    of saying it where it is true
    predictive_equality  of saying it where it is not
    """
    if said is None:
        return None
    among = {"equal_opportunity": truth == 1, "predictive_equality": truth == 0}.get(name, np.ones(len(truth), dtype=bool))
    rates = [_share(said, among, at) for at in members if np.count_nonzero(among[at]) >= FEW]
    known = [rate for rate in rates if rate is not None]
    return max(known) - min(known) if len(known) > 1 else None
