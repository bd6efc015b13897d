"""The README's Python runs, from its first block to its last, on a registry such as the quickstart leaves."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vertical_sdk.paths import cache_home

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"(<!-- not run[^>]*-->\s*)?```python\n(.*?)```", re.DOTALL)
QUICK = {
    "data.per_group": 1,
    "data.decontaminate": None,
    "train.max_steps": 3,
    "train.per_device_train_batch_size": 8,
    "evaluate.resamples": 100,
    "evaluate.baselines": ["base"],
    "evaluate.gate": None,
}
"""The quickstart's recipe, cut down to seconds: what it learns is of no use here, that it exists is."""
CACHE = cache_home()
"""Downloads of this machine, looked up before a test gets a home of its own."""


def code() -> list[str]:
    """The README's Python, but blocks under a comment `<!-- not run: why -->`."""
    return [block for skipped, block in BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8")) if not skipped]


def test_the_readme_shows_code_and_all_of_it_is_python() -> None:
    assert code()
    for block in code():
        compile(block, "README.md", "exec")


@pytest.mark.slow
@pytest.mark.network
def test_the_code_of_the_readme_runs(home: Path, tmp_path: Path) -> None:
    home.mkdir()
    if CACHE.is_dir():
        (home / "cache").symlink_to(CACHE)
    before = (
        "from vertical_sdk import Registry, evaluate, train\n"
        f"run = train('medical/icd-chapter', settings={QUICK!r})\n"
        "evaluate(run.path)\n"
        "version = Registry().publish(run.path)\n"
        "Registry().set_alias(version.name, 'production', version.number)\n"
    )
    script = tmp_path / "readme.py"
    script.write_text("\n".join([before, *code()]), encoding="utf-8")

    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=os.environ, timeout=900)

    assert done.returncode == 0, done.stderr[-4000:]
