"""Measure what a user waits for each time: the import and the command's help (for a look-up in the registry see registry.py).

    python benchmarks/startup.py [--runs N] [--json]

Each start is a fresh interpreter. The fastest of N runs is reported, as other processes only make it longer. The command is
compared with Python that does nothing and with Python that imports typer alone.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from typing import Any

HEAVY = ("torch", "transformers", "peft", "datasets", "numpy", "pandas", "sklearn")
IMPORT = """
import json, sys, time
start = time.perf_counter()
import vertical_sdk
print(json.dumps({"seconds": time.perf_counter() - start, "modules": sorted({m.partition(".")[0] for m in sys.modules})}))
"""
STARTS = {
    "python -c pass": ["-c", "pass"],
    "python -c 'import typer'": ["-c", "import typer"],
    "python -c 'import vertical_sdk'": ["-c", "import vertical_sdk"],
    "vertical --version": ["-m", "vertical_sdk.cli", "--version"],
    "vertical --help": ["-m", "vertical_sdk.cli", "--help"],
    "vertical recipe list": ["-m", "vertical_sdk.cli", "recipe", "list"],
}


def measure_starts(runs: int) -> dict[str, float]:
    """Seconds of each command from start to end; the commands take turns."""
    runs_of: dict[str, list[float]] = {name: [] for name in STARTS}
    for _ in range(runs):
        for name, words in STARTS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            runs_of[name].append(time.perf_counter() - start)
    return {name: min(seconds) for name, seconds in runs_of.items()}


def measure_import(runs: int) -> dict[str, Any]:
    """Seconds of `import vertical_sdk` inside the interpreter, and the heavy packages that it loads."""
    results = [json.loads(subprocess.check_output([sys.executable, "-c", IMPORT])) for _ in range(runs)]
    return {"seconds": min(result["seconds"] for result in results), "heavy": sorted(set(HEAVY) & set(results[0]["modules"]))}


def main() -> None:
    """Measure, and print a table or one JSON document."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=int, default=7)
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    results = {
        "python": platform.python_version(),
        "import": measure_import(chosen.runs),
        "starts": measure_starts(chosen.runs),
    }
    if chosen.json:
        print(json.dumps(results, indent=1))
        return
    nothing, typer_alone = results["starts"]["python -c pass"], results["starts"]["python -c 'import typer'"]
    print(f"Python {results['python']}, the fastest of {chosen.runs} runs\n")
    print("| start to end | seconds | × python -c pass | × import typer |")
    print("|---|---:|---:|---:|")
    for name, seconds in results["starts"].items():
        print(f"| `{name}` | {seconds:.3f} | {seconds / nothing:.1f} | {seconds / typer_alone:.2f} |")
    print(f"\n`import vertical_sdk` alone: {1000 * results['import']['seconds']:.1f} ms; loads", end=" ")
    print(f"{', '.join(results['import']['heavy'])}." if results["import"]["heavy"] else f"none of {', '.join(HEAVY)}.")


if __name__ == "__main__":
    main()
