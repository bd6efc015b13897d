"""The promotion gate: may this specialist be published?"""

from __future__ import annotations

import math
from collections.abc import Mapping

from vertical_sdk.card import Verdict
from vertical_sdk.evaluation.statistics import PairedTest
from vertical_sdk.metrics.measure import higher_is_better
from vertical_sdk.recipe import Gate
from vertical_sdk.types import Interval

__all__ = ["decide"]


def decide(gate: Gate, comparisons: Mapping[str, PairedTest]) -> Verdict:
    """Passed where the specialist beats each baseline of the gate by more than its margin, at its confidence.

    comparisons  baseline → the specialist minus the baseline in `gate.metric`, with the interval at `gate.confidence`

    It beats a baseline where even the lower end of the interval lies above the margin; of a metric where less is better, the
    difference is turned around. A baseline that was not measured is not beaten. Raises UnknownName for an unknown metric;
    ValueError for an interval made at another confidence.
    """
    sign = 1 if higher_is_better(gate.metric) else -1
    passed, reasons = True, []
    for baseline in gate.beats:
        test = comparisons.get(baseline)
        if test is None:
            passed = False
            reasons.append(f"Fails: {baseline} was not measured, so nothing shows that the specialist beats it.")
            continue
        if not math.isclose(test.confidence, gate.confidence):
            raise ValueError(f"the gate asks for confidence {gate.confidence}; {baseline} was compared at {test.confidence}")
        beaten, reason = _judge(gate, baseline, test.difference, sign)
        passed &= beaten
        reasons.append(reason)
    return Verdict(passed=passed, reasons=tuple(reasons) or ("Passes: the gate names no baseline.",))


def _judge(gate: Gate, baseline: str, difference: Interval, sign: int) -> tuple[bool, str]:
    value = sign * difference.value
    low, high = sorted((sign * difference.low, sign * difference.high))
    beaten = low > gate.margin
    way = "better" if value >= 0 else "worse"
    measured = (
        f"in {gate.metric} the specialist is {abs(value):.3f} {way} than {baseline} "
        f"({100 * gate.confidence:g}% interval of its advantage: {low:+.3f} to {high:+.3f})"
    )
    if beaten:
        return True, f"Passes: {measured}, surely more than the margin of {gate.margin:g}."
    if high <= gate.margin:
        return False, f"Fails: {measured}, which does not reach beyond the margin of {gate.margin:g}."
    return False, f"Fails: {measured}; that it is more than the margin of {gate.margin:g} is not sure."
