"""The report of an evaluation: one HTML file for managers, which needs no other file and can be printed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertical_sdk.evaluation.audit import FEW
from vertical_sdk.evaluation.headline import p_text
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
from vertical_sdk.evaluation.report_text import describe_known, describe_meaning, list_next_steps, write_verdict
from vertical_sdk.evaluation.report_words import Words, load_words
from vertical_sdk.evaluation.result import Evaluation
from vertical_sdk.paths import hide_path, public_source, write_whole
from vertical_sdk.recipe import Report
from vertical_sdk.report_rows import BEGIN, END, GENERATOR
from vertical_sdk.tasks import get_task

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["render", "write_report"]

MOST_TEXT = 500
"""Examples are cut to this many characters."""
MOST_PAIRS = 10
"""The number of confusions that are listed."""
COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.5, 0.3)
"""The shares of rows answered that are listed below the abstention curve."""
CURVES_OF_ROWS = re.compile(r"channel \d+")
"""Names of curves that draw single rows of data: forecasts beside the truth."""


def write_report(path: Path, evaluation: Mapping[str, Any], settings: Report | None = None) -> None:
    """Write the report of an evaluation (`Evaluation.to_dict()`) as one HTML file.

    settings  `report` of the recipe: the language, and whether rows are published

    Raises RunError if the file cannot be written.
    """
    write_whole(path, render(Evaluation.from_dict(evaluation), settings))


def render(e: Evaluation, settings: Report | None = None) -> str:
    """Render the report as HTML. All text is escaped, and the page fetches nothing.

    Everything that shows rows of data is between two comments (`vertical_sdk.report_rows`), so that publishing can leave it out.
    """
    settings = settings or Report()
    words = load_words(settings.language)
    before, after = (e.reliability.get(when, []) for when in ("before", "after"))
    order = sorted(e.systems, key=lambda key: ("adapter", "base", key).index(key))
    meanings = describe_meaning(e, words, order)
    return (
        _environment(words)
        .get_template("report.html")
        .render(
            e=e,
            t=words,
            rows_published=settings.rows,
            begin=BEGIN,
            end=END,
            generator=GENERATOR,
            verdict=write_verdict(e, words, meanings),
            meanings=meanings,
            steps=list_next_steps(e, words),
            facts=_facts(e, words),
            known=describe_known(e, words),
            level=f"{100 * e.confidence:g}%",
            systems=[(key, e.systems[key]) for key in order],
            titles={key: words.phrase(system.title) for key, system in e.systems.items()},
            metrics=_metrics(e, order, words),
            confusion=confusion_plot(e.confusion, e.labels, words) if e.confusion else "",
            pairs=_pairs(e),
            most_labels=MOST_LABELS,
            reliability=reliability_plot(before, after, words) if before or after else "",
            judged=get_task(e.task).labelled,
            label_audit=_label_audit(e, words),
            few=FEW,
            abstention=_abstention(e, order, words),
            promise=_promise(e, words),
            curves=[(_title(curve, name, words), _curve(curve, words), _shows_rows(name)) for name, curve in e.curves.items()],
            account=_account(e.account, words),
            provenance=_provenance(e.provenance, words),
            sources=[source for source in e.provenance.get("sources") or () if isinstance(source, Mapping)],
        )
    )


def _environment(words: Words) -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = {"number": number, "p": p_text, "clip": _clip, "share": _share, "count": _count, "public": public_source}
    environment.filters.update(filters, metric=words.metric, meaning=words.meaning, phrase=words.phrase)
    return environment


def _name_rows(e: Evaluation, words: Words) -> str:
    """Say which rows were evaluated; "" if that is not recorded."""
    origin = str(e.provenance.get("rows_from") or "")
    if not origin:
        return ""
    if e.folds:
        return words("facts.fold_rows")
    own = words.phrase(origin) != origin or origin == "the recipe's own test rows"
    return words("facts.own_rows") if own else public_source(origin)


def _facts(e: Evaluation, words: Words) -> list[tuple[str, str]]:
    """What a reader looks for first: when, on what, and from what."""
    provenance, trained = e.provenance, e.provenance.get("training")
    base = provenance.get("base")
    facts = {
        "evaluated": words.date(str(provenance.get("evaluated") or "")),
        "task": words.texts.get(f"task.{e.task}", e.task),
        "rows": _count(e.rows),
        "from": _name_rows(e, words),
        "labels": _count(len(e.labels)) if e.labels else "",
        "trained": words("facts.rows_of", rows=_count(trained["rows"]))
        if isinstance(trained, Mapping) and trained.get("rows")
        else "",
        "base": hide_path(str(base.get("name", ""))) if isinstance(base, Mapping) else "",
        "recipe": str(provenance.get("recipe") or ""),
    }
    return [(words(f"facts.{key}"), text) for key, text in facts.items() if text]


def _metrics(evaluation: Evaluation, order: list[str], words: Words) -> list[dict[str, Any]]:
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
            [(words.phrase(evaluation.systems[key].title), interval, key == "adapter") for key, interval in measured.items()]
        )
        row = {"name": name, "cells": cells, "best": best, "plot": plot, "lower": lower}
        rows.append(row)
    return rows


def _label_audit(evaluation: Evaluation, words: Words) -> dict[str, Any]:
    """How many labels gained and lost, how many would by chance, and the plot of all."""
    if evaluation.label_audit is None or not evaluation.label_audit.labels:
        return {}
    labels = evaluation.label_audit.labels
    counts = {verdict: sum(change.verdict == verdict for change in labels) for verdict in ("gained", "lost", "not sure")}
    baseline = evaluation.label_audit.baseline
    title = evaluation.systems[baseline].title if baseline in evaluation.systems else baseline
    by_chance = round((1 - evaluation.confidence) * len(labels))
    return {"counts": counts, "baseline": words.phrase(title), "by_chance": by_chance, "plot": change_plot(labels, words)}


def _abstention(evaluation: Evaluation, order: list[str], words: Words) -> dict[str, Any]:
    """A line for each system, and points of the specialist: (share of rows answered, share of them right, threshold)."""
    keys = [key for key in order if evaluation.abstention.get(key)]
    lines = {words.phrase(evaluation.systems[key].title): evaluation.abstention[key] for key in keys}
    plot = line_plot(lines, words("abstention.x"), words("abstention.y"), percent=True)
    own = evaluation.abstention.get("adapter", [])
    nearest = [min(own, key=lambda point: abs(point[0] - wanted)) for wanted in COVERAGES] if own else []
    return {"plot": plot, "points": list(dict.fromkeys(nearest))}


def _promise(evaluation: Evaluation, words: Words) -> list[str]:
    """The promise of a specialist that abstains, and what the test rows say of it; [] without one."""
    promise, found = evaluation.calibration and evaluation.calibration.promise, evaluation.promise
    if promise is None or found is None:
        return []
    numbers = {
        "alpha": _share(promise.alpha),
        "confidence": _share(1 - promise.delta),
        "threshold": number(promise.threshold) if promise.threshold is not None else "",
        "rows": _count(promise.rows),
        "coverage": f"{_share(promise.coverage)} [{_share(promise.low)}, {_share(promise.high)}]",
    }
    tested: dict[str, str] = {"rows": _count(found["rows"]), "answered": _count(found["answered"])}
    for key in ("coverage", "errors"):
        tested[key] = f"{_share(found[key]['value'])} [{_share(found[key]['low'])}, {_share(found[key]['high'])}]"
    given = words("promise.none" if promise.threshold is None else "promise.given", **numbers)
    groups = [words("promise.groups")] if promise.groups else []
    return [" ".join([given, *groups]), words(f"promise.{found['outcome']}", **tested)]


def _curve(curve: Mapping[str, Any], words: Words) -> str:
    y = words.phrase(str(curve.get("y", "")))
    if curve.get("points"):
        return map_plot(curve["points"], y)
    lines = {words.phrase(name): points for name, points in curve.get("lines", {}).items()}
    return line_plot(lines, words.phrase(str(curve.get("x", ""))), y)


def _title(curve: Mapping[str, Any], name: str, words: Words) -> str:
    return words.phrase(str(curve.get("title", name)))


def _shows_rows(curve: str) -> bool:
    return CURVES_OF_ROWS.fullmatch(curve) is not None


def _pairs(evaluation: Evaluation) -> list[tuple[str, str, int, float]]:
    """The most frequent confusions: true label, predicted label, rows, their share of the true label's rows."""
    pairs = [
        (evaluation.labels[i], evaluation.labels[j], count, count / sum(row))
        for i, row in enumerate(evaluation.confusion)
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:MOST_PAIRS]


