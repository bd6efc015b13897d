"""Train and evaluate every recipe, and write what came out to docs/results.md.

    python benchmarks/recipes.py ["RECIPE [--base B] [--set k=v]..."]...

Each recipe runs as a user would run it, `vertical train RECIPE --json`, in a process of its own. A recipe whose data or
base cannot be had here is told as such. Numbers of recipes that were not run this time stay as they were.
"""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from vertical_sdk.recipe import load_recipe, recipe_names

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results.md"
RECORDS = ROOT / "benchmarks" / "results.json"
HEAD = """\
# Results

Each table comes from one command on one machine; `make recipes` writes this page anew. Values stand with their intervals,
over the recipe's own test rows, which nothing was trained on.
"""


def run(asked: str) -> dict[str, Any]:
    """Train and evaluate one recipe, with the options that stand behind its name; what happened, as plain data."""
    name, *options = shlex.split(asked)
    command = [sys.executable, "-m", "vertical_sdk.cli", "train", name, *options, "--json"]
    started = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, check=False)
    told = json.loads(done.stdout) if done.stdout.strip() else {"error": {"message": f"ended with {done.returncode}"}}
    recipe = load_recipe(name)
    record = {
        "command": f"vertical train {asked}",
        "summary": recipe.summary,
        "base": recipe.base,
        "date": time.strftime("%Y-%m-%d"),
        "seed": recipe.train.get("seed", 0),
        "machine": machine(),
        "seconds": round(time.monotonic() - started),
    }
    if "error" in told:
        return record | {"error": told["error"]["message"]}
    found = told["evaluation"]
    record |= {"base": found["provenance"]["base"]["name"], "training_seconds": found["provenance"]["training"]["seconds"]}
    return record | {key: found[key] for key in ("rows", "systems", "tests", "confidence")} | {"gate": told["gate"]}


def machine() -> str:
    """The machine in a few words."""
    memory = psutil.virtual_memory().total / 1e9
    return f"{psutil.cpu_count()} CPU cores, {memory:.0f} GB, Python {platform.python_version()}"


def section(name: str, record: dict[str, Any]) -> str:
    """A recipe's part of the page."""
    facts = f"`{record['command']}` · {record['date']} · seed {record['seed']} · {record['machine']} · {record['seconds']} s"
    lines = [f"## {name}", "", record["summary"], "", facts, ""]
    if "error" in record:
        return "\n".join([*lines, f"Not measured: {record['error']}", ""])
    measured = {key: system for key, system in record["systems"].items() if system["metrics"]}
    metrics = list(dict.fromkeys(metric for system in measured.values() for metric in system["metrics"]))
    trained = f"base {record['base']}, trained in {record['training_seconds']:.0f} s"
    lines += [f"{record['rows']} test rows, {100 * record['confidence']:g}% intervals, {trained}.", ""]
    lines += ["| | " + " | ".join(metrics) + " |", "|---" * (len(metrics) + 1) + "|"]
    lines += [f"| {s['title']} | " + " | ".join(cell(s["metrics"].get(m)) for m in metrics) + " |" for s in measured.values()]
    lines += ["", "| the specialist against | in | difference | p |", "|---|---|---|---|"]
    lines += [
        f"| {record['systems'][t['rival']]['title']} | {t['metric']} | {cell(t['difference'], '+')} | {t['p_value']:.3g} |"
        for t in record["tests"]
    ]
    if record["gate"]:
        lines += ["", f"Gate: {'passed' if record['gate']['passed'] else 'failed'}. " + " ".join(record["gate"]["reasons"])]
    return "\n".join([*lines, ""])


def cell(value: dict[str, float | None] | None, sign: str = "") -> str:
    """A value with its interval."""
    if value is None or None in value.values():
        return "-"
    return f"{value['value']:{sign}.3f} [{value['low']:{sign}.3f}, {value['high']:{sign}.3f}]"


def main() -> None:
    """Run the recipes named on the command line, or all."""
    records: dict[str, Any] = json.loads(RECORDS.read_text(encoding="utf-8")) if RECORDS.is_file() else {}
    for name in sys.argv[1:] or recipe_names():
        print(f"== {name}", flush=True)
        records[name] = run(name)
        RECORDS.write_text(json.dumps(records, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        page = [HEAD, *(section(key, record) for key, record in sorted(records.items()))]
        RESULTS.write_text("\n".join(page), encoding="utf-8")
        print(section(name, records[name]), flush=True)


if __name__ == "__main__":
    main()
