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

import page
from local import FILES, ROOT, machine

from vertical_sdk.recipe import load_recipe, recipe_names


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


def main() -> None:
    """Run the recipes named on the command line, or all."""
    given = argparse.ArgumentParser(description="Train and evaluate recipes, and write docs/results.md.")
    given.add_argument("recipes", nargs="*", help="'RECIPE [--set k=v]...'; all of them where there is none")
    given.add_argument("--data", type=Path, help="a folder with the files of FILES")
    given.add_argument("--again", action="store_true", help="measure anew what was measured")
    options = given.parse_args()
    data = options.data.resolve() if options.data else None
    records = page.read(page.RECORDS)
    every = [*recipe_names(), "finance/credit-risk --own-source"] if data else recipe_names()
    for asked in options.recipes or every:
        known = records.get(asked, {})
        if not options.again and "systems" in known and known.get("recipe") == load_recipe(shlex.split(asked)[0]).digest:
            print(f"== {asked}: measured on {known['date']}", flush=True)
            continue
        print(f"== {asked}", flush=True)
        records[asked] = run(asked, data)
        page.keep(page.RECORDS, records)
        print(page.section(asked, records[asked]), flush=True)


if __name__ == "__main__":
    main()
