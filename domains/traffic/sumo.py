"""The SUMO simulator of road traffic (Lopez et al., 2018), run from the wheel eclipse-sumo.

No network and no screen is used, and every random number comes from a seed: the same settings and the same version of SUMO give
the same traffic. Python tools of SUMO run in a process of their own; nothing of SUMO is imported.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from vertical_sdk.data.generated import build_once
from vertical_sdk.errors import DataError, MissingExtra, RunError

__all__ = ["Simulator", "cached_result", "find_simulator", "run", "run_in_parallel"]

LONGEST = 1800.0
"""Seconds that one program may take."""
SHOWN = 600
"""Characters of a program's own words in a message."""
T = TypeVar("T")
R = TypeVar("R")
_RUNNING: set[subprocess.Popen[str]] = set()


@dataclass(frozen=True)
class Simulator:
    """The folder of SUMO, and its version."""

    home: Path
    version: str

    def command(self, program: str) -> list[str]:
        """How a program is started: "sumo", or a Python tool such as "tools/randomTrips.py".

        Raises MissingExtra where the installation lacks it.
        """
        tool = program.endswith(".py")
        path = self.home / program if tool else self.home / "bin" / (program + (".exe" if os.name == "nt" else ""))
        if not path.is_file():
            raise MissingExtra("traffic-sim", f"simulating traffic (SUMO {self.version} in {self.home} has no {program})")
        return [sys.executable, str(path)] if tool else [str(path)]


def find_simulator(wanted: str | None = None, where: str = "") -> Simulator:
    """The installed SUMO.

    wanted  the version that a scenario was made for; another one would give other traffic

    Raises MissingExtra without SUMO, DataError for another version.
    """
    try:
        version = importlib.metadata.version("eclipse-sumo")
        spec = importlib.util.find_spec("sumo")
    except (importlib.metadata.PackageNotFoundError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra("traffic-sim", "simulating traffic")
    if wanted is not None and version != wanted:
        at = f"{where}: " if where else ""
        raise DataError(
            f"{at}sumo: was made for SUMO {wanted}, and {version} is installed, which gives other rows. "
            f"pip install eclipse-sumo=={wanted}, or say sumo: {version}."
        )
    return Simulator(Path(next(iter(spec.submodule_search_locations))), version)


def run(sumo: Simulator, folder: Path, program: str, *arguments: object, limit: float = LONGEST) -> None:
    """Run one of SUMO's programs to its end, inside `folder`; what it started ends with it, also where this process is interrupted.

    Raises DataError with SUMO's own message if it fails, RunError if it takes more than `limit` seconds or cannot start.
    """
    command = [*sumo.command(program), *map(str, arguments)]
    environment = {**os.environ, "SUMO_HOME": str(sumo.home), "PYTHONHASHSEED": "0", "PYTHONWARNINGS": "ignore"}
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=os.name != "nt",
        )
    except OSError as error:
        raise RunError(f"SUMO's {program} cannot be started: {error}. Install eclipse-sumo again.") from None
    _RUNNING.add(process)
    try:
        output, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        _last_lines(process)
        raise RunError(
            f"SUMO's {program} took more than {limit:.0f} s. A traffic jam takes longest: lower the demand."
        ) from None
    except BaseException:
        _last_lines(process)
        raise
    finally:
        _RUNNING.discard(process)
        if process.stdout is not None:
            process.stdout.close()
    refused = not program.endswith(".py") and any(line.startswith("Error:") for line in output.splitlines())
    if process.returncode or refused:  # netgenerate ends with 0 where it could not read a file
        words = " ".join(output.split())[-SHOWN:]
        raise DataError(f"SUMO's {program} failed ({process.returncode}): {words or 'it output nothing'}")


def cached_result(kind: str, settings: Mapping[str, Any], make: Callable[[Path], None]) -> Path:
    """The folder of results for these settings, from the cache if they are there; see `vertical_sdk.data.generated`."""
    return build_once(f"sumo/{kind}", settings, make)


def run_in_parallel(work: Callable[[T], R], on: list[T]) -> list[R]:
    """The work's results in order; as many at once as there are processors, because each waits for a process of its own."""
    if len(on) == 1:
        return [work(on[0])]
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pool = ThreadPoolExecutor(max(1, min(count, len(on))))
    try:
        return list(pool.map(work, on))
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in list(_RUNNING):
            _last_lines(process)
        raise
    finally:
        pool.shutdown(wait=True)


def _last_lines(process: subprocess.Popen[str]) -> None:
    """End a process and those that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.name == "nt":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
