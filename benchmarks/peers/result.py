"""The common result of the systems that decode: one JSON document on stdout."""

from __future__ import annotations

import importlib.metadata
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO


def read_work() -> tuple[dict[str, Any], TextIO]:
    """Read the file that is named on the command line (`decoding.py` writes it). What libraries print goes to stderr.

    returns  the work, and where the result is written
    """
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    work: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    return work, answer


def measure(
    run: Callable[[], Sequence[list[int] | str]], work: dict[str, Any], answer: TextIO, packages: Sequence[str]
) -> None:
    """Run once to warm up and then `rounds` times, and write the result.

    run  decodes all prompts, and returns the new tokens or the text of each
    """
    run()
    seconds = []
    for _ in range(work["rounds"]):
        began = time.perf_counter()
        answers = list(run())
        seconds.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    result = {
        "seconds": seconds,
        "tokens_per_second": work["tokens"] * len(answers) / min(seconds),
        "answers": answers,
        "peak_bytes": max(peak, children) * 1024,
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }
    answer.write(json.dumps(result) + "\n")
    answer.close()
