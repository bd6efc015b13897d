"""An evaluation as tables: systems with their intervals, paired tests, and the verdict of the gate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vertical_sdk.cli.output import say, show, table

__all__ = ["describe_gate", "interval_text", "p_text", "show_evaluation", "show_report"]


def show_evaluation(evaluation: Mapping[str, Any]) -> None:
    """Print an `Evaluation.to_dict()`, or the part of it that a card stores."""
    from vertical_sdk.card import Verdict
    from vertical_sdk.evaluation.headline import describe_rows

    systems: Mapping[str, Any] = evaluation["systems"]
    measured = {key: system for key, system in systems.items() if system["metrics"]}
    names = list(dict.fromkeys(name for system in measured.values() for name in system["metrics"]))
    share = 100 * evaluation["confidence"]
    known = {key: evaluation[key] for key in ("left_out", "tuned", "repeated", "unknown", "folds") if evaluation.get(key)}
    rows = [[system["title"], *(interval_text(system["metrics"].get(name)) for name in names)] for system in measured.values()]
    show(f"On {describe_rows(evaluation['rows'], **known)} ({share:g}% intervals)")
    show(table(["system", *names], rows))
    if known.get("unknown"):
        show(f"It is unknown whether the specialist was trained on some of these rows: {known['unknown']}")
    for system in systems.values():
        if system.get("error"):
            show(f"{system['title']} was not measured: {system['error']}")
    for warning in evaluation.get("warnings", ()):
        show(f"Warning: {warning}")
    tests = [
        [
            systems[test["baseline"]]["title"],
            test["metric"],
            interval_text(test["difference"], "+"),
            p_text(test["p_value"]),
            p_text(test["mcnemar_p"]),
        ]
        for test in evaluation["tests"]
    ]
    if tests:
        title = "How much better the specialist is, row by row, and how likely such a difference is by chance"
        show(table(["than", "in", "difference", "p", "McNemar's p"], tests, title=title))
    for key in ("contribution", "promise"):
        if stated := evaluation.get(key):
            show(stated["text"])
    gate = evaluation.get("gate")
    if gate is None:
        show(
            "Gate: none. The recipe says gate: false, so nothing shows that the specialist is better; it is published as ungated."
        )
        return
    result = Verdict.model_validate(gate).result
    show(f"Gate: {'FAILED' if result == 'failed' else result}")
    for reason in gate["reasons"]:
        show(f"  {reason}")


def describe_gate(gate: str, forced: bool) -> str:
    """The gate result of a version in a list: "passed", "ungated", or "failed, forced"."""
    return f"{gate}, forced" if forced else gate


def show_report(evaluation: Mapping[str, Any]) -> None:
    """Print the path of the report of these rows; the reason, if it could not be written."""
    if evaluation["report"]:
        say(f"Report: {evaluation['report']}")
    if evaluation["unwritten"]:
        say(f"The evaluation was not stored: {evaluation['unwritten']}")


def interval_text(value: Mapping[str, float | None] | None, sign: str = "") -> str | None:
    """A value with its interval: 0.812 [0.790, 0.833]."""
    if not value or value.get("value") is None:
        return None
    low, high = ("?" if value.get(end) is None else f"{value[end]:{sign}.3f}" for end in ("low", "high"))
    return f"{value['value']:{sign}.3f} [{low}, {high}]"


def p_text(value: float | None) -> str | None:
    """A p-value: 0.031."""
    return None if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"
