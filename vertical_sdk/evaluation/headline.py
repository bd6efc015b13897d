"""The first sentences of a report: the result of an evaluation."""

from __future__ import annotations

import math
from typing import Any

from vertical_sdk import catalog
from vertical_sdk.errors import UnknownName
from vertical_sdk.evaluation.plots import number
from vertical_sdk.evaluation.power import describe_few
from vertical_sdk.evaluation.result import Evaluation, System

__all__ = ["describe_rows", "headline", "metric_meaning", "metric_title", "p_text", "significance"]

_HOW = {
    "better": ("significantly better than", "every baseline that was measured"),
    "worse": ("significantly worse than", "every baseline that was measured"),
    "open": ("not significantly different from", "any baseline that was measured"),
    "undefined": ("not comparable, because the metric is undefined on these rows, with", "any baseline that was measured"),
}


def metric_title(name: str) -> str:
    """Return a metric's title in reports; the name itself for a metric that is not installed."""
    part = _find_metric(name)
    return part.title if part else name


def metric_meaning(name: str) -> str:
    """Return a sentence about a metric; "" if its registration has none."""
    part = _find_metric(name)
    return part.meaning if part else ""


def _find_metric(name: str) -> catalog.Part[Any] | None:
    try:
        return catalog.metrics.part(name)
    except UnknownName:
        return None


def headline(evaluation: Evaluation) -> str:
    """Say how often each system is right, which differences are significant, what the adapter adds, and what few rows cannot show."""
    adapter = evaluation.systems.get("adapter")
    if adapter is None or adapter.error or not adapter.metrics:
        return f"The specialist was not measured{f': {adapter.error}' if adapter and adapter.error else ''}."
    baselines = [system for _, system in _baselines(evaluation) if not system.error and system.metrics]
    counted = [m for m in adapter.metrics if m in {"accuracy", "exact_match"}]
    tested = [test.metric for test in evaluation.tests[:1] if test.metric in adapter.metrics]
    metric = next(iter([*counted, *tested, *adapter.metrics]))
    own = adapter.metrics[metric].value
    others = [(system.title, system.metrics[metric].value) for system in baselines if metric in system.metrics]
    if counted and all(map(math.isfinite, (own, *(value for _, value in others)))):
        base = _choose_denominator(own, [value for _, value in others])
        comparisons = [f"{title}: {value * base:,.0f}" for title, value in others]
        sentence = f"The specialist is right on {own * base:,.0f} of {base:,} test rows"
    else:
        note = " (lower is better)" if metric in evaluation.lower_is_better else ""
        comparisons = [f"{title}: {number(value)}" for title, value in others]
        sentence = f"The specialist reaches {number(own)} in {metric_title(metric)}{note}"
    others_text = f" ({'; '.join(comparisons)})" if comparisons else ""
    adds = evaluation.contribution["text"] if evaluation.contribution else ""
    few = describe_few({row.label: row.n for row in evaluation.per_label}, evaluation.confidence)
    return " ".join(filter(None, [f"{sentence}{others_text}.", significance(evaluation), adds, few]))


def describe_rows(rows: int, *, left_out: int = 0, tuned: int = 0, repeated: int = 0, unknown: str = "", folds: int = 0) -> str:
    """Say how many rows were evaluated, and whether the specialist was trained on them; the numbers are those of `Evaluation`."""
    counted = f"{rows:,} row{'s' if rows != 1 else ''}"
    if folds:
        again = f"; {repeated:,} of them are also among the rows that this adapter has learned" if repeated else ""
        return f"{counted}, each answered by the one of {folds} adapters that has not learned its fold{again}; what ships is their mean"
    if left_out:
        learned = f"{counted}; {left_out:,} more were left out: the specialist was trained on them"
        learned += f" ({left_out - tuned:,} training rows, {tuned:,} validation rows)" if tuned else ""
        return f"{learned}, and it is unknown whether it was trained on others" if unknown else learned
    if unknown:
        return f"{counted}; it is unknown whether the specialist was trained on some of them"
    if repeated:
        return f"{counted}; the specialist was also trained on {repeated:,} of them"
    return f"{counted} that the specialist was not trained on"


def significance(evaluation: Evaluation) -> str:
    """Say which differences in the main metric are significant, in a sentence."""
    if not evaluation.tests:
        return ""
    main = evaluation.tests[0].metric
    groups: dict[str, list[str]] = {outcome: [] for outcome in _HOW}
    for test in evaluation.tests:
        if test.metric == main:
            groups[test.outcome(evaluation.lower_is_better)].append(f"“{_title(evaluation, test.baseline)}”")
    alone = sum(1 for baselines in groups.values() if baselines) == 1
    parts = [
        f"{how} {everyone if alone and len(groups[outcome]) > 1 else _join(groups[outcome])}"
        for outcome, (how, everyone) in _HOW.items()
        if groups[outcome]
    ]
    return f"In {metric_title(main)} it is {', '.join(parts)}."


def p_text(p_value: float | None) -> str:
    """Format a p-value as papers do."""
    if p_value is None or not math.isfinite(p_value):
        return "–"
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def _baselines(evaluation: Evaluation) -> list[tuple[str, System]]:
    """All systems except the specialist, the base first."""
    others = [(key, system) for key, system in evaluation.systems.items() if key != "adapter"]
    return sorted(others, key=lambda pair: pair[0] != "base")


def _choose_denominator(own: float, others: list[float]) -> int:
    """The number of rows that shares are expressed in: 100, or 1,000 if 100 would hide a difference."""
    return 1000 if any(round(100 * own) == round(100 * other) and own != other for other in others) else 100


def _title(evaluation: Evaluation, key: str) -> str:
    return evaluation.systems[key].title if key in evaluation.systems else key


def _join(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
