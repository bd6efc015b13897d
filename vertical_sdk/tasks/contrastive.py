"""Texts that belong together, without labels: an encoder learns to give them similar features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.card import Calibration
from vertical_sdk.errors import DataError
from vertical_sdk.outputs import Outputs
from vertical_sdk.tasks.task import UNCALIBRATED, Floats, Task
from vertical_sdk.types import Example, Family, LabelSpace, Modality, Target

__all__ = ["CONTRASTIVE", "Contrastive"]

BLOCK = 512
"""Rows whose similarities to all others are in memory at once."""


@dataclass(frozen=True, kw_only=True)
class Contrastive(Task):
    """The target of a row is a key, a whole number that it shares with the texts that belong to it.

    Raw outputs are features. A row is answered by the rank of its nearest counterpart among all other rows, 1 if it is the nearest of all;
    0 for a row without a counterpart.
    """

    cheap_baseline: str = "base"
    unlabelled: bool = True
    families: tuple[Family, ...] = ("encoder",)
    modalities: tuple[Modality, ...] = ("text",)

    def encode_target(self, target: Target, labels: LabelSpace | None) -> int:
        """The key."""
        return _read_key(target, f"a {self.name} task")

    def references(self, rows: Sequence[Example], labels: LabelSpace | None) -> NDArray[np.int64]:
        """Keys (rows,)."""
        return np.array([_read_key(row.target, f"row {row.id}") for row in rows], dtype=np.int64)

    def decode(self, raw: NDArray[Any], calibration: Calibration = UNCALIBRATED, rows: Sequence[Example] = ()) -> Outputs:
        """Ranks (rows,) by cosine similarity; raw (rows, width) features. A tie counts against the counterpart."""
        keys = [row.target if isinstance(row.target, int) else None for row in rows]
        return Outputs(values=_rank_counterparts(np.asarray(raw, dtype=np.float64), keys))

    def predictions(self, outputs: Outputs) -> Floats:
        """Ranks (rows,)."""
        if outputs.values is None:
            raise ValueError(f"these outputs are not those of {self.name}")
        return outputs.values

    def answers(self, outputs: Outputs) -> NDArray[np.int64]:
        """The positions of the rows: each has a counterpart of its own, so equal ranks are not equal answers."""
        return np.arange(len(self.predictions(outputs)))

    def format(self, values: Any, labels: LabelSpace | None) -> list[str]:
        """The rank. That of a reference, which is a key, is 1."""
        return [f"{value:.0f}" if isinstance(value, float) else "1" for value in values]


def _read_key(target: Target, what: str) -> int:
    if not isinstance(target, int):
        raise DataError(f"{what} has no key that says which texts belong together. Add halves to data.clean.")
    return target


def _rank_counterparts(features: Floats, keys: Sequence[int | None]) -> Floats:
    """The rank of each row's nearest counterpart among all other rows, (rows,); 0 without a counterpart.

    features  (rows, width)
    """
    known: dict[int, int] = {}
    names = np.array(
        [-1 - n if key is None else known.setdefault(key, len(known)) for n, key in enumerate(keys)], dtype=np.int64
    )
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    ranks = np.zeros(len(features))
    for begin in range(0, len(features), BLOCK):
        rows = np.arange(begin, min(begin + BLOCK, len(features)))
        similarity = unit[rows] @ unit.T
        similarity[np.arange(len(rows)), rows] = -np.inf
        counterpart = names[rows][:, None] == names[None, :]
        counterpart[np.arange(len(rows)), rows] = False
        best = np.where(counterpart, similarity, -np.inf).max(axis=1)
        nearer = ((similarity >= best[:, None]) & ~counterpart).sum(axis=1)
        ranks[rows] = np.where(counterpart.any(axis=1), 1 + nearer, 0)
    return ranks


CONTRASTIVE = Contrastive(name="contrastive", default_loss="info_nce", default_metrics=("recall_at_1", "mean_reciprocal_rank"))
