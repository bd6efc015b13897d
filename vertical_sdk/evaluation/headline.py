"""What an evaluation found, in the sentences that a report begins with."""

from __future__ import annotations

import math

from vertical_sdk.evaluation.plots import number
from vertical_sdk.evaluation.result import Comparison, Evaluation, System

__all__ = ["METRICS", "headline", "metric_title", "p_text", "significance"]

METRICS = {
    "accuracy": ("Accuracy", "Share of rows that are right."),
    "macro_f1": ("Macro F1", "How well each label is found, every label counting the same."),
    "weighted_f1": ("Weighted F1", "How well each label is found, frequent labels counting more."),
    "micro_f1": ("Micro F1", "How well labels are found, every decision counting the same."),
    "balanced_accuracy": ("Balanced accuracy", "Share of each label's rows that are right, averaged over labels."),
    "mcc": ("MCC", "Agreement with the truth beyond chance: 1 is perfect, 0 is chance."),
    "ece": ("ECE", "How far confidence is from the share that is right."),
    "log_loss": ("Log loss", "The price of unlikely truths; honest confidence lowers it."),
    "auc": ("AUC", "How often a row with the label ranks above one without."),
    "average_precision": ("Average precision", "How pure the top of the ranking is."),
    "aurc": ("AURC", "Share that is wrong among the surest rows, averaged over how many of them are answered."),
    "accuracy_at_coverage": ("Accuracy at coverage", "Share that is right where only the surest rows are answered."),
    "quadratic_kappa": ("Quadratic kappa", "Agreement in rank beyond chance; far misses cost more."),
    "rank_mae": ("Ranks off", "How many ranks the answer is off, on average."),
    "mae": ("MAE", "How far the number is off, on average."),
    "rmse": ("RMSE", "How far the number is off, large misses counting more."),
    "r2": ("R²", "Share of the spread that is explained."),
    "exact_match": ("Exact match", "Share of answers that say exactly the right words."),
    "token_f1": ("Token F1", "Words that answer and reference share."),
    "rouge_l": ("ROUGE-L", "Words that answer and reference share, in order."),
}
"""Metric → its name for a reader, and what it says in a sentence."""

_HOW = {
    "better": ("significantly better than", "every baseline that was measured"),
    "worse": ("significantly worse than", "every baseline that was measured"),
    "open": ("not significantly different from", "any baseline that was measured"),
}


def metric_title(name: str) -> str:
    """A metric's name for a reader."""
    return METRICS.get(name, (name,))[0]


def headline(evaluation: Evaluation) -> str:
    """The verdict in a sentence: how often each system is right, and whether the difference is more than luck."""
    adapter = evaluation.systems.get("adapter")
    if adapter is None or adapter.error or not adapter.metrics:
        return f"The specialist was not measured{f': {adapter.error}' if adapter and adapter.error else ''}."
    baselines = [one for key, one in _baselines(evaluation) if not one.error and one.metrics]
    counted = [m for m in adapter.metrics if m in {"accuracy", "exact_match"}]
    metric = counted[0] if counted else evaluation.tests[0].metric if evaluation.tests else next(iter(adapter.metrics))
    own = adapter.metrics[metric].value
    others = [(one.title, one.metrics[metric].value) for one in baselines if metric in one.metrics]
    if counted:
        base = _per(own, [value for _, value in others])
        told = [f"{title}: {value * base:,.0f}" for title, value in others]
        sentence = f"The specialist is right on {own * base:,.0f} of {base:,} test rows"
    else:
        less = ", where less is better" if metric in evaluation.lower_is_better else ""
        told = [f"{title}: {number(value)}" for title, value in others]
        sentence = f"The specialist reaches {number(own)} in {metric_title(metric)}{less}"
    beside = f" ({'; '.join(told)})" if told else ""
    return f"{sentence}{beside}. {significance(evaluation)}".strip()


def significance(evaluation: Evaluation) -> str:
    """Which differences in the main metric are more than luck, in one or two sentences."""
    if not evaluation.tests:
        return ""
    main = evaluation.tests[0].metric
    sign = -1 if main in evaluation.lower_is_better else 1
    groups: dict[str, list[str]] = {"better": [], "worse": [], "open": []}
    for test in evaluation.tests:
        if test.metric == main:
            groups[_outcome(test, sign)].append(f"“{_title(evaluation, test.baseline)}”")
    alone = sum(1 for baselines in groups.values() if baselines) == 1
    said = [
        f"{how} {everyone if alone and len(groups[outcome]) > 1 else _and(groups[outcome])}"
        for outcome, (how, everyone) in _HOW.items()
        if groups[outcome]
    ]
    return f"In {metric_title(main)} it is {', '.join(said)}."


def p_text(p_value: float | None) -> str:
    """A p-value as a paper writes it."""
    if p_value is None or not math.isfinite(p_value):
        return "–"
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def _baselines(evaluation: Evaluation) -> list[tuple[str, System]]:
    """All systems but the adapter, the base first."""
    others = [(key, one) for key, one in evaluation.systems.items() if key != "adapter"]
    return sorted(others, key=lambda pair: pair[0] != "base")


def _outcome(test: Comparison, sign: int) -> str:
    low, high = sorted((sign * test.difference.low, sign * test.difference.high))
    return "better" if low > 0 else "worse" if high < 0 else "open"


def _per(own: float, others: list[float]) -> int:
    """Of how many rows to speak: 100, or 1,000 where that would hide a difference."""
    return 1000 if any(round(100 * own) == round(100 * other) and own != other for other in others) else 100


def _title(evaluation: Evaluation, key: str) -> str:
    return evaluation.systems[key].title if key in evaluation.systems else key


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
