"""What an import costs, measured in a fresh interpreter."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = ("torch", "transformers", "peft", "datasets", "sklearn", "scipy", "pandas", "matplotlib", "numpy", "pydantic")


def run_fresh_python(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = json.loads(run_fresh_python("import json, sys, vertical_sdk; print(json.dumps(sorted(sys.modules)))"))

    assert set(HEAVY).isdisjoint(loaded)


def test_importing_the_package_takes_a_tenth_of_a_second_at_most() -> None:
    code = "import time; start = time.perf_counter(); import vertical_sdk; print(time.perf_counter() - start)"

    assert min(float(run_fresh_python(code)) for _ in range(5)) <= 0.1


def test_importing_the_package_changes_no_environment_variable() -> None:
    assert (
        run_fresh_python(
            "import os; before = dict(os.environ); import vertical_sdk, vertical_sdk.cli; print(before == os.environ)"
        )
        == "True\n"
    )


def test_asking_the_command_for_help_loads_no_model_library() -> None:
    code = (
        "import json, sys\n"
        "from vertical_sdk.cli import main\n"
        "code = main(['--help'])\n"
        "print('\\n' + json.dumps([code, sorted(sys.modules)]))"
    )

    code_, loaded = json.loads(run_fresh_python(code).splitlines()[-1])

    assert code_ == 0
    assert set(HEAVY).isdisjoint(loaded)
