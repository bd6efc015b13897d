"""What encoders and vision models share: features pooled into one vector, and a linear head on it, if the task has answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from vertical_sdk.bases.base import Base
from vertical_sdk.card import Card
from vertical_sdk.families.batching import Encoded
from vertical_sdk.families.head import Head, load_head, save_head
from vertical_sdk.families.specialist import Batch
from vertical_sdk.recipe import Recipe
from vertical_sdk.registry.checked_files import CheckedFiles
from vertical_sdk.tasks import get_task
from vertical_sdk.types import LabelSpace, TaskName

__all__ = ["PooledSpecialist"]

S = TypeVar("S", bound="PooledSpecialist")


class PooledSpecialist(nn.Module, ABC):
    """Backbone → pooled, unit-length features (batch, width) → dropout → head → (batch, k).

    Without a head, for a task without labels, the outputs are the features.
    """

    head: Head | None
    tokenizer: Any = None
    max_length: int

    def __init__(self, backbone: Any, base: Base, recipe: Recipe, labels: LabelSpace | None, head: Head | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.task: TaskName = recipe.task
        self.labels = labels
        self.pooling = recipe.head.pooling
        self.dropout = nn.Dropout(recipe.head.dropout)

    @classmethod
    def load_trained(cls: type[S], backbone: Any, base: Base, recipe: Recipe, card: Card, files: CheckedFiles) -> S:
        """What `save` wrote, on a backbone that the adapter is on already."""
        head = None if get_task(recipe.task).unlabelled else load_head(files)
        return cls(backbone, base, recipe, card.labels, head)

    def save(self, folder: Path) -> None:
        """Write the head if there is one."""
        if self.head is not None:
            save_head(folder, self.head)

    def fit_to_rows(self, rows: Sequence[Encoded]) -> None:
        """Nothing: the head is started from a probe."""

    @property
    def scale(self) -> float:
        """The spread of a regression's training targets; 1 for other tasks."""
        return float(self.head.std) if self.head is not None else 1.0

    @abstractmethod
    def features(self, batch: Batch) -> Tensor:
        """(rows, width), of length 1."""

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Outputs (rows, k) and targets."""
        return self.read_features(self.dropout(self.features(batch))), batch.get("targets")

    def read_features(self, features: Tensor) -> Tensor:
        """Outputs (rows, k) of features (rows, width)."""
        outputs: Tensor = features if self.head is None else self.head(features)
        return outputs
