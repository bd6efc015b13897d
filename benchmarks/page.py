"""docs/results.md: what recipes.py and ablation.py measured, on one page."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from local import ROOT

from vertical_sdk.metrics.measure import higher_is_better

RECORDS = ROOT / "benchmarks" / "results.json"
ABLATION = ROOT / "benchmarks" / "ablation.json"
PAGE = ROOT / "docs" / "results.md"
GENERAL = ("base", "probe")
"""The general base as it comes, and under a linear probe."""
HEAD = """\
# Results

Each table comes from one command on one machine; `make recipes` writes this page anew. Values stand with their intervals, over the
recipe's own test rows, which nothing was trained on. Behind them is [what the vertical parts buy](#what-the-vertical-parts-buy).
In the first table "general base" is the better of zero-shot and linear probe, and "in all" is data, training and evaluation.
"""
PARTS = """\
## What the vertical parts buy

`make ablation` measures this (`benchmarks/ablation.py` says how). Each number is the recipe's own metric on its validation rows:
the mean over the seeds, and behind ± the standard deviation. "Buys" is the difference to the usual loss without augmentation on the
same seeds, with the range over the seeds; of errors, less is better. Few rows, few steps, the adapter alone: compare within a table,
not with the results above. A part that costs on every seed is left out of its recipe, or its comment says why it is not; where seeds
disagree, so few rows decide nothing.
"""


def read(path: Path) -> dict[str, Any]:
    """Records by recipe; none where there is no file yet."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def keep(path: Path, records: dict[str, Any]) -> None:
    """Write records, and the page with them."""
    path.write_text(json.dumps(records, indent=1, sort_keys=path == RECORDS) + "\n", encoding="utf-8")
    measured = sorted(read(RECORDS).items())
    sections = [section(name, record) for name, record in measured]
    PAGE.write_text("\n".join([HEAD, overview(measured), *sections, parts(read(ABLATION))]), encoding="utf-8")


def overview(measured: list[tuple[str, dict[str, Any]]]) -> str:
    """A line for each recipe: the specialist, the general base and the strongest cheap baseline in the metric that its gate looks at."""
    head = (
        "recipe",
        "rows",
        "metric",
        "specialist",
        "general base",
        "strongest baseline",
        "lead over it",
        "gate",
        "trained",
        "in all",
    )
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, record in measured:
        if "error" in record:
            continue
        systems, metric = record["systems"], record["tests"][0]["metric"]
        sign = 1 if higher_is_better(metric) else -1
        leads = {test["baseline"]: test["difference"] for test in record["tests"] if test["metric"] == metric}
        hardest = sorted(leads, key=lambda baseline: sign * leads[baseline]["value"])
        nearest = next((baseline for baseline in hardest if baseline not in (*GENERAL, "alone")), None)
        base = next((baseline for baseline in hardest if baseline in GENERAL), None)
        short, more, _ = name.partition(" --set")
        anchor = re.sub(r"[^a-z0-9 _-]", "", name.lower()).replace(" ", "-")
        shown = [f"[{short}{' …' if more else ''}](#{anchor})", str(record["rows"]), metric]
        shown += [f"{systems[one]['metrics'][metric]['value']:.3f}" if one else "-" for one in ("adapter", base)]
        shown += [f"{systems[nearest]['title']} {systems[nearest]['metrics'][metric]['value']:.3f}" if nearest else "-"]
        shown += [cell(leads[nearest], "+") if nearest else "-"]
        shown += ["-" if not record["gate"] else "passed" if record["gate"]["passed"] else "failed"]
        shown += [f"{record['training_seconds']:.0f} s", f"{record['seconds']} s"]
        lines.append("| " + " | ".join(shown) + " |")
    spent: dict[str, int] = {}
    for name, record in measured:
        vertical = name.partition("/")[0]
        spent[vertical] = spent.get(vertical, 0) + record["seconds"]
    told = ", ".join(f"{vertical} {seconds / 60:.0f}" for vertical, seconds in spent.items())
    return "\n".join([*lines, "", f"Minutes in all: {told}.", ""])


def section(name: str, record: dict[str, Any]) -> str:
    """A recipe's part of the page."""
    facts = f"`{record['command']}` · {record['date']} · seed {record['seed']} · {record['machine']} · {record['seconds']} s"
    lines = [f"## {name}", "", record["summary"], "", facts, ""]
    if "error" in record:
        return "\n".join([*lines, f"Not measured: {record['error']}", ""])
    measured = {key: system for key, system in record["systems"].items() if system["metrics"]}
    metrics = list(dict.fromkeys(metric for system in measured.values() for metric in system["metrics"]))
    trained = f"base {record['base']}, trained in {record['training_seconds']:.0f} s on {record.get('threads', 2)} CPU threads"
    trained += f", at most {record['memory'] / 1e9:.1f} GB of memory" if "memory" in record else ""
    lines += [f"{record['rows']} test rows, {100 * record['confidence']:g}% intervals, {trained}.", ""]
    lines += ["| | " + " | ".join(metrics) + " |", "|---" * (len(metrics) + 1) + "|"]
    lines += [f"| {s['title']} | " + " | ".join(cell(s["metrics"].get(m)) for m in metrics) + " |" for s in measured.values()]
    lines += ["", "| the specialist against | in | difference | p |", "|---|---|---|---|"]
    lines += [
        f"| {record['systems'][t['baseline']]['title']} | {t['metric']} | {cell(t['difference'], '+')} | {t['p_value']:.3g} |"
        for t in record["tests"]
    ]
    if record.get("ensemble"):
        shares = ", ".join(f"{name} {weight:.2f}" for name, weight in record["ensemble"].items())
        lines += ["", f"Weights in the ensemble: {shares}."]
    if record["gate"]:
        lines += ["", f"Gate: {'passed' if record['gate']['passed'] else 'failed'}. " + " ".join(record["gate"]["reasons"])]
    return "\n".join([*lines, ""])


def cell(value: dict[str, float | None] | None, sign: str = "") -> str:
    """A value with its interval."""
    if value is None or None in value.values():
        return "-"
    return f"{value['value']:{sign}.3f} [{value['low']:{sign}.3f}, {value['high']:{sign}.3f}]"


def parts(records: dict[str, Any]) -> str:
    """What was ablated."""
    lines = [PARTS]
    for name, record in sorted(records.items()):
        facts = (
            f"{record['metric']} · at most {record['rows']} rows, {record['epochs']:g} epochs, {record['judges']} rows to judge"
        )
        lines += [f"### {name}", "", f"{facts} · {record['date']} · {record['machine']}", ""]
        lines += ["| trained with | value | buys |", "|---|---|---|"]
        plain = record["found"].get("plain", {})
        for title, found in record["found"].items():
            values = list(found.values())
            spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
            gains = [found[seed] - plain[seed] for seed in found if seed in plain]
            bought = "" if title == "plain" else f"{np.mean(gains):+.3f} ({min(gains):+.3f} to {max(gains):+.3f})"
            lines.append(f"| {title} | {np.mean(values):.3f}{spread} | {bought} |")
        lines.append("")
    return "\n".join(lines)
