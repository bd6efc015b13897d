"""The majority baseline: the same prediction for every row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.baselines.fitted import Arrays, decode_json, encode_json, read_targets, take_array
from vertical_sdk.catalog import baselines
from vertical_sdk.outputs import Outputs
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, LabelSpace, TaskName

__all__ = ["Majority", "majority"]


@dataclass(frozen=True, eq=False)
class Majority:
    """Predicts the same for every row.

    share   (labels,) the labels' shares, or (1,) the mean of numbers; None for tasks that write text
    answer  the most common answer, for tasks that write text
    """

    task: TaskName
    share: NDArray[np.float64] | None
    answer: str = ""

    def predict(self, rows: Sequence[Example], base: Any) -> Outputs:
        """Repeat the one prediction for each row."""
        if self.share is None:
            return Outputs(texts=[self.answer] * len(rows))
        if get_task(self.task).numeric:
            return Outputs(values=np.full(len(rows), self.share[0]))
        return Outputs(probabilities=np.tile(self.share, (len(rows), 1)))

    def to_arrays(self) -> Arrays:
        """Return the share, if there is one, and the settings."""
        settings = encode_json({"task": self.task, "answer": self.answer})
        return {"settings": settings} | ({"share": self.share} if self.share is not None else {})

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Majority:
        """Restore the baseline from `to_arrays`."""
        settings = decode_json(arrays["settings"])
        if "share" not in arrays:
            return cls(settings["task"], None, str(settings["answer"]))
        least = None if get_task(settings["task"]).numeric else 0.0
        return cls(settings["task"], take_array(arrays, "share", None, least=least), str(settings["answer"]))


@baselines.register("majority", saves_as=Majority, classical=4)
def majority(train: Sequence[Example], labels: LabelSpace | None, task: TaskName, seed: int, base: Any) -> Majority:
    """Predict the labels' shares of the training rows, their mean, or their most common answer, for every row.

    Raises DataError if there are no training rows.
    """
    truth = read_targets(train, labels, task)
    kind = get_task(task)
    if kind.written:
        return Majority(task, None, Counter(truth).most_common(1)[0][0])
    if kind.numeric:
        return Majority(task, np.array([truth.mean()]))
    share = truth.mean(axis=0) if not kind.single_label else np.bincount(truth, minlength=len(labels or ())) / len(truth)
    return Majority(task, share)
