"""Write docs/results.md and docs/results/ from what recipes.py and ablation.py measured.

    python benchmarks/page.py

This measures nothing; it only formats results.json and ablation.json again.
"""

from __future__ import annotations

import json
import re
import statistics
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from local import ROOT
from scipy.stats import t

from vertical_sdk.alternatives import MEMBERS, Contribution
from vertical_sdk.card import Verdict
from vertical_sdk.metrics.measure import higher_is_better
from vertical_sdk.paths import write_whole
from vertical_sdk.types import Interval

Record: TypeAlias = dict[str, Any]
"""One measured recipe, as plain data."""

RECORDS = ROOT / "benchmarks" / "results.json"
ABLATION = ROOT / "benchmarks" / "ablation.json"
OVERVIEW = ROOT / "docs" / "results.md"
DETAILS = ROOT / "docs" / "results"
PARTS = DETAILS / "parts.md"
GENERAL = ("base", "probe")
"""The general base itself, zero-shot, and under a linear probe."""
OWN_SOURCE = "--own-source"

WHAT_WAS_MEASURED = """\
Every recipe of the project was trained and evaluated once, as a user would run it:
`vertical train RECIPE`, with the seed of the recipe. The numbers are the specialist's and the
baselines' on the recipe's own test rows. Training uses none of these rows. `make recipes` measures
again and writes these pages; `benchmarks/recipes.py` describes how. Data that no package index has
was read from local files, so the commands on the detail pages contain `DATA/...`.
`finance/credit-risk` was measured on UCI's credit card clients and on the recipe's own source, the
German credit data.
"""
HOW_TO_READ = """\
- *metric* is the one that the recipe's gate looks at. ↑ means higher is better, ↓ lower is better.
- *specialist* is what a user gets: the adapter with the members of its ensemble.
- *general base* is the better of the untrained base (zero-shot) and a linear probe of it.
- *best baseline* is the strongest system that is not the general base, such as TF-IDF or boosted
  trees. *-* means that none was measured.
- *lead* is specialist minus best baseline, with the interval of the paired bootstrap. If the
  interval contains 0, the rows do not show a difference.
- *adapter* says whether an adapter is worth it: *adds* if the specialist beats the strongest system
  that does without the adapter, by more than luck explains, and its ensemble gives the adapter a
  weight; else *no*.
- *gate* says whether the gate that the recipe had on that day passed: whether the specialist beat
  the systems that the recipe named, by more than luck explains, and forgot no more than its budget.
  Today's gates compare with the best system without an adapter, unless the recipe names others.
- *trained* is the training alone; *total* is data, training and evaluation.
- Values are comparable within a row. Rows have different data and metrics.
"""
WHAT_IS_LOST = """\
Nothing is left out of the table. These are the results that speak against a specialist.
"""
ABLATION_METHOD = """\
`make ablation` measures what each vertical loss, augmentation and training method contributes;
`benchmarks/ablation.py` describes how. Each value is the recipe's own metric on its *validation*
rows: the mean over the seeds, and the standard deviation after ±. *difference* is the value minus
that of another row of the table on the same seeds, with its 95% interval (Student's paired t). A
seed draws the training rows, the first weights and the order of the steps; all seeds are judged on
the same validation rows, so the interval says nothing about other rows. If lower is better (↓), a
negative difference is a gain.

- Losses and augmentations are compared with *plain*: the task's default loss without augmentation.
  *all of them* includes the parts that the recipe leaves out.
- Training methods, each alone, are compared with *the recipe's own settings*.
- *pays*: the whole interval is a gain. *worse*: the whole interval is a loss. *within noise*: it
  contains 0. Of 40 rows that change nothing, one is marked *pays* by chance.

These runs use few rows and few steps, and the adapter alone. Compare within a table, not with the
test results.
"""
PLAIN = "plain"
OWN = "the recipe's own settings"
EVERY = "all of them"


def read_records(path: Path) -> dict[str, Record]:
    """Read the records by recipe. Returns {} if there is no such file."""
    records: dict[str, Record] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return records


def save_records(path: Path, records: Mapping[str, Record]) -> None:
    """Write the records, and all pages with them."""
    write_whole(path, json.dumps(records, indent=1, sort_keys=path == RECORDS) + "\n")
    write_pages()


def write_pages() -> None:
    """Write every page from the stored records."""
    for path, text in pages(read_records(RECORDS), read_records(ABLATION)).items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