def _account(account: Mapping[str, Any], words: Words) -> dict[str, Any]:
    """The steps as table rows, and the other entries of the account as name and text."""
    steps = [step for step in account.get("steps") or () if isinstance(step, Mapping)]
    kinds = ("dropped", "set_aside", "added", "changed", "notes")
    rows = [
        {
            "step": words.phrase(str(step.get("step", ""))),
            "rows_in": step.get("rows_in"),
            "rows_out": step.get("rows_out"),
            **{kind: _counts(step, kind, words) for kind in kinds},
            **({"notes": [*_counts(step, "notes", words), step["about"]]} if step.get("about") else {}),
        }
        for step in steps
    ]
    rest = {key: _text(value) for key, value in account.items() if key not in {"steps", "read", "lost"}}
    return {"steps": rows, "read": account.get("read"), "lost": account.get("lost"), "rest": rest}


def _counts(step: Mapping[str, Any], kind: str, words: Words) -> list[str]:
    return [f"{words.phrase(reason)}: {_text(count)}" for reason, count in (step.get(kind) or {}).items()]


def _provenance(provenance: Mapping[str, Any], words: Words) -> dict[str, str]:
    """The provenance as name and text, with shortened digests."""
    texts = {}
    for key, value in provenance.items():
        if key == "sources" or value is None or value == {}:
            continue
        if key == "base" and isinstance(value, Mapping):
            parts = [hide_path(str(value.get("name", ""))), str(value.get("architecture", ""))]
            digests = [f"{part} {str(value[part])[:12]}" for part in ("weights", "tokenizer") if value.get(part)]
            texts[words.phrase("base model")] = ", ".join(filter(None, [*parts, *digests, str(value.get("license") or "")]))
        else:
            text = words.phrase(_text(value)[:12] if key.endswith("digest") else _text(value))
            texts[words.phrase(key.replace("_", " "))] = public_source(text) if key == "rows_from" else text
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


def _count(value: int) -> str:
    return f"{value:,}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _clip(text: str) -> str:
    return text if len(text) <= MOST_TEXT else text[:MOST_TEXT].rstrip() + " …"
