from __future__ import annotations

import pytest

from vertical_sdk.gate import decide
from vertical_sdk.recipe import Gate
from vertical_sdk.types import Interval, PairedTest


def _test(value: float, low: float, high: float, confidence: float = 0.95) -> PairedTest:
    return PairedTest(Interval(value, low, high), 0.01, confidence)


def test_specialist_that_beats_every_baseline_passes() -> None:
    gate = Gate(metric="macro_f1", beats=("base", "tfidf"))

    verdict = decide(gate, {"base": _test(0.30, 0.25, 0.35), "tfidf": _test(0.02, 0.001, 0.04)})

    assert verdict.passed
    assert verdict.reasons[1] == (
        "Passes: the specialist is 0.020 better than tfidf in macro_f1 "
        "(95% interval of its advantage: +0.001 to +0.040). The whole interval is above the margin of 0."
    )


@pytest.mark.parametrize(
    ("difference", "reason"),
    [
        (_test(0.02, -0.01, 0.05), "The interval contains the margin of 0.01."),
        (_test(0.005, -0.001, 0.009), "The whole interval is at or below the margin of 0.01."),
        (_test(-0.03, -0.05, -0.01), "0.030 worse than tfidf"),
        (
            _test(float("nan"), float("nan"), float("nan")),
            "Fails: accuracy of the specialist or of tfidf is undefined on these rows, so they cannot be compared.",
        ),
    ],
)
def test_baseline_that_may_not_be_beaten_fails_the_gate(difference: PairedTest, reason: str) -> None:
    verdict = decide(Gate(metric="accuracy", beats=("tfidf",), margin=0.01), {"tfidf": difference})

    assert not verdict.passed
    assert reason in verdict.reasons[0]


def test_lower_error_passes_the_gate() -> None:
    gate = Gate(metric="mae", beats=("base",))

    assert decide(gate, {"base": _test(-0.4, -0.5, -0.3)}).passed
    assert not decide(gate, {"base": _test(0.4, 0.3, 0.5)}).passed


def test_advantage_equal_to_the_margin_fails_the_gate() -> None:
    gate = Gate(metric="accuracy", beats=("base",), margin=0.25)

    assert not decide(gate, {"base": _test(0.5, 0.25, 0.75)}).passed


@pytest.mark.parametrize("difference", [_test(0.0, 0.0, 0.0), _test(0.02, 0.0, 0.05), _test(-0.01, -0.03, 0.01)])
def test_a_tie_never_passes_without_a_margin(difference: PairedTest) -> None:
    verdict = decide(Gate(metric="auc", beats=("boosted_trees",)), {"boosted_trees": difference})

    assert not verdict.passed
    assert verdict.result == "failed"


def test_a_margin_below_zero_passes_a_tie_as_non_inferior_and_not_as_better() -> None:
    gate = Gate(metric="mae", beats=("boosted_trees",), margin=-0.05)

    tie = decide(gate, {"boosted_trees": _test(0.01, -0.02, 0.04)})  # lower is better: at most 0.04 worse
    better = decide(gate, {"boosted_trees": _test(-0.3, -0.4, -0.2)})
    worse = decide(gate, {"boosted_trees": _test(0.03, -0.02, 0.06)})

    assert (tie.passed, tie.result, better.result, worse.result) == (True, "non-inferior", "passed", "failed")
    assert tie.reasons[0].endswith("A loss of 0.05 is allowed, and the whole interval is above it: non-inferior, not better.")


def test_notes_come_before_the_comparisons() -> None:
    verdict = decide(Gate(metric="auc", beats=("base",)), {"base": _test(0.3, 0.2, 0.4)}, notes=["Compared with base."])

    assert verdict.passed
    assert verdict.reasons[0] == "Compared with base."


def test_baseline_that_was_not_measured_fails_the_gate() -> None:
    verdict = decide(Gate(metric="accuracy", beats=("base", "probe")), {"base": _test(0.3, 0.2, 0.4)})

    assert not verdict.passed
    assert "probe was not measured" in verdict.reasons[1]


def test_interval_at_another_confidence_is_refused() -> None:
    with pytest.raises(ValueError, match=r"asks for confidence 0\.99; base was compared at 0\.95"):
        decide(Gate(metric="accuracy", beats=("base",), confidence=0.99), {"base": _test(0.3, 0.2, 0.4)})
