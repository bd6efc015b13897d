"""Red lines: what no gate may pass, however a specialist compares with its baselines; and what the test rows cannot show."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from vertical_sdk import catalog
from vertical_sdk.data.labels import count_labels, describe_untested, name_some, untested_labels
from vertical_sdk.evaluation.power import describe_few
from vertical_sdk.evaluation.test_set import Benchmark
from vertical_sdk.outputs import Outputs
from vertical_sdk.types import Interval, LabelSpace

__all__ = ["describe_gaps", "describe_power", "describe_undefined", "find_faults"]

LONGEST = 40
"""A written answer is quoted up to this many characters."""
RARE = 0.01
"""Labels with a smaller share of the training rows may lack test rows: there is a warning, and an average over the others is known."""


def find_faults(benchmark: Benchmark, own: Outputs) -> list[str]:
    """List why the gate of these rows cannot pass, a sentence each.

    The specialist gives the same answer to every row; all rows have the same answer, so that there is nothing to tell apart; or the
    main metric averages over labels, and one of them that is not rare has no row.

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
    untested = [label for label in untested_labels(rows, labels) if labels and not _is_rare(label, labels)]
    if untested and catalog.metrics.part(benchmark.main_metric).each_label:
        faults.append(f"{benchmark.main_metric} averages over labels, and no test row has {name_some(untested)}.")
    return faults


def describe_gaps(benchmark: Benchmark) -> list[str]:
    """List what these rows cannot show, a sentence each."""
    return describe_untested(benchmark.rows, benchmark.card.labels)


def describe_power(benchmark: Benchmark) -> str:
    """Say which labels have few test rows, and what these can show; "" if none has few, or the task has no labels."""
    if benchmark.card.labels is None:
        return ""
    return describe_few(count_labels(benchmark.rows), benchmark.confidence)


def describe_undefined(metrics: Mapping[str, Interval]) -> list[str]:
    """Say in a sentence which metrics of the specialist are undefined; [] if all are known."""
    undefined = [name for name, interval in metrics.items() if math.isnan(interval.value)]
    if not undefined:
        return []
    return [f"Undefined on these rows, and shown as a dash: {', '.join(undefined)}."]


def _is_rare(label: str, labels: LabelSpace) -> bool:
    """Whether few of the training rows have this label. A specialist whose training rows were not counted has no rare label."""
    return labels.counts.get(label, 0) < RARE * sum(labels.counts.values())


def _all_alike(answers: Any) -> bool:
    """Whether there are answers, and all are the same, numbers up to rounding. NaN is the same as NaN.

    answers  a list of texts, or an array (rows, ...)
    """
    if len(answers) == 0:
        return False
    if isinstance(answers, list):
        return len(set(answers)) == 1
    if answers.dtype.kind == "f":  # float32 rounds a number that is the same for every row
        return bool(np.allclose(answers, answers[:1], rtol=1e-5, equal_nan=True))
    return bool((answers == answers[:1]).all())


def _quote(answer: str) -> str:
    return repr(answer if len(answer) <= LONGEST else f"{answer[:LONGEST]}…")
