"""Train and evaluate every recipe; write benchmarks/results.json, docs/results.md and docs/results/.

    python benchmarks/recipes.py [--data FOLDER] [--again] ["RECIPE [--base B] [--set k=v]..."]...

Each recipe runs as a user would run it, `vertical train RECIPE --json`, in its own process. If its data or base is not available,
the page gives the reason. A recipe that was measured in its current form is not measured again, so a second call continues after the
last result of the first. --again measures it again.

--data FOLDER  read data that no package index has from files in FOLDER, not from the recipes' own sources; local.py lists them
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

import page
from local import FILES, ROOT, machine

from vertical_sdk.recipe import load_recipe, recipe_names


def run(request: str, data: Path | None) -> dict[str, Any]:
    """Train and evaluate one recipe with the options after its name; return the record as plain data."""
    name, *options = shlex.split(request)
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
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    answer = json.loads(output) if output.strip() else {"error": {"message": f"exit code {process.returncode}"}}
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
    if "error" in answer:
        return record | {"error": answer["error"]["message"]}
    evaluation = answer["evaluation"]
    training = evaluation["provenance"]["training"]
    record |= {"base": evaluation["provenance"]["base"]["name"], "training_seconds": training["seconds"]}
    record |= {
        "threads": training["cpu_threads"],
        "ensemble": training.get("ensemble"),
        "forgetting": evaluation.get("forgetting"),
    }
    measured = ("rows", "systems", "tests", "confidence", "validation", "contribution")
    return record | {key: evaluation[key] for key in measured} | {"gate": answer["gate"]}


def main() -> None:
    """Measure the recipes named on the command line, or all."""
    given = argparse.ArgumentParser(description="Train and evaluate recipes, and write docs/results.md.")
    given.add_argument("recipes", nargs="*", help="'RECIPE [--set k=v]...'; default: all recipes")
    given.add_argument("--data", type=Path, help="a folder with the files that local.py lists")
    given.add_argument("--again", action="store_true", help="measure recipes again that were already measured")
    options = given.parse_args()
    data = options.data.resolve() if options.data else None
    records = page.read_records(page.RECORDS)
    every = [*recipe_names(), "finance/credit-risk --own-source"] if data else recipe_names()
    for request in options.recipes or every:
        known = records.get(request, {})
        if not options.again and "systems" in known and known.get("recipe") == load_recipe(shlex.split(request)[0]).digest:
            print(f"== {request}: measured on {known['date']}", flush=True)
            continue
        print(f"== {request}", flush=True)
        records[request] = run(request, data)
        page.save_records(page.RECORDS, records)
        print(page.section(request, records[request]), flush=True)


if __name__ == "__main__":
    main()
