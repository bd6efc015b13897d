"""The report of an evaluation: one HTML file for managers, which needs no other file and can be printed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vertical_sdk.evaluation.audit import FEW
from vertical_sdk.evaluation.headline import headline, metric_meaning, metric_title, p_text
from vertical_sdk.evaluation.plots import (
    MOST_LABELS,
    change_plot,
    confusion_plot,
    interval_plot,
    line_plot,
    map_plot,
    number,
    reliability_plot,
)
from vertical_sdk.evaluation.result import Evaluation
from vertical_sdk.paths import write_whole
from vertical_sdk.tasks import get_task

__all__ = ["render", "write_report"]

MOST_TEXT = 500
"""Examples are cut to this many characters."""
MOST_PAIRS = 10
"""The number of confusions that are listed."""
COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.5, 0.3)
"""The shares of rows answered that are listed below the abstention curve."""
GAPS = {
    "demographic_parity": ("Demographic parity", "the predicted share"),
    "equal_opportunity": ("Equal opportunity", "the true-positive rate"),
    "predictive_equality": ("Predictive equality", "the false-positive rate"),
}
"""Gap between groups → its title, and its rate."""


def write_report(path: Path, evaluation: Mapping[str, Any]) -> None:
    """Write the report of an evaluation (`Evaluation.to_dict()`) as one HTML file.

    Raises RunError if the file cannot be written.
    """
    write_whole(path, render(Evaluation.from_dict(evaluation)))


def render(evaluation: Evaluation) -> str:
    """Render the report as HTML. All text is escaped, and the page fetches nothing."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, p=p_text, metric=metric_title, clip=_clip, share=_share)
    before, after = (evaluation.reliability.get(when, []) for when in ("before", "after"))
    order = sorted(evaluation.systems, key=lambda key: ("adapter", "base", key).index(key))
    return environment.get_template("report.html").render(
        e=evaluation,
        headline=headline(evaluation),
        level=f"{100 * evaluation.confidence:g}%",
        systems=[(key, evaluation.systems[key]) for key in order],
        titles={key: system.title for key, system in evaluation.systems.items()},
        metrics=_metrics(evaluation, order),
        confusion=confusion_plot(evaluation.confusion, evaluation.labels) if evaluation.confusion else "",
        pairs=_pairs(evaluation),
        most_labels=MOST_LABELS,
        reliability=reliability_plot(before, after) if before or after else "",
        judged=get_task(evaluation.task).labelled,
        label_audit=_label_audit(evaluation),
        few=FEW,
        gaps=GAPS,
        abstention=_abstention(evaluation, order),
        curves=[(curve.get("title", name), _curve(curve)) for name, curve in evaluation.curves.items()],
        account=_account(evaluation.account),
        provenance=_provenance(evaluation.provenance),
        sources=[source for source in evaluation.provenance.get("sources") or () if isinstance(source, Mapping)],
    )


def _metrics(evaluation: Evaluation, order: list[str]) -> list[dict[str, Any]]:
    """Each metric with every system's interval, its plot, and the best system."""
    names = list(dict.fromkeys(name for key in order for name in evaluation.systems[key].metrics))
    rows = []
    for name in names:
        cells = {key: evaluation.systems[key].metrics.get(name) for key in order}
        measured = {
            key: interval for key, interval in cells.items() if interval is not None and interval.value == interval.value
        }
        lower = name in evaluation.lower_is_better
        best = min(measured, key=lambda key: measured[key].value * (1 if lower else -1), default=None)
        plot = interval_plot(
            [(evaluation.systems[key].title, interval, key == "adapter") for key, interval in measured.items()]
        )
        row = {"name": name, "cells": cells, "best": best, "plot": plot, "lower": lower, "meaning": metric_meaning(name)}
        rows.append(row)
    return rows


