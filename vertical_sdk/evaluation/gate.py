"""The promotion gate: decide whether a specialist may be published."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from vertical_sdk.card import Verdict
from vertical_sdk.evaluation.statistics import PairedTest
from vertical_sdk.metrics.measure import higher_is_better
from vertical_sdk.recipe import Gate
from vertical_sdk.types import Interval

__all__ = ["decide"]


def decide(gate: Gate, comparisons: Mapping[str, PairedTest], faults: Sequence[str] = ()) -> Verdict:
    """Decide whether the specialist beats each baseline of the gate by more than its margin, at its confidence.

    comparisons  baseline → the specialist minus the baseline in `gate.metric`, with the interval at `gate.confidence`
    faults       why no comparison can count, a sentence each (`red_lines.find_faults`); the gate fails if there is one

    The specialist beats a baseline if even the lower end of the interval of its advantage is above the margin. If lower is better in
    the metric, the advantage is the difference with its sign reversed. A baseline that was not measured is not beaten.

    Raises UnknownName for an unknown metric; ValueError for an interval at another confidence.
    """
    sign = 1 if higher_is_better(gate.metric) else -1
    passed, reasons = not faults and bool(gate.beats), []
    if not gate.beats:
        reasons.append("Fails: the gate names no baseline, so nothing shows that the specialist is better than anything.")
    for baseline in gate.beats:
        test = comparisons.get(baseline)
        if test is None:
            passed = False
            reasons.append(f"Fails: {baseline} was not measured, so nothing shows that the specialist beats it.")
            continue
        if not math.isclose(test.confidence, gate.confidence):
            raise ValueError(f"the gate asks for confidence {gate.confidence}; {baseline} was compared at {test.confidence}")
        beaten, reason = _compare(gate, baseline, test.difference, sign)
        passed &= beaten
        reasons.append(reason)
    reasons += [f"Fails: {fault[0].lower()}{fault[1:]}" for fault in faults]
    return Verdict(passed=passed, reasons=tuple(reasons))


def _compare(gate: Gate, baseline: str, difference: Interval, sign: int) -> tuple[bool, str]:
    """Whether the specialist beats one baseline, and the sentence that says so."""
    value = sign * difference.value
    low, high = sorted((sign * difference.low, sign * difference.high))
    if not all(map(math.isfinite, (value, low, high))):
        return (
            False,
            f"Fails: {gate.metric} of the specialist or of {baseline} is undefined on these rows, so they cannot be compared.",
        )
    comparison = (
        f"the specialist is {abs(value):.3f} {'better' if value >= 0 else 'worse'} than {baseline} in {gate.metric} "
        f"({100 * gate.confidence:g}% interval of its advantage: {low:+.3f} to {high:+.3f})."
    )
    if low > gate.margin:
        return True, f"Passes: {comparison} The whole interval is above the margin of {gate.margin:g}."
    if high <= gate.margin:
        return False, f"Fails: {comparison} The whole interval is at or below the margin of {gate.margin:g}."
    return False, f"Fails: {comparison} The interval contains the margin of {gate.margin:g}."
