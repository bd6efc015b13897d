"""A look at a file before anything is trained: what it is, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vertical_sdk.data.clean import contradicting
from vertical_sdk.data.dedup import near_repeats, nearest_in
from vertical_sdk.data.deidentify import find_pii
from vertical_sdk.data.formats import read_file
from vertical_sdk.data.labels import count_labels
from vertical_sdk.data.read import read_table
from vertical_sdk.data.texts import canonical, full_text, prompt_text
from vertical_sdk.errors import MissingExtra, RecipeError
from vertical_sdk.recipe import Recipe
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, Task

__all__ = ["check_file"]

NEAR = 0.9
FEW = 10
"""Rows of a label below which its score means little."""
SHOWN = 5


def check_file(
    path: Path, *, columns: Mapping[str, str] | None = None, task: Task = "classification", recipe: Recipe | None = None
) -> dict[str, Any]:
    """What a file holds, as plain data for JSON; `problems` lists what to look at, worst first.

    columns, task   as in a recipe; taken from `recipe` where it is given. A column called "split" is taken for that.

    Rows of numbers are not compared with each other. A row that cannot be read raises DataError with file and line, as in training;
    tasks that read series raise RecipeError.
    """
    chosen: Mapping[Any, str] = columns if columns is not None else recipe.data.columns if recipe else {}
    columns = dict(chosen)
    task = recipe.task if recipe else task
    if get_task(task).ahead:
        raise RecipeError(
            f"{path}: {task} reads series, which have no rows of their own to check; see vertical data show RECIPE."
        )
    raw = read_file(path)
    if "split" not in columns and "split" in raw.columns:
        columns["split"] = "split"
    options = recipe.data.reader.arguments if recipe and recipe.data.reader and recipe.data.reader.use == "table" else {}
    table = read_table(path, columns, task, **options)
    rows = list(table.examples)
    told = [e for e in rows if e.values is None or full_text(e)]
    texts = [full_text(e) for e in told]
    near = near_repeats(texts, NEAR)
    exact = _exact(texts)
    clashes = contradicting(rows)
    report: dict[str, Any] = {
        "file": str(path),
        "format": raw.format,
        "columns": list(raw.columns),
        "detected": table.detected,
        "task": task,
        "rows": len(raw.rows),
        "usable": len(rows),
        "not_usable": dict(table.account.dropped) if table.account else {},
        "labels": count_labels(rows),
        "targets": _numbers([e.target for e in rows if isinstance(e.target, float)]),
        "characters": _numbers([float(len(text)) for text in texts]),
        "words": _numbers([float(len(text.split())) for text in texts]),
        "duplicates": {"count": len(exact), "rows": [told[i].id for i in exact[:SHOWN]]},
        "near_duplicates": {
            "count": len(near) - len(exact),
            "rows": [[told[i].id, told[j].id] for i, j in near.items() if i not in set(exact)][:SHOWN],
        },
        "contradictions": {"count": len(clashes), "rows": [e.id for e in clashes[:SHOWN]]},
        "personal_data": _personal(texts),
        "leakage": _leakage(told),
    }
    report["problems"] = _problems(report, recipe)
    return report


def _exact(texts: Sequence[str]) -> list[int]:
    """Positions of texts that stand earlier already."""
    seen: set[str] = set()
    found = []
    for position, text in enumerate(map(canonical, texts)):
        if text in seen:
            found.append(position)
        seen.add(text)
    return found


def _numbers(values: Sequence[float]) -> dict[str, float]:
    """Smallest, percentiles by nearest rank, largest; empty for no values."""
    ordered = sorted(values)
    if not ordered:
        return {}
    ranks = {"min": 0.0, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {name: ordered[max(0, -int(-share * len(ordered) // 1) - 1)] for name, share in ranks.items()}


def _personal(texts: Sequence[str]) -> dict[str, int] | str:
    try:
        return find_pii(texts)
    except MissingExtra as error:
        return f"not checked: {error}"


def _leakage(rows: Sequence[Example]) -> dict[str, Any] | str:
    """Rows and groups that stand on two sides of the file's own split."""
    parts = {split: [e for e in rows if e.split == split] for split in ("train", "validation", "test")}
    if sum(bool(part) for part in parts.values()) < 2:
        return "not checked: the file has no split"
    found: dict[str, Any] = {}
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        hits = nearest_in([prompt_text(e) for e in parts[one]], [prompt_text(e) for e in parts[other]], NEAR)
        groups = {e.group for e in parts[one] if e.group} & {e.group for e in parts[other] if e.group}
        if hits or groups:
            pairs = [[parts[one][i].id, parts[other][j].id] for i, j in list(hits.items())[:SHOWN]]
            found[f"{one}/{other}"] = {"rows": len(hits), "groups": len(groups), "examples": pairs}
    return found


def _problems(report: Mapping[str, Any], recipe: Recipe | None) -> list[dict[str, str]]:
    """Each with a severity: "error" stops training, "warning" spoils it, "note" is to be known."""
    found: list[tuple[str, str]] = []
    labels: Mapping[str, int] = report["labels"]
    rows = report["usable"]
    if get_task(report["task"]).single_label:
        if len(labels) < 2:
            found.append(("error", f"only {len(labels)} label: there is nothing to tell apart"))
        few = [f"{label!r} ({count})" for label, count in labels.items() if count < FEW]
        if few:
            found.append(("warning", f"{len(few)} labels have fewer than {FEW} rows: {', '.join(few[:SHOWN])}"))
        if labels and max(labels.values()) > 0.9 * rows:
            found.append(
                ("warning", f"{max(labels, key=lambda label: labels[label])!r} is the label of more than 90% of the rows")
            )
        if len(labels) > 0.5 * rows and rows > FEW:
            found.append(("warning", f"{len(labels)} labels on {rows} rows: is the label column the right one?"))
    if recipe and recipe.labels:
        known = tuple(recipe.labels)
        unknown = [label for label in labels if label not in known]
        if unknown:
            found.append(("error", f"labels that the recipe does not list: {', '.join(map(repr, unknown[:SHOWN]))}"))
    if report["leakage"] and not isinstance(report["leakage"], str):
        for pair, hit in report["leakage"].items():
            found.append(("error", f"{pair}: {hit['rows']} rows and {hit['groups']} groups stand on both sides"))
    if report["contradictions"]["count"]:
        found.append(("warning", f"{report['contradictions']['count']} rows say the same as another under another label"))
    for what, name in (("duplicates", "rows repeat another"), ("near_duplicates", "rows nearly repeat another")):
        if report[what]["count"]:
            severity = "warning" if report[what]["count"] > 0.05 * rows else "note"
            found.append((severity, f"{report[what]['count']} {name}"))
    for reason, count in report["not_usable"].items():
        found.append(("warning" if count > 0.05 * report["rows"] else "note", f"{count} rows cannot be used: {reason}"))
    personal = report["personal_data"]
    if isinstance(personal, str):
        found.append(("note", f"personal data {personal}"))
    elif personal:
        listed = ", ".join(f"{entity} {count}" for entity, count in personal.items())
        found.append(("warning", f"personal data: {listed}. Set data.deidentify."))
    order = {"error": 0, "warning": 1, "note": 2}
    return [{"severity": severity, "problem": text} for severity, text in sorted(found, key=lambda f: order[f[0]])]