def _label_audit(evaluation: Evaluation) -> dict[str, Any]:
    """How many labels gained and lost, how many would by chance, and the plot of all."""
    if evaluation.label_audit is None or not evaluation.label_audit.labels:
        return {}
    labels = evaluation.label_audit.labels
    counts = {verdict: sum(change.verdict == verdict for change in labels) for verdict in ("gained", "lost", "not sure")}
    baseline = evaluation.label_audit.baseline
    title = evaluation.systems[baseline].title if baseline in evaluation.systems else baseline
    by_chance = round((1 - evaluation.confidence) * len(labels))
    return {"counts": counts, "baseline": title, "by_chance": by_chance, "plot": change_plot(labels)}


def _abstention(evaluation: Evaluation, order: list[str]) -> dict[str, Any]:
    """A line for each system, and points of the specialist: (share of rows answered, share of them right, threshold)."""
    keys = [key for key in order if evaluation.abstention.get(key)]
    lines = {evaluation.systems[key].title: evaluation.abstention[key] for key in keys}
    plot = line_plot(lines, "share of rows answered, the surest first", "share of answers that is right", percent=True)
    own = evaluation.abstention.get("adapter", [])
    nearest = [min(own, key=lambda point: abs(point[0] - wanted)) for wanted in COVERAGES] if own else []
    return {"plot": plot, "points": list(dict.fromkeys(nearest))}


def _curve(curve: Mapping[str, Any]) -> str:
    if curve.get("points"):
        return map_plot(curve["points"], str(curve.get("y", "")))
    return line_plot(curve.get("lines", {}), str(curve.get("x", "")), str(curve.get("y", "")))


def _pairs(evaluation: Evaluation) -> list[tuple[str, str, int, float]]:
    """The most frequent confusions: true label, predicted label, rows, their share of the true label's rows."""
    pairs = [
        (evaluation.labels[i], evaluation.labels[j], count, count / sum(row))
        for i, row in enumerate(evaluation.confusion)
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:MOST_PAIRS]


def _account(account: Mapping[str, Any]) -> dict[str, Any]:
    """The steps as table rows, and the other entries of the account as name and text."""
    steps = [step for step in account.get("steps") or () if isinstance(step, Mapping)]
    kinds = ("dropped", "set_aside", "added", "changed", "notes")
    rows = [
        {
            "step": step.get("step", ""),
            "rows_in": step.get("rows_in"),
            "rows_out": step.get("rows_out"),
            **{kind: _counts(step, kind) for kind in kinds},
            **({"notes": [*_counts(step, "notes"), step["about"]]} if step.get("about") else {}),
        }
        for step in steps
    ]
    rest = {key: _text(value) for key, value in account.items() if key not in {"steps", "read", "lost"}}
    return {"steps": rows, "read": account.get("read"), "lost": account.get("lost"), "rest": rest}


def _counts(step: Mapping[str, Any], kind: str) -> list[str]:
    return [f"{reason}: {_text(count)}" for reason, count in (step.get(kind) or {}).items()]


def _provenance(provenance: Mapping[str, Any]) -> dict[str, str]:
    """The provenance as name and text, with shortened digests."""
    texts = {}
    for key, value in provenance.items():
        if key == "sources" or value is None or value == {}:
            continue
        if key == "base" and isinstance(value, Mapping):
            parts = [str(value.get("name", "")), str(value.get("architecture", ""))]
            digests = [f"{part} {str(value[part])[:12]}" for part in ("weights", "tokenizer") if value.get(part)]
            texts["base model"] = ", ".join(filter(None, [*parts, *digests, str(value.get("license") or "")]))
        else:
            texts[key.replace("_", " ")] = _text(value)[:12] if key.endswith("digest") else _text(value)
    return texts


def _text(value: Any) -> str:
    """Format a value for reading: numbers with separators, other values with parts as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(part)}" for name, part in value.items())
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if 0 <= value < 10_000 else f"{value:,}"
    return "–" if value is None else json.dumps(value, ensure_ascii=False)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _clip(text: str) -> str:
    return text if len(text) <= MOST_TEXT else text[:MOST_TEXT].rstrip() + " …"