def pages(records: Mapping[str, Record], ablation: Mapping[str, Record]) -> dict[Path, str]:
    """Make the pages: path → text."""
    texts = {OVERVIEW: overview_page(records, ablation), PARTS: parts_page(ablation)}
    for vertical in verticals(records):
        sections = [section(name, record) for name, record in sorted(records.items()) if name.startswith(f"{vertical}/")]
        head = f"# Results: {vertical}\n\nAll measured values. [results.md](../results.md) explains them.\n"
        texts[DETAILS / f"{vertical}.md"] = "\n".join([head, *sections])
    return texts


def verticals(records: Iterable[str]) -> list[str]:
    """List the verticals that have records."""
    return sorted({name.partition("/")[0] for name in records})


# The overview


def overview_page(records: Mapping[str, Record], ablation: Mapping[str, Record]) -> str:
    """Make docs/results.md: what was measured, one line a recipe, how to read it, and what is lost."""
    measured = {name: record for name, record in sorted(records.items()) if "error" not in record}
    lines = ["# Results", "", "[concepts.md](concepts.md) explains the terms.", ""]
    lines += ["## What was measured, and how", "", WHAT_WAS_MEASURED, *facts(measured.values()), ""]
    lines += ["All values: " + ", ".join(f"[{name}](results/{name}.md)" for name in verticals(records)) + ".", ""]
    lines += ["## One line a recipe", "", *overview_table(measured), ""]
    lines += ["Minutes in total: " + ", ".join(f"{name} {minutes:.0f}" for name, minutes in spent(measured).items()) + ".", ""]
    lines += ["## How to read it", "", HOW_TO_READ]
    lines += ["## What is lost", "", WHAT_IS_LOST, *losses(measured), ""]
    lines += [
        f"- Not measured: {label(name)}. {record['error']}" for name, record in sorted(records.items()) if "error" in record
    ]
    lines += ["## What parts and training methods contribute", "", ABLATION_METHOD]
    lines += [
        "[results/parts.md](results/parts.md) has every part. All parts of a recipe together:",
        "",
        *parts_table(ablation),
        "",
        *wrapped("Training methods, each alone against the recipe's own settings: in how many recipes they pay."),
        "",
        *methods_table(ablation),
    ]
    return "\n".join([*lines, ""])


def facts(measured: Iterable[Record]) -> list[str]:
    """List dates, machines, seeds and intervals that the records share."""
    values: dict[str, set[str]] = {"Measured on": set(), "Machine": set(), "Seed": set(), "Intervals": set()}
    for record in measured:
        values["Measured on"].add(record["date"])
        values["Machine"].add(record["machine"])
        values["Seed"].add(str(record["seed"]))
        values["Intervals"].add(f"{100 * record['confidence']:g}%")
    return [line for title, texts in values.items() for line in wrapped(f"{title}: {'; '.join(sorted(texts))}.", "- ")]


