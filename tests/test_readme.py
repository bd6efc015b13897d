"""The README's Python runs as printed, from training to prediction, and prints what the README shows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vertical_sdk.paths import cache_home

ROOT = Path(__file__).parent.parent
ENGLISH, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)
EXAMPLE = re.compile(r"```python\n(?P<code>.*?)```\n\n```text\n(?P<output>.*?)```", re.DOTALL)
RESULTS = re.compile(r"<!-- results:start -->\n(.*?)<!-- results:end -->", re.DOTALL)
NUMBER = re.compile(r"\d+\.\d+")
TOLERANCE = 0.05
"""How far a printed number may be from the README's: CPUs with and without bfloat16 train slightly different weights."""
CACHE = cache_home()
"""Downloads of this machine, looked up before a test gets its own home."""


def example(page: Path) -> tuple[str, str]:
    """The only Python block of a page, and the output printed below it."""
    text = page.read_text(encoding="utf-8")
    match = EXAMPLE.search(text)
    assert match is not None
    assert PYTHON.findall(text) == [match["code"]]
    return match["code"], match["output"]


def results(page: Path) -> str:
    """The results table of a page."""
    (table,) = RESULTS.findall(page.read_text(encoding="utf-8"))
    return str(table)


def test_the_readme_example_goes_from_training_to_prediction() -> None:
    code, _ = example(ENGLISH)

    compile(code, "README.md", "exec")
    steps = ("train(", "evaluate(", ".publish(", ".from_registry(", ".predict(")
    assert sorted(steps, key=code.index) == list(steps)


def test_both_readmes_show_the_same_code_output_and_results() -> None:
    assert example(CHINESE) == example(ENGLISH)
    assert results(CHINESE) == results(ENGLISH)


def test_the_results_table_shows_the_measured_values() -> None:
    record = json.loads((ROOT / "benchmarks" / "results.json").read_text(encoding="utf-8"))["medical/icd-chapter"]
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in results(ENGLISH).splitlines())

    measured = [
        [system["title"]]
        + [f"{v['value']:.3f} [{v['low']:.3f}, {v['high']:.3f}]" for v in (system["metrics"][metric] for metric in head[1:])]
        for system in record["systems"].values()
    ]
    assert sorted(rows) == sorted(measured)


@pytest.mark.slow
@pytest.mark.network
def test_the_readme_example_prints_what_the_readme_shows(home: Path, tmp_path: Path) -> None:
    home.mkdir()
    if CACHE.is_dir():
        (home / "cache").symlink_to(CACHE)
    code, shown = example(ENGLISH)
    script = tmp_path / "readme.py"
    script.write_text(code, encoding="utf-8")

    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=os.environ, timeout=900)

    assert done.returncode == 0, done.stderr[-4000:]
    assert NUMBER.sub("#", done.stdout) == NUMBER.sub("#", shown)
    numbers, expected = ([float(number) for number in NUMBER.findall(text)] for text in (done.stdout, shown))
    assert numbers == pytest.approx(expected, abs=TOLERANCE)
