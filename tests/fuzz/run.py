"""Fuzz the targets with atheris (libFuzzer for Python), each in a process of its own.

    python tests/fuzz/run.py [TARGET ...] [--seconds 600] [--jobs 1]

It begins with the honest inputs of a target, and with its corpus in tests/fuzz/corpus/TARGET: inputs that reach new code, found by
earlier runs. New ones go to .fuzz/TARGET, which the next run reads too. An input that crashes, hangs for more than ten seconds, takes
more than two gigabytes, or raises an exception outside the errors of vertical_sdk is kept there as crash-*, timeout-* or oom-*, and the
command ends with 1. After the fix, move it into the corpus: `make test` runs every file of it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CORPUS = HERE / "corpus"
FOUND = ROOT / ".fuzz"
FAULTS = ("crash-*", "timeout-*", "oom-*")


def main() -> int:
    """Run the command; return its exit code."""
    sys.path[:0] = [str(HERE.parent)]
    if sys.argv[1:2] == ["--inside"]:
        return fuzz(sys.argv[2], sys.argv[3:])
    from fuzz.targets import TARGETS

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"all by default: {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=int, default=600, help="for each target")
    parser.add_argument("--jobs", type=int, default=1, help="targets at once")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.targets) - set(TARGETS))
    if unknown:
        parser.error(f"{unknown[0]!r} is not a target. Targets: {', '.join(TARGETS)}.")
    return run(arguments.targets or list(TARGETS), arguments.seconds, arguments.jobs)


def run(names: list[str], seconds: int, jobs: int) -> int:
    """Fuzz the targets, `jobs` at once, and print a line for each. Return 1 if one has a fault."""
    waiting, running, faults = list(names), {}, 0
    while waiting or running:
        while waiting and len(running) < jobs:
            name = waiting.pop(0)
            running[name] = start(name, seconds)
        time.sleep(0.5)
        for name, (process, log) in list(running.items()):
            if process.poll() is None:
                continue
            del running[name]
            found = [path.name for pattern in FAULTS for path in sorted((FOUND / name).glob(pattern))]
            bad = process.returncode != 0 or bool(found)
            faults += bad
            done = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("Done ")]
            state = f"FAULT: {', '.join(found) or f'exit code {process.returncode}'}; see {log}" if bad else "no fault"
            print(f"{name:<16} {done[-1] if done else 'ended early'}: {state}", flush=True)
    return int(faults > 0)


def start(name: str, seconds: int) -> tuple[subprocess.Popen[bytes], Path]:
    """Start the process of a target. Return it, and its log."""
    found, corpus = FOUND / name, CORPUS / name
    for folder in (found, corpus):
        folder.mkdir(parents=True, exist_ok=True)
    log = FOUND / f"{name}.log"
    options = [
        f"-max_total_time={seconds}",
        "-timeout=10",
        "-rss_limit_mb=2500",
        "-max_len=20000",
        f"-artifact_prefix={found}/",
    ]
    command = [sys.executable, str(HERE / "run.py"), "--inside", name, *options, str(found), str(corpus)]
    with log.open("wb") as output:
        return subprocess.Popen(command, stdout=output, stderr=output, cwd=ROOT), log


def fuzz(name: str, options: list[str]) -> int:
    """Fuzz one target in this process, which libFuzzer ends."""
    import atheris

    with atheris.instrument_imports(include=["vertical_sdk"]):
        from fuzz.targets import TARGETS

        target = TARGETS[name]
        for content in target.seeds():  # imports what the target uses, so that it is instrumented
            target(content)
            (FOUND / name / hashlib.sha1(content, usedforsecurity=False).hexdigest()).write_bytes(content)

    def run_one(content: bytes) -> None:
        try:
            target(content)
        except Exception:  # noqa: BLE001  (written here: libFuzzer's own way out waits for threads of other libraries)
            (FOUND / name / f"crash-{hashlib.sha1(content, usedforsecurity=False).hexdigest()}").write_bytes(content)
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)

    atheris.Setup([sys.argv[0], *options], run_one)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
