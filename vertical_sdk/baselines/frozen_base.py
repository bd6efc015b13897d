"""The base model without an adapter, as baselines read rows with it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vertical_sdk.data.texts import comparable_values
from vertical_sdk.families.specialist import Specialist, run_rows, switched_off
from vertical_sdk.registry.checked_files import CheckedFiles
from vertical_sdk.types import Example, Progress, silent

__all__ = ["FrozenBase"]


class FrozenBase:
    """A specialist's base with the adapter switched off. The features of each row are computed once.

    files  of the adapter, which may contain the linear probe of the base; None if there is no adapter yet
    """

    def __init__(self, specialist: Specialist, files: CheckedFiles | None = None, progress: Progress = silent) -> None:
        self.specialist = specialist
        self.files = files
        self.progress = progress
        self._features: dict[tuple[object, ...], Tensor] = {}

    def features(self, rows: Sequence[Example]) -> Tensor:
        """Compute the backbone's features of each row: (rows, width)."""
        missing = list({_content(row): row for row in rows if _content(row) not in self._features}.values())
        if missing:
            encoded = [self.specialist.encode(row, learn=False) for row in missing]
            with switched_off(self.specialist):
                features = run_rows(
                    self.specialist,
                    encoded,
                    self.specialist.features,
                    progress=lambda share: self.progress("reading with the base", share),
                )
            self._features.update(zip(map(_content, missing), features, strict=True))
        return torch.stack([self._features[_content(row)] for row in rows])


def _content(row: Example) -> tuple[object, ...]:
    """Return the parts of a row that a specialist reads, as a key."""
    return row.text, row.messages, comparable_values(row)
