"""The base model without an adapter, as baselines read rows with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import torch
from torch import Tensor

from vertical_sdk.data.prepare import Prepared
from vertical_sdk.data.texts import comparable_values
from vertical_sdk.families.batching import Encoded
from vertical_sdk.families.specialist import Specialist, run_rows, switched_off
from vertical_sdk.kernels.precision import frozen_weights_in_bfloat16
from vertical_sdk.registry.checked_files import CheckedFiles
from vertical_sdk.types import Example, Progress, silent

__all__ = ["Features", "FrozenBase", "InMemory", "content_of"]

Features: TypeAlias = Mapping[tuple[object, ...], Tensor]
"""What a row contains → its features (width,)."""


@dataclass(frozen=True, eq=False)
class InMemory:
    """What a training leaves in memory for an evaluation in the same process.

    recipe_digest  of the adapter's card: it belongs to this recipe alone
    prepared       the rows
    features       of the base without an adapter, in float32; those of the rows that were read
    """

    recipe_digest: str
    prepared: Prepared
    features: Features


class FrozenBase:
    """A specialist's base with the adapter switched off. The features of each row are computed once.

    files  of the adapter, which may contain the linear probe of the base; None if there is no adapter yet
    bf16   read under autocast to bfloat16, with the frozen weights in it
    known  features that were computed before, as another FrozenBase's `known`
    """

    def __init__(
        self,
        specialist: Specialist,
        files: CheckedFiles | None = None,
        progress: Progress = silent,
        *,
        bf16: bool = False,
        known: Features = MappingProxyType({}),
    ) -> None:
        self.specialist = specialist
        self.files = files
        self.progress = progress
        self.bf16 = bf16
        self.known: dict[tuple[object, ...], Tensor] = dict(known)

    def features(self, rows: Sequence[Example], encoded: Sequence[Encoded] | None = None) -> Tensor:
        """Compute the backbone's features of each row: (rows, width).

        encoded  the same rows, if they are encoded already
        """
        contents = list(map(content_of, rows))
        missing = {content: place for place, content in enumerate(contents) if content not in self.known}
        if missing:
            places = list(missing.values())
            read = [encoded[n] if encoded else self.specialist.encode(rows[n], learn=False) for n in places]
            with switched_off(self.specialist), frozen_weights_in_bfloat16(self.specialist.backbone, enabled=self.bf16):
                features = run_rows(
                    self.specialist,
                    read,
                    self.specialist.features,
                    bf16=self.bf16,
                    progress=lambda share: self.progress("reading with the base", share),
                )
            self.known.update(zip(missing, features, strict=True))
        return torch.stack([self.known[content] for content in contents])


def content_of(row: Example) -> tuple[object, ...]:
    """Return the parts of a row that a specialist reads, as a key."""
    return row.text, row.messages, row.record, comparable_values(row)
