"""The guide docs/write-a-vertical.md works as printed: its files are created, and its commands and code run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = Path(__file__).parent.parent / "docs" / "write-a-vertical.md"
FILE = re.compile(r"^`([\w./-]+)`\n\n```\w+\n(.*?)^```", re.DOTALL | re.MULTILINE)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> tuple[dict[str, str], str, dict[str, str]]:
    """The output of each command of the guide, the output of its last block, and the environment.

    Two things differ from a reader's machine: the base is a tiny one on the disk, and pip installs the package into a folder of
    the test without asking a package index.
    """
    folder = tmp_path_factory.mktemp("telecom")
    text = GUIDE.read_text(encoding="utf-8")
    for name, content in FILE.findall(text):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content.replace("base: minilm-l6", f"base: {encoder}"), encoding="utf-8")
    site = folder / "site"
    environment = {
        **os.environ,
        "VERTICAL_HOME": str(folder / "home"),
        "PYTHONPATH": str(site),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "200",
        "OMP_NUM_THREADS": "1",
    }
    outputs = {}
    for command in "".join(content for kind, content in BLOCK.findall(text) if kind == "console").splitlines():
        words = shlex.split(command)
        if "pip" in words:
            words += ["--quiet", "--no-deps", "--no-build-isolation", "--target", str(site)]
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        outputs[command] = done.stdout + done.stderr
    code = [content for kind, content in BLOCK.findall(text) if kind == "python"][-1]
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    return outputs, f"{done.returncode} {done.stderr}", environment


def test_the_commands_of_the_guide_run_from_install_to_prediction(walked: tuple[dict[str, str], str, dict[str, str]]) -> None:
    outputs = walked[0]

    assert [command.split()[:3] for command in outputs] == [
        ["python", "-m", "pip"],
        ["python", "make_tickets.py"],
        ["vertical", "recipe", "check"],
        ["vertical", "data", "show"],
        ["vertical", "train", "telecom/ticket-team"],
        ["vertical", "registry", "publish"],
        ["vertical", "predict", "telecom/ticket-team@1"],
    ]
    assert "signature removed" in outputs["vertical data show telecom/ticket-team"]
    assert any(team in list(outputs.values())[-1] for team in ("outage", "billing", "contract"))


def test_the_part_tests_of_the_guide_pass(walked: tuple[dict[str, str], str, dict[str, str]]) -> None:
    assert walked[1] == "0 "