def overview_table(measured: Mapping[str, Record]) -> list[str]:
    """Compare, for each recipe, the specialist with the general base and the best baseline in the gate's metric."""
    columns = [
        "recipe",
        "test rows",
        "metric",
        "specialist",
        "general base",
        "best baseline",
        "lead",
        "adapter",
        "gate",
        "trained",
        "total",
    ]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for name, record in measured.items():
        systems, metric = record["systems"], headline_metric(record)
        differences = by_difficulty(record)
        best = best_baseline(record)
        base = next((baseline for baseline in differences if baseline in GENERAL), None)
        cells = [link(name), str(record["rows"]), f"{metric} {arrow(metric)}"]
        cells += [f"{systems[system]['metrics'][metric]['value']:.3f}" if system else "-" for system in ("adapter", base)]
        cells += [f"{systems[best]['title']} {systems[best]['metrics'][metric]['value']:.3f}" if best else "-"]
        cells += [cell(differences[best], "+") if best else "-"]
        cells += ["adds" if weigh(record).outcome == "adds" else "no"]
        cells += ["-" if not record["gate"] else Verdict.model_validate(record["gate"]).result]
        cells += [f"{record['training_seconds']:.0f} s", f"{record['seconds']} s"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def losses(measured: Mapping[str, Record]) -> list[str]:
    """List failed gates, and the recipes whose adapter is not worth it."""
    lines = ["The gate failed:", ""]
    for name, record in measured.items():
        if record["gate"] and not record["gate"]["passed"]:
            lines += wrapped(f"{link(name)}: {' Also: '.join(failures(record['gate']['reasons']))}", bullet="- ")
    lines += ["", "An adapter is not worth it:", ""]
    for name, record in measured.items():
        if (contribution := weigh(record)).outcome != "adds":
            lines += wrapped(f"{link(name)}: {contribution.text}", bullet="- ")
    return lines


def weigh(record: Record) -> Contribution:
    """Say what the adapter adds to the strongest system that does without it.

    A record of an earlier version has no such result; then the strongest baseline on the test rows is taken.
    """
    metric = headline_metric(record)
    found = record.get("contribution")
    alternative = found["alternative"] if found else next(name for name in by_difficulty(record) if name != "alone")
    test = next(test for test in record["tests"] if (test["baseline"], test["metric"]) == (alternative, metric))
    name = found["name"] if found else record["systems"][alternative]["title"]
    weight = (record.get("ensemble") or {}).get("adapter")
    return Contribution(
        alternative, name, metric, Interval(**test["difference"]), test["p_value"], record["confidence"], weight
    )


def failures(reasons: Iterable[str]) -> list[str]:
    """Select the reasons for which a gate failed."""
    return [reason.removeprefix("Fails: ") for reason in reasons if reason.startswith("Fails: ")]


def spent(measured: Mapping[str, Record]) -> dict[str, float]:
    """Add up the minutes of each vertical."""
    return {
        vertical: sum(record["seconds"] for name, record in measured.items() if name.startswith(f"{vertical}/")) / 60
        for vertical in verticals(measured)
    }


def headline_metric(record: Record) -> str:
    """Name the metric that the gate looks at; its comparisons come first."""
    return str(record["tests"][0]["metric"])


def by_difficulty(record: Record) -> dict[str, dict[str, float]]:
    """Sort the differences to the baselines in the headline metric, the strongest baseline first."""
    metric = headline_metric(record)
    sign = 1 if higher_is_better(metric) else -1
    differences = {test["baseline"]: test["difference"] for test in record["tests"] if test["metric"] == metric}
    return dict(sorted(differences.items(), key=lambda item: sign * item[1]["value"]))


def best_baseline(record: Record) -> str | None:
    """Name the strongest system that is neither the general base nor the specialist's own adapter."""
    return next((baseline for baseline in by_difficulty(record) if baseline not in (*GENERAL, "alone", MEMBERS)), None)


# Details


def section(name: str, record: Record) -> str:
    """Describe one recipe with all its values."""
    lines = [f"## {label(name)}", "", *wrapped(record["summary"]), "", "```console", record["command"], "```", ""]
    about = f"{record['date']}, seed {record['seed']}, {record['machine']}, {record['seconds']} s in total."
    if "error" in record:
        return "\n".join([*lines, *wrapped(about), "", *wrapped(f"Not measured: {record['error']}"), ""])
    about += f" {record['rows']} test rows, {100 * record['confidence']:g}% intervals. Base {record['base']},"
    about += f" trained in {record['training_seconds']:.0f} s on {record.get('threads', 2)} CPU threads"
    about += f", at most {record['memory'] / 1e9:.1f} GB of memory." if "memory" in record else "."
    measured = {key: system for key, system in record["systems"].items() if system["metrics"]}
    metrics = list(dict.fromkeys(metric for system in measured.values() for metric in system["metrics"]))
    lines += [*wrapped(about), "", "| | " + " | ".join(metrics) + " |", "|---" * (len(metrics) + 1) + "|"]
    lines += [f"| {s['title']} | " + " | ".join(cell(s["metrics"].get(m)) for m in metrics) + " |" for s in measured.values()]
    lines += ["", "| specialist minus | metric | difference | p |", "|---|---|---|---|"]
    lines += [
        f"| {record['systems'][t['baseline']]['title']} | {t['metric']} | {cell(t['difference'], '+')} | {t['p_value']:.3g} |"
        for t in record["tests"]
    ]
    if record.get("ensemble"):
        weights = ", ".join(f"{member} {weight:.2f}" for member, weight in record["ensemble"].items())
        lines += ["", *wrapped(f"Weights in the ensemble: {weights}.")]
    lines += ["", *wrapped(weigh(record).text)]
    if record["gate"]:
        lines += ["", f"Gate: {Verdict.model_validate(record['gate']).result}.", ""]
        for reason in record["gate"]["reasons"]:
            lines += wrapped(reason, bullet="- ")
    return "\n".join([*lines, ""])


def label(name: str) -> str:
    """Shorten the name of a record to a heading: without the settings of the run."""
    short, _, settings = name.partition(" --set")
    return short.replace(f" {OWN_SOURCE}", " with its own source") + (", other settings" if settings else "")


def link(name: str) -> str:
    """Link to a record's section from the overview."""
    anchor = re.sub(r"[^a-z0-9 _-]", "", label(name).lower()).replace(" ", "-")
    return f"[{label(name)}](results/{name.partition('/')[0]}.md#{anchor})"


def cell(value: Mapping[str, float | None] | None, sign: str = "") -> str:
    """Format a value with its interval; "-" if there is none."""
    if value is None or None in value.values():
        return "-"
    return f"{value['value']:{sign}.3f} [{value['low']:{sign}.3f}, {value['high']:{sign}.3f}]"


def arrow(metric: str) -> str:
    """Mark whether higher or lower is better."""
    return "↑" if higher_is_better(metric) else "↓"


def wrapped(text: str, bullet: str = "") -> list[str]:
    """Wrap a paragraph, or an item of a list, at 100 columns, but not inside the text of a link."""
    whole = re.sub(r"\[[^\]]*\]\(", lambda text: text.group().replace(" ", "\N{NO-BREAK SPACE}"), bullet + text)
    lines = textwrap.wrap(whole, 100, subsequent_indent=" " * len(bullet), break_long_words=False, break_on_hyphens=False)
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


# Ablation


def parts_page(ablation: Mapping[str, Record]) -> str:
    """Make docs/results/parts.md: every variant of every ablated recipe."""
    lines = ["# Results: what parts and training methods contribute", "", ABLATION_METHOD]
    for name, record in sorted(ablation.items()):
        seeds = max(len(values) for values in record["values"].values())
        about = f"{record['metric']} {arrow(record['metric'])} on {record['judges']} validation rows at most; {record['rows']} training "
        about += f"rows at most, {record['epochs']:g} epochs, {seeds} seed{'s' * (seeds > 1)}. {record['date']}, {record['machine']}."
        lines += [f"## {name}", "", *wrapped(about), "", "| trained with | value | difference | |", "|---|---|---|---|"]
        for title, values in record["values"].items():
            other = record["values"].get(record.get("against", {}).get(title, PLAIN), {})
            cells = ["", ""] if title in {PLAIN, OWN} else describe_difference(values, other, record["metric"])
            lines.append(f"| {title} | {spread(values)} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def parts_table(ablation: Mapping[str, Record]) -> list[str]:
    """Compare training with all parts of a recipe to plain training."""
    lines = ["| recipe | metric | plain | all of them | difference | |", "|---|---|---|---|---|---|"]
    for name, record in sorted(ablation.items()):
        metric, plain, every = record["metric"], record["values"].get(PLAIN, {}), record["values"].get(EVERY)
        if every:
            anchor = name.replace("/", "")
            cells = [f"[{name}](results/parts.md#{anchor})", f"{metric} {arrow(metric)}", spread(plain), spread(every)]
            lines.append("| " + " | ".join([*cells, *describe_difference(every, plain, metric)]) + " |")
    return lines


def methods_table(ablation: Mapping[str, Record]) -> list[str]:
    """Count, for each training method, the recipes in which it pays, changes nothing that is seen, or is worse."""
    counts: dict[str, Counter[str]] = {}
    for record in ablation.values():
        own = record["values"].get(OWN, {})
        for title, values in record["values"].items():
            if record.get("against", {}).get(title) == OWN and (
                verdict := describe_difference(values, own, record["metric"])[1]
            ):
                counts.setdefault(title, Counter())[verdict] += 1
    verdicts = ("pays", "within noise", "worse")
    lines = ["| method | " + " | ".join(verdicts) + " |", "|---|---|---|---|"]
    return lines + [
        f"| {title} | " + " | ".join(str(found[verdict]) for verdict in verdicts) + " |" for title, found in counts.items()
    ]


def spread(values: Mapping[str, float]) -> str:
    """Format mean and standard deviation over seeds."""
    deviation = f" ± {statistics.stdev(values.values()):.3f}" if len(values) > 1 else ""
    return f"{np.mean(list(values.values())):.3f}{deviation}" if values else "-"


def describe_difference(values: Mapping[str, float], other: Mapping[str, float], metric: str) -> tuple[str, str]:
    """Format the mean difference on the same seeds with its 95% interval, and say what it shows: "" with fewer than two seeds."""
    gains = [values[seed] - other[seed] for seed in values if seed in other]
    if len(gains) < 2:
        return (f"{gains[0]:+.3f}" if gains else "-"), ""
    mean = statistics.fmean(gains)
    reach = float(t.ppf(0.975, len(gains) - 1)) * statistics.stdev(gains) / len(gains) ** 0.5
    low, high = sorted((mean - reach, mean + reach))
    better, worse = (low > 0, high < 0) if higher_is_better(metric) else (high < 0, low > 0)
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]", "pays" if better else "worse" if worse else "within noise"


if __name__ == "__main__":
    write_pages()
