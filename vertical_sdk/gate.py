"""The promotion gate: decide whether a specialist may be published, and decide it again from the results in its card."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple

from vertical_sdk.alternatives import advantage, name_alternatives, read_scores, read_tests
from vertical_sdk.card import Card, Verdict
from vertical_sdk.errors import VerticalError
from vertical_sdk.recipe import Forgetting, Gate, Recipe
from vertical_sdk.tasks import get_gate
from vertical_sdk.types import Interval, PairedTest

__all__ = ["decide", "decide_again"]

FAILS = "Fails: "
RED_LINE = re.compile(
    r"all \d+ test rows have the same answer|the specialist gives .+ to every row|.+ averages over labels, and no test row has",
    re.IGNORECASE,
)
"""The beginning of a sentence of `evaluation.red_lines.find_faults`."""
FORGOT = re.compile(
    r"\w+: on \d+ paragraphs of general text, (.{1,40}) is (\d+\.\d{3}) with the adapter and (\d+\.\d{3}) without\."
)
"""The beginning of the sentence of `evaluation.forgetting.verdict`."""
ROUNDED = 0.001
"""How much the difference of two numbers with three digits may be off."""


def decide(gate: Gate, comparisons: Mapping[str, PairedTest], faults: Sequence[str] = (), notes: Sequence[str] = ()) -> Verdict:
    """Decide whether the specialist beats each baseline of the gate by more than its margin, at its confidence.

    gate         which names what it compares with (`alternatives.name_alternatives`)
    comparisons  baseline → the specialist minus the baseline in `gate.metric`, with the interval at `gate.confidence`
    faults       why no comparison can count, a sentence each (`red_lines.find_faults`); the gate fails if there is one
    notes        sentences about the comparisons, which come first among the reasons

    The specialist beats a baseline if even the lower end of the interval of its advantage is above the margin. If lower is better in
    the metric, the advantage is the difference with its sign reversed. A baseline that was not measured is not beaten. With a margin
    below 0, a specialist whose advantage may be 0 or less passes as non-inferior (Piaggio et al., CONSORT extension for
    non-inferiority trials, 2012).

    Raises UnknownName for an unknown metric; ValueError for an interval at another confidence.
    """
    passed, noninferior, reasons = not faults and bool(gate.beats), False, [*notes]
    if not gate.beats:
        reasons.append("Fails: the gate names no baseline, so nothing shows that the specialist is better than anything.")
    for baseline in gate.beats or ():
        test = comparisons.get(baseline)
        if test is None:
            passed = False
            reasons.append(f"Fails: {baseline} was not measured, so nothing shows that the specialist beats it.")
            continue
        if not math.isclose(test.confidence, gate.confidence):
            raise ValueError(f"the gate asks for confidence {gate.confidence}; {baseline} was compared at {test.confidence}")
        beaten, reason = _compare(gate, baseline, test.difference)
        passed &= beaten
        noninferior |= beaten and advantage(test.difference, gate.metric).low <= 0
        reasons.append(reason)
    reasons += [f"Fails: {fault[0].lower()}{fault[1:]}" for fault in faults]
    return Verdict(passed=passed, noninferior=passed and noninferior, reasons=tuple(reasons))


def _compare(gate: Gate, baseline: str, difference: Interval) -> tuple[bool, str]:
    """Whether the specialist beats one baseline, and the sentence that says so."""
    value, low, high = astuple(advantage(difference, gate.metric))
    if not all(map(math.isfinite, (value, low, high))):
        return (
            False,
            f"Fails: {gate.metric} of the specialist or of {baseline} is undefined on these rows, so they cannot be compared.",
        )
    comparison = (
        f"the specialist is {abs(value):.3f} {'better' if value >= 0 else 'worse'} than {baseline} in {gate.metric} "
        f"({100 * gate.confidence:g}% interval of its advantage: {low:+.3f} to {high:+.3f})."
    )
    if low > gate.margin and low <= 0:
        loss = f"A loss of {-gate.margin:g} is allowed, and the whole interval is above it: non-inferior, not better."
        return True, f"Passes: {comparison} {loss}"
    if low > gate.margin:
        return True, f"Passes: {comparison} The whole interval is above the margin of {gate.margin:g}."
    if high <= gate.margin:
        return False, f"Fails: {comparison} The whole interval is at or below the margin of {gate.margin:g}."
    return False, f"Fails: {comparison} The interval contains the margin of {gate.margin:g}."


def decide_again(card: Card, recipe: Recipe) -> Verdict:
    """Decide the gate again, from the comparisons, warnings and reasons that a card records.

    recipe  the one in the card

    What the card does not record counts against it: a baseline without a comparison, intervals at another confidence, a budget for
    forgetting without its measurement. Red lines and forgetting are recorded as sentences. A card records what its publisher says, so
    this finds a verdict that does not follow from the results, not results that were never measured.
    """
    stated = card.gate.reasons if card.gate else ()
    passed, noninferior, reasons = True, False, []
    gate = get_gate(recipe)
    if gate is not None:
        verdict = _decide_by_tests(card, recipe, gate)
        passed, noninferior, reasons = verdict.passed, verdict.noninferior, list(verdict.reasons)
    if recipe.evaluate.forgetting is not None and not card.members_only:
        within, reason = _judge_forgetting(stated, recipe.evaluate.forgetting)
        passed &= within
        reasons.append(reason)
    faults = [reason for reason in stated if reason.startswith(FAILS)]
    faults += [f"{FAILS}{line}" for line in card.metrics.get("warnings") or () if RED_LINE.match(line)]
    passed &= not faults
    return Verdict(passed=passed, noninferior=passed and noninferior, reasons=tuple(dict.fromkeys((*reasons, *faults))))


def _decide_by_tests(card: Card, recipe: Recipe, gate: Gate) -> Verdict:
    confidence = card.metrics.get("confidence")
    tests = read_tests(card, gate.metric)
    if tests and (confidence is None or not math.isclose(confidence, gate.confidence)):
        reason = f"its comparisons are at confidence {confidence}, and its gate asks for {gate.confidence}."
        return Verdict(passed=False, reasons=(FAILS + reason,))
    try:
        return decide(name_alternatives(recipe, gate, read_scores(card), members_only=card.members_only), tests)
    except VerticalError:
        reason = f"the metric {gate.metric!r} is not known here, so the comparison cannot be judged. Install the package of its vertical."
        return Verdict(passed=False, reasons=(FAILS + reason,))


def _judge_forgetting(stated: Sequence[str], settings: Forgetting) -> tuple[bool, str]:
    """Whether the cost that the reasons of a card state is within the budget of its recipe, and the sentence about it."""
    found = next(((reason, match) for reason in stated if (match := FORGOT.match(reason))), None)
    if found is None:
        return False, f"{FAILS}its recipe has a budget for forgetting, and its card does not say how much was forgotten."
    reason, match = found
    after, before = float(match[2]), float(match[3])
    cost = after - before if match[1] == "bits per character" else before - after
    if cost > settings.budget + ROUNDED:
        return (
            False,
            f"{FAILS}its card states a cost in general ability of {cost:.3f}, more than the budget of {settings.budget:g}.",
        )
    return True, reason
