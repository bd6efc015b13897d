"""Train and evaluate every recipe, and write what came out to docs/results.md.

    python benchmarks/recipes.py [--data FOLDER] [--again] ["RECIPE [--base B] [--set k=v]..."]...

Each recipe runs as a user would run it, `vertical train RECIPE --json`, in a process of its own. A recipe whose data or base
cannot be had here is told as such. What was measured with the recipe as it now is stays, so a second call goes on where the first
was stopped; --again measures it anew.

--data FOLDER  take data that no package index has from files in FOLDER instead of the recipes' own sources: local.py says which
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from local import FILES, ROOT, machine

from vertical_sdk.recipe import load_recipe, recipe_names

RESULTS = ROOT / "docs" / "results.md"
RECORDS = ROOT / "benchmarks" / "results.json"
HEAD = """\
# Results

Each table comes from one command on one machine; `make recipes` writes this page anew. Values stand with their intervals,
over the recipe's own test rows, which nothing was trained on.
"""


def run(asked: str, data: Path | None) -> dict[str, Any]:
    """Train and evaluate one recipe, with the options that stand behind its name; what happened, as plain data."""
    name, *options = shlex.split(asked)
    shown = list(options)
    if data is not None and name in FILES and "--own-source" not in options:
        for key, value in FILES[name].items():
            place = "null" if value is None else str(data / value)
            options += ["--set", f"{key}={place}"]
            shown += ["--set", f"{key}={'null' if value is None else 'DATA/' + value}"]
    options, shown = ([o for o in some if o != "--own-source"] for some in (options, shown))
    command = [sys.executable, "-m", "vertical_sdk.cli", "train", name, *options, "--json"]
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    told = json.loads(said) if said.strip() else {"error": {"message": f"ended with {process.returncode}"}}
    recipe = load_recipe(name)
    record = {
        "command": " ".join(["vertical train", name, *shown]),
        "summary": recipe.summary,
        "base": recipe.base,
        "recipe": recipe.digest,
        "date": time.strftime("%Y-%m-%d"),
        "seed": recipe.train.get("seed", 0),
        "machine": machine(),
        "seconds": round(time.monotonic() - started),
        "memory": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }
    if "error" in told:
        return record | {"error": told["error"]["message"]}
    found = told["evaluation"]
    training = found["provenance"]["training"]
    record |= {"base": found["provenance"]["base"]["name"], "training_seconds": training["seconds"]}
    record |= {"threads": training["cpu_threads"], "ensemble": training.get("ensemble"), "forgetting": found.get("forgetting")}
    return record | {key: found[key] for key in ("rows", "systems", "tests", "confidence")} | {"gate": told["gate"]}


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
        f"| {record['systems'][t['rival']]['title']} | {t['metric']} | {cell(t['difference'], '+')} | {t['p_value']:.3g} |"
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


def main() -> None:
    """Run the recipes named on the command line, or all."""
    given = argparse.ArgumentParser(description="Train and evaluate recipes, and write docs/results.md.")
    given.add_argument("recipes", nargs="*", help="'RECIPE [--set k=v]...'; all of them where there is none")
    given.add_argument("--data", type=Path, help="a folder with the files of FILES")
    given.add_argument("--again", action="store_true", help="measure anew what was measured")
    options = given.parse_args()
    data = options.data.resolve() if options.data else None
    records: dict[str, Any] = json.loads(RECORDS.read_text(encoding="utf-8")) if RECORDS.is_file() else {}
    every = [*recipe_names(), "finance/credit-risk --own-source"] if data else recipe_names()
    for asked in options.recipes or every:
        known = records.get(asked, {})
        if not options.again and "systems" in known and known.get("recipe") == load_recipe(shlex.split(asked)[0]).digest:
            print(f"== {asked}: measured on {known['date']}", flush=True)
            continue
        print(f"== {asked}", flush=True)
        records[asked] = run(asked, data)
        RECORDS.write_text(json.dumps(records, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        page = [HEAD, *(section(key, record) for key, record in sorted(records.items()))]
        RESULTS.write_text("\n".join(page), encoding="utf-8")
        print(section(asked, records[asked]), flush=True)


if __name__ == "__main__":
    main()
