"""What one training works on, fixed before its first step."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from vertical_sdk.bases.base import Base
from vertical_sdk.data.prepare import Prepared
from vertical_sdk.recipe import Recipe
from vertical_sdk.tasks import get_task
from vertical_sdk.tasks.task import Task
from vertical_sdk.training.compute import Compute
from vertical_sdk.training.warm_start import Start
from vertical_sdk.training_arguments import Arguments
from vertical_sdk.types import Progress, silent

__all__ = ["Job", "is_main_process"]


@dataclass(frozen=True, eq=False)
class Job:
    """One training: the recipe, where it writes, and everything the stages read.

    recipe     the checked recipe
    folder     the run's folder
    arguments  of the trainer
    compute    precision, library and threads
    prepared   the rows of each split, labels, layout and account
    base       the base model that the adapter is trained on
    start      the adapter to continue from; None: a fresh adapter
    resume     continue from the last complete checkpoint, if there is one
    progress   receives the name of each stage and the share that is done
    """

    recipe: Recipe
    folder: Path
    arguments: Arguments
    compute: Compute
    prepared: Prepared
    base: Base
    start: Start | None = None
    resume: bool = False
    progress: Progress = silent

    @property
    def task(self) -> Task:
        """The task of the recipe."""
        return get_task(self.recipe.task)

    @property
    def seed(self) -> int:
        """The seed of everything random in this training."""
        return self.arguments.seed


def is_main_process() -> bool:
    """Whether this process writes the run's files; of several training processes, only the first does."""
    return int(os.environ.get("RANK", "0")) == 0
