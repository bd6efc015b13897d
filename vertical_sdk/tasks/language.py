"""The next token of each text, without labels: a causal base learns the language of a vertical."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.card import Calibration
from vertical_sdk.outputs import Outputs
from vertical_sdk.tasks.task import UNCALIBRATED, Floats, Task
from vertical_sdk.types import Example, Family, LabelSpace, Modality

__all__ = ["LANGUAGE", "Language"]


@dataclass(frozen=True, kw_only=True)
class Language(Task):
    """A row is a text, which is read as it is, without a chat template. Its answer is how many bits a character it needs."""

    cheap_baseline: str = "base"
    unlabelled: bool = True
    families: tuple[Family, ...] = ("causal",)
    modalities: tuple[Modality, ...] = ("text",)

    def references(self, rows: Sequence[Example], labels: LabelSpace | None) -> Floats:
        """Characters of each text (rows,), by which texts are weighted."""
        return np.array([len(row.text) for row in rows], dtype=np.float64)

    def decode(self, raw: NDArray[Any], calibration: Calibration = UNCALIBRATED, rows: Sequence[Example] = ()) -> Outputs:
        """Bits a character (rows,); raw (rows, 1)."""
        return Outputs(values=np.asarray(raw[:, 0], dtype=np.float64))

    def predictions(self, outputs: Outputs) -> Floats:
        """Bits a character (rows,)."""
        if outputs.values is None:
            raise ValueError(f"these outputs are not those of {self.name}")
        return outputs.values


LANGUAGE = Language(name="language", default_loss="cross_entropy", default_metrics=("bits_per_character",))
