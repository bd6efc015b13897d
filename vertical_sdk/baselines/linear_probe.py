"""The base model as a baseline, with a linear layer fitted on its features."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vertical_sdk.baselines.fitted import Arrays, decode_json, encode_json
from vertical_sdk.baselines.frozen_base import FrozenBase
from vertical_sdk.catalog import baselines
from vertical_sdk.families.head import PROBE_HEAD, Head, fit_probe, head_from_arrays, head_to_arrays, load_head
from vertical_sdk.outputs import Outputs
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, LabelSpace, TaskName

__all__ = ["LinearProbe", "probe"]


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """A linear layer on the frozen base."""

    task: TaskName
    head: Head

    def predict(self, rows: Sequence[Example], base: FrozenBase) -> Outputs:
        """Predict with the layer on the base's features."""
        with torch.inference_mode():
            return get_task(self.task).decode(self.head(base.features(rows)).numpy())

    def to_arrays(self) -> Arrays:
        """Return the layer's weights."""
        return {"settings": encode_json({"task": self.task})} | head_to_arrays(self.head)

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> LinearProbe:
        """Restore the baseline from `to_arrays`."""
        return cls(decode_json(arrays["settings"])["task"], head_from_arrays(arrays))


@baselines.register(
    "probe",
    tasks=("classification", "ordinal", "multilabel", "regression"),
    title="general base, linear probe",
    saves_as=LinearProbe,
    reads_base=True,
)
def probe(
    train: Sequence[Example],
    labels: LabelSpace | None,
    task: TaskName,
    seed: int,
    base: FrozenBase,
    *,
    most: int = 2000,
    C: float = 1.0,  # noqa: N803  (scikit-learn's name)
) -> LinearProbe:
    """Fit a linear layer on the frozen base: what the base knows without being changed.

    If the adapter's folder contains the probe that its head started from, that one is used. Otherwise a probe is fitted here, on at
    most `most` training rows chosen by the seed, because reading a row costs a pass through the whole base.

    C  inverse strength of the L2 penalty, for a probe that is fitted here
    """
    if base.files is not None and PROBE_HEAD in base.files:
        return LinearProbe(task, load_head(base.files, PROBE_HEAD))
    chosen = train if len(train) <= most else random.Random(seed).sample(list(train), most)  # noqa: S311
    targets = [base.specialist.encode(row, learn=True).target for row in chosen]
    return LinearProbe(
        task, fit_probe(base.features(chosen), targets, task, len(labels) if labels else 1, seed=seed, strength=C)
    )
