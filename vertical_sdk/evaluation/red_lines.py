"""Red lines: what no gate may pass, however a specialist compares with its baselines; and what the test rows cannot show."""

from __future__ import annotations

from typing import Any

import numpy as np

from vertical_sdk import catalog
from vertical_sdk.data.labels import describe_untested, name_some, untested_labels
from vertical_sdk.evaluation.test_set import Benchmark
from vertical_sdk.outputs import Outputs

__all__ = ["describe_gaps", "find_faults"]

LONGEST = 40
"""A written answer is quoted up to this many characters."""


def find_faults(benchmark: Benchmark, own: Outputs) -> list[str]:
    """List why the gate of these rows cannot pass, a sentence each.

    The specialist gives the same answer to every row; all rows have the same answer, so that there is nothing to tell apart; or the
    main metric averages over labels, and one of them has no row.

    own  the outputs of the specialist
    """
    task, labels = benchmark.task, benchmark.card.labels
    faults = []
    answers, references, rows = task.answers(own), benchmark.references, benchmark.rows
    if _all_alike(references):
        example = "" if task.ahead else f", {_quote(task.format(references[:1], labels)[0])}"
        return [
            f"All {len(rows)} test rows have the same answer{example}, so they cannot show that the specialist tells anything apart."
        ]
    if _all_alike(answers):
        example = "" if task.ahead else f": {_quote(task.format(answers[:1], labels)[0])}"
        kind = "one label" if task.single_label else "the same labels" if task.labelled else "the same answer"
        faults.append(f"The specialist gives {'the same number' if task.numeric else kind} to every row{example}.")
    untested = untested_labels(rows, labels)
    if untested and catalog.metrics.part(benchmark.main_metric).each_label:
        faults.append(f"{benchmark.main_metric} averages over labels, and no test row has {name_some(untested)}.")
    return faults


def describe_gaps(benchmark: Benchmark) -> list[str]:
    """List what these rows cannot show, a sentence each."""
    return describe_untested(benchmark.rows, benchmark.card.labels)


def _all_alike(answers: Any) -> bool:
    """Whether there are answers, and all are the same. NaN is the same as NaN.

    answers  a list of texts, or an array (rows, ...)
    """
    if len(answers) == 0:
        return False
    if isinstance(answers, list):
        return len(set(answers)) == 1
    first = np.broadcast_to(answers[:1], answers.shape)
    return bool(np.array_equal(answers, first, equal_nan=answers.dtype.kind == "f"))


def _quote(answer: str) -> str:
    return repr(answer if len(answer) <= LONGEST else f"{answer[:LONGEST]}…")
