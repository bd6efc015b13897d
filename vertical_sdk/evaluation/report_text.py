"""What an evaluation means, in sentences for people who decide: in how many of 1,000 cases each system is right, and what to do next."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vertical_sdk.alternatives import MEMBERS
from vertical_sdk.evaluation.audit import FEW
from vertical_sdk.evaluation.plots import number
from vertical_sdk.evaluation.report_words import Words
from vertical_sdk.evaluation.result import Evaluation
from vertical_sdk.model_card import CROSSFIT

__all__ = ["Meaning", "describe_contribution", "describe_known", "describe_meaning", "list_next_steps", "write_verdict"]

CASES = 1000
"""Right answers are counted in as many cases."""
SHOWN = 3
"""The most labels that a step names."""
WEAK = 0.8
"""Labels with a lower F1 are worth a look."""
RIGHT = ("accuracy", "exact_match")
"""Metrics whose value is the share of cases that are right."""


@dataclass(frozen=True)
class Meaning:
    """What one system's result means.

    right      of 1,000 cases; None for tasks without right and wrong answers
    low, high  the range of `right`; None if it was not measured
    error      the mean absolute error, in the unit of the target; None for tasks with right and wrong answers
    """

    key: str
    title: str
    right: int | None = None
    low: int | None = None
    high: int | None = None
    error: float | None = None

    @property
    def wrong(self) -> int | None:
        """Of 1,000 cases."""
        return None if self.right is None else CASES - self.right


def describe_meaning(e: Evaluation, words: Words, order: Sequence[str]) -> list[Meaning]:
    """Say for each measured system in how many of 1,000 cases it is right, or how far off it is; [] if neither is known."""
    meanings = []
    for key in order:
        title = words.phrase(e.systems[key].title)
        interval = next((e.systems[key].metrics[name] for name in RIGHT if name in e.systems[key].metrics), None)
        share = e.right[key] / e.rows if key in e.right and e.rows else interval.value if interval is not None else math.nan
        if math.isfinite(share):
            ends = [interval.low, interval.high] if interval is not None else [math.nan]
            low, high = [round(CASES * end) for end in ends] if all(map(math.isfinite, ends)) else [None, None]
            meanings.append(Meaning(key, title, round(CASES * share), low, high))
        elif math.isfinite(e.errors.get(key, math.nan)):
            meanings.append(Meaning(key, title, error=e.errors[key]))
    return meanings


def write_verdict(e: Evaluation, words: Words, meanings: Sequence[Meaning]) -> str:
    """The first sentences of the report: what the specialist reaches, what the others reach, and whether that is chance."""
    adapter = e.systems.get("adapter")
    if adapter is None or adapter.error or not adapter.metrics:
        return words("verdict.failed", error=adapter.error) if adapter and adapter.error else words("verdict.unmeasured")
    own = next((meaning for meaning in meanings if meaning.key == "adapter"), None)
    others = [meaning for meaning in meanings if meaning.key not in {"adapter", "alone"}]
    values: dict[str, object]
    if own is None:
        name = e.tests[0].metric if e.tests else next(iter(adapter.metrics))
        key = "verdict.lower" if name in e.lower_is_better else "verdict.metric"
        values = {"n": number(adapter.metrics[name].value), "metric": words.metric(name)}
        compared = {
            words.phrase(system.title): number(system.metrics[name].value)
            for other, system in e.systems.items()
            if other not in {"adapter", "alone"} and name in system.metrics
        }
    elif own.right is not None:
        key, values = "verdict.right", {"cases": f"{CASES:,}", "n": f"{own.right:,}"}
        compared = {other.title: f"{other.right:,}" for other in others if other.right is not None}
    else:
        key, values = "verdict.error", {"n": number(own.error)}
        compared = {other.title: number(other.error) for other in others if other.error is not None}
    listed = words("join").join(words("verdict.other", title=title, n=value) for title, value in compared.items())
    first = words(key, others=words("verdict.others", list=listed) if listed else "", **values)
    return ("" if words.language == "zh" else " ").join([first, *_outcomes(e, words), *describe_contribution(e, words)])


def describe_contribution(e: Evaluation, words: Words) -> list[str]:
    """Say what the adapter adds to the best system that does without it; [] if that was not measured."""
    if e.contribution is None:
        return []
    alternative, outcome, metric = (str(e.contribution[key]) for key in ("alternative", "outcome", "metric"))
    name = words.phrase(e.systems[alternative].title if alternative in e.systems else alternative)
    if alternative == MEMBERS and name[-1:] in {")", "）"}:
        name = re.split(r"[(（]", name[:-1], maxsplit=1)[-1]  # the members' own titles
    size = number(abs(float(e.contribution["difference"]["value"])))
    return [words(f"contribution.{outcome}", name=name, n=size, metric=words.metric(metric))]


def describe_known(e: Evaluation, words: Words) -> list[str]:
    """Say whether the specialist was trained on the evaluated rows."""
    known = [words("facts.known.left_out", n=f"{e.left_out:,}")] if e.left_out else []
    if e.unknown:
        known.append(words("facts.known.unknown", reason=e.unknown.rstrip(".")))
    if e.repeated:
        known.append(words("facts.known.repeated", n=f"{e.repeated:,}"))
    if e.folds:
        known += _describe_folds(e, words)
    return known or [words("facts.known.apart")]


def _describe_folds(e: Evaluation, words: Words) -> list[str]:
    """Say that the adapters of the folds answered, and how far the mean of them agrees."""
    sentences = [words("facts.known.folds", n=e.folds)]
    training = e.provenance.get("training")
    facts = training.get(CROSSFIT) if isinstance(training, Mapping) else None
    agreement = facts.get("agreement") if isinstance(facts, Mapping) else None
    if isinstance(agreement, Mapping):
        key = "labels" if "equal_labels" in agreement else "numbers"
        values = {name: number(agreement.get(name)) for name in ("equal_labels", "largest_difference")}
        sentences.append(words(f"facts.agreement.{key}", rows=f"{agreement['rows']:,}", **values))
    return sentences


def list_next_steps(e: Evaluation, words: Words) -> list[str]:
    """List what to do next, the decision first."""
    steps = [words("next.warnings")] if e.warnings else []
    if e.contribution is not None and e.contribution["outcome"] != "adds":
        steps.append(words("next.no_adapter"))
    if e.gate is None:
        steps.append(words("next.no_gate"))
    elif e.gate.passed:
        steps.append(words("next.publish", command="vertical registry publish RUN"))
    else:
        steps.append(words("next.keep"))
    if e.repeated:
        steps.append(words("next.repeated", n=e.repeated))
    if e.unknown:
        steps.append(words("next.unknown"))
    if failed := [words.phrase(system.title) for system in e.systems.values() if system.error]:
        steps.append(words("next.failed", names=words.join(failed)))
    if e.forgetting and not e.forgetting.get("passed"):
        steps.append(words("next.forgot"))
    if open_ := _select(e, words, "open"):
        steps.append(words("next.more_rows", rows=f"{e.rows:,}", names=words.join(open_)))
    if few := [row.label for row in e.per_label if row.n < FEW]:
        steps.append(words("next.few", few=FEW, names=_some(few, words)))
    lost = [change.label for change in e.label_audit.labels if change.verdict == "lost"] if e.label_audit else []
    if lost:
        steps.append(words("next.lost", names=_some(lost, words)))
    steps += _labels_to_look_at(e, words)
    if e.abstention.get("adapter"):
        steps.append(words("next.sure"))
    return steps


def _labels_to_look_at(e: Evaluation, words: Words) -> list[str]:
    """A step for each of the weakest labels with enough rows."""
    weak = sorted((row for row in e.per_label if row.n >= FEW and row.f1 < WEAK), key=lambda row: row.f1)[:SHOWN]
    steps = []
    for row in weak:
        place = e.labels.index(row.label) if row.label in e.labels else -1
        counts = dict(enumerate(e.confusion[place])) if 0 <= place < len(e.confusion) else {}
        counts.pop(place, None)
        other = max(counts, key=counts.__getitem__, default=None)
        mistaken = words("next.mistaken", other=f"“{e.labels[other]}”") if other is not None and counts[other] else ""
        steps.append(words("next.look", label=f"“{row.label}”", f1=number(row.f1), n=f"{row.n:,}", mistaken=mistaken))
    return steps


def _outcomes(e: Evaluation, words: Words) -> list[str]:
    """Which differences in the main metric are more than chance, a sentence for each outcome."""
    metric = words.metric(e.tests[0].metric) if e.tests else ""
    outcomes = {outcome: _select(e, words, outcome) for outcome in ("better", "worse", "open", "undefined")}
    return [words(f"outcome.{outcome}", names=words.join(names), metric=metric) for outcome, names in outcomes.items() if names]


def _select(e: Evaluation, words: Words, outcome: str) -> list[str]:
    """The baselines with this outcome in the main metric."""
    return [
        f"“{words.phrase(e.systems[test.baseline].title) if test.baseline in e.systems else test.baseline}”"
        for test in e.tests
        if test.metric == e.tests[0].metric and test.baseline != "alone" and test.outcome(e.lower_is_better) == outcome
    ]


def _some(names: Sequence[str], words: Words) -> str:
    """The first names, and the number of the others."""
    quoted = [f"“{name}”" for name in names[:SHOWN]]
    return words.join(quoted) if len(names) <= SHOWN else f"{words('join').join(quoted)} (+{len(names) - SHOWN})"
