"""Write docs/few-rows.md and its picture from what learning_curve.py measured.

    python benchmarks/few_rows_page.py

This measures nothing; it only formats learning_curve.json again.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping
from typing import Any, TypeAlias

from local import ROOT

Record: TypeAlias = dict[str, Any]
"""One recipe: how it was measured, and `values`: rows a label → system → seed → macro-F1."""

RECORDS = ROOT / "benchmarks" / "learning_curve.json"
PAGE = ROOT / "docs" / "few-rows.md"
PICTURE = ROOT / "docs" / "images" / "few-rows.png"
MARK = "<!-- measured -->\n"
SYSTEMS = {
    "tfidf": "TF-IDF",
    "probe": "linear probe",
    "plain": "plain LoRA",
    "contrastive": "contrastive",
    "whole": "whole",
}
COLOURS = {"tfidf": "#b7b7b7", "probe": "#777777", "plain": "#2a6f97", "contrastive": "#c8553d", "whole": "#3a7d44"}
T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 10: 2.228}
"""The t distribution's 97.5% quantile by degrees of freedom; above 10, 2.2 is a little wide."""
COMPARED = "16"
"""Rows a label of the comparison over all recipes."""


def save(records: Mapping[str, Record]) -> None:
    """Write the records, the tables in the page, and the picture."""
    RECORDS.write_text(json.dumps(records, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(MARK)
    _, _, after = rest.partition(MARK)
    PAGE.write_text(before + MARK + "\n" + "\n".join(tables(records)) + "\n" + MARK + after, encoding="utf-8")
    draw(records)


def tables(records: Mapping[str, Record]) -> list[str]:
    """Make the tables: all recipes at 16 rows a label, the differences from plain LoRA, and each curve."""
    lines = [f"With {COMPARED} rows a label:", "", header("recipe"), rule()]
    names = [name for name, record in sorted(records.items()) if COMPARED in record["values"]]
    lines += [row(name, records[name]["values"][COMPARED]) for name in names]
    differences = {system: compare(records, system) for system in ("probe", "contrastive", "whole")}
    lines += ["", "The difference from plain LoRA with the same rows, as the mean over the recipes:", ""]
    lines += ["| system | recipes | difference | 95% interval |", "|---|---|---|---|"]
    for system, values in differences.items():
        low, high = interval(values)
        lines.append(
            f"| {SYSTEMS[system]} | {len(values)} | {statistics.fmean(values):+.3f} | {low:+.3f} to {high:+.3f} |"
            if values
            else ""
        )
    for name, record in sorted(records.items()):
        if len(record["values"]) < 2:
            continue
        lines += ["", f"{name}:", "", header("rows a label"), rule()]
        lines += [row(count, record["values"][count]) for count in in_order(record["values"])]
    seeds = sorted(
        {int(seed) for record in records.values() for at in record["values"].values() for own in at.values() for seed in own}
    )
    facts = "; ".join(sorted({f"{record['date']}, {record['machine']}" for record in records.values()}))
    return [*lines, "", f"Seeds: {', '.join(map(str, seeds))}. Measured on {facts}."]


def header(first: str) -> str:
    """The first line of a table of systems."""
    return f"| {first} | " + " | ".join(SYSTEMS.values()) + " |"


def rule() -> str:
    """The line under it."""
    return "|---" * (len(SYSTEMS) + 1) + "|"


def row(first: str, values: Mapping[str, Mapping[str, float]]) -> str:
    """One line: the mean over the seeds, and the range after it."""
    cells = []
    for system in SYSTEMS:
        own = list(values.get(system, {}).values())
        spread = f" ({min(own):.3f} to {max(own):.3f})" if len(own) > 1 else ""
        cells.append(f"{statistics.fmean(own):.3f}{spread}" if own else "-")
    return f"| {first} | " + " | ".join(cells) + " |"


def compare(records: Mapping[str, Record], system: str) -> list[float]:
    """For each recipe, the mean over the seeds of a system's macro-F1 less that of plain LoRA with the same rows."""
    differences = []
    for record in records.values():
        at = record["values"].get(COMPARED, {})
        plain, own = at.get("plain", {}), at.get(system, {})
        if both := sorted(set(plain) & set(own)):
            differences.append(statistics.fmean(own[seed] - plain[seed] for seed in both))
    return differences


def interval(values: list[float]) -> tuple[float, float]:
    """The 95% interval of a mean over recipes, by the t distribution; without a width if there are fewer than two."""
    if len(values) < 2:
        return math.nan, math.nan
    half = T95.get(len(values) - 1, 2.2) * statistics.stdev(values) / math.sqrt(len(values))
    return statistics.fmean(values) - half, statistics.fmean(values) + half


def in_order(counts: Mapping[str, Any]) -> list[str]:
    """Numbers of rows in rising order, and all rows last."""
    return sorted(counts, key=lambda count: int(count) if count.isdigit() else 10**9)


def draw(records: Mapping[str, Record]) -> None:
    """Draw the curves of the recipes that were measured at several sizes."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    curves = [name for name, record in sorted(records.items()) if len(record["values"]) > 1]
    if not curves:
        return
    figure, every = pyplot.subplots(1, len(curves), figsize=(5.2 * len(curves), 4), layout="constrained", squeeze=False)
    for axes, name in zip(every[0], curves, strict=True):
        counts = in_order(records[name]["values"])
        for system, title in SYSTEMS.items():
            known = [
                (n, list(own.values())) for n, count in enumerate(counts) if (own := records[name]["values"][count].get(system))
            ]
            places, means = [n for n, _ in known], [statistics.fmean(values) for _, values in known]
            below = [mean - min(values) for mean, (_, values) in zip(means, known, strict=True)]
            above = [max(values) - mean for mean, (_, values) in zip(means, known, strict=True)]
            axes.errorbar(
                places, means, [below, above], label=title, color=COLOURS[system], marker="o", markersize=4, capsize=2
            )
        axes.set_xticks(range(len(counts)), counts)
        axes.set_xlabel("training rows of each label")
        axes.set_ylabel("macro-F1 on validation rows")
        axes.set_title(name, fontsize=10)
        for spine in ("top", "right"):
            axes.spines[spine].set_visible(False)
    every[0][0].legend(fontsize=8, frameon=False)
    figure.savefig(PICTURE, dpi=120, metadata={"Software": None})


if __name__ == "__main__":
    save(json.loads(RECORDS.read_text(encoding="utf-8")))
