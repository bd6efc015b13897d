"""Train a recipe many times with other settings: rows are prepared once, encoded once, and read by the frozen base once."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers

from vertical_sdk.baselines.frozen_base import Features, FrozenBase
from vertical_sdk.bases.base import Base
from vertical_sdk.data.prepare import Prepared
from vertical_sdk.families.specialist import Specialist, reads_by_base_alone
from vertical_sdk.kernels.threads import use_threads
from vertical_sdk.ranges import Scalar
from vertical_sdk.recipe import Recipe
from vertical_sdk.training.compute import Compute, choose_compute
from vertical_sdk.training.job import Job
from vertical_sdk.training.pipeline import isolate_caller
from vertical_sdk.training.stages import (
    JobRows,
    build_specialist,
    encode_job_rows,
    read_with_base,
    start_specialist,
    train_weights,
)
from vertical_sdk.training.warm_start import find_start, require_unseen_rows
from vertical_sdk.training_arguments import training_arguments
from vertical_sdk.tuning.score import score_specialist, score_written
from vertical_sdk.types import Progress

__all__ = ["OutOfTime", "Pruned", "Trainings", "Watch"]


class OutOfTime(Exception):
    """The time of a search is over."""


class Pruned(Exception):
    """A training is so much worse than others that it is not finished."""


class Watch:
    """What may stop a training: the clock, and the values of its evaluations.

    deadline  by `time.monotonic`
    report    receives the number of an evaluation from 1 and the value there, and says whether to stop; None: nothing is measured
    """

    def __init__(self, deadline: float, progress: Progress, report: Callable[[int, float], bool] | None = None) -> None:
        self.deadline, self.forward, self.report = deadline, progress, report

    def progress(self, what: str, share: float | None = None) -> None:
        """Pass the progress on. Raises OutOfTime after the deadline."""
        if time.monotonic() > self.deadline:
            raise OutOfTime
        self.forward(what, share)


class _Evaluations(transformers.TrainerCallback):
    """Measures the metric at each evaluation of the trainer, for `Watch.report`."""

    def __init__(self, watch: Watch, measure: Callable[[float], float | None]) -> None:
        self.watch, self.measure, self.number, self.pruned = watch, measure, 0, False

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        """Report the value, and stop the training if it is to stop."""
        self.number += 1
        value = self.measure(float((metrics or {}).get("eval_loss", float("nan"))))
        if value is not None and self.watch.report is not None and self.watch.report(self.number, value):
            self.pruned = control.should_training_stop = True


class Trainings:
    """Trains a recipe with changed settings, and scores it on the validation rows.

    prepared  of which the test rows are left out: nothing here can read them
    """

    def __init__(self, recipe: Recipe, prepared: Prepared, base: Base, folder: Path, *, higher: bool) -> None:
        self.recipe, self.prepared, self.base, self.folder, self.higher = (
            recipe,
            replace(prepared, test=()),
            base,
            folder,
            higher,
        )
        self.start = find_start(recipe)
        require_unseen_rows(self.start, recipe, prepared)
        self._rows: dict[str, JobRows] = {}
        self._features: dict[tuple[Any, ...], Features] = {}
        self._compute: dict[tuple[Any, ...], Compute] = {}

    def score(self, settings: Mapping[str, Scalar], seed: int, watch: Watch) -> float | None:
        """Train once, and measure the recipe's metric on the validation rows; None if it is undefined there.

        Raises OutOfTime after the watch's deadline; Pruned if the watch stops the training; what training raises.
        """
        recipe = self.recipe.replace({**settings, "train.seed": seed})
        folder = Path(tempfile.mkdtemp(prefix="trial-", dir=self.folder))
        try:
            job = self._create_job(recipe, folder, watch)
            with use_threads(job.compute.threads), isolate_caller():
                return self._train(job, watch)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _create_job(self, recipe: Recipe, folder: Path, watch: Watch) -> Job:
        train = {**recipe.train, "report_to": []}
        if not (train.get("load_best_model_at_end") or train.get("early_stopping_patience")):
            train["save_strategy"] = "no"
        arguments = training_arguments(train, folder, recipe.name)
        precision = tuple(recipe.train.get(key) for key in ("bf16", "fp16"))
        if precision not in self._compute:
            self._compute[precision] = choose_compute(arguments, set(recipe.train), self.base)
        compute = self._compute[precision]
        return Job(
            recipe,
            folder,
            replace(arguments, bf16=compute.bf16),
            compute,
            self.prepared,
            self.base,
            self.start,
            progress=watch.progress,
        )

    def _train(self, job: Job, watch: Watch) -> float | None:
        transformers.set_seed(job.seed)
        specialist = build_specialist(job)
        rows = self._encode(job, specialist)
        self._start(job, read_with_base(job, specialist), rows)
        written = job.task.written

        def measure(loss: float) -> float | None:
            """The value of an evaluation; of written answers, which take long, the loss with the sign of the metric."""
            if not written:
                return score_specialist(job, specialist, rows.validation)
            return -loss if self.higher else loss

        evaluations = _Evaluations(watch, measure)
        train_weights(job, specialist, rows, [evaluations] if watch.report is not None else [])
        if evaluations.pruned:
            raise Pruned
        return score_written(job, specialist) if written else score_specialist(job, specialist, rows.validation)

    def _encode(self, job: Job, specialist: Specialist) -> JobRows:
        """Encode the rows, once for each loss: some losses mark tokens in the rows."""
        key = json.dumps(job.recipe.loss and job.recipe.loss.model_dump(), sort_keys=True)
        if key not in self._rows:
            self._rows[key] = encode_job_rows(job, specialist)
        return self._rows[key]

    def _start(self, job: Job, base: FrozenBase, rows: JobRows) -> None:
        """Set the first weights. What the frozen base reads of a row is kept for the next trainings that read it so.

        The base reads numbers through layers with random first weights, so for series and records nothing is kept.
        """
        key = (job.recipe.head.pooling, job.recipe.quantize, base.bf16)
        if reads_by_base_alone(base.specialist):
            base.known.update(self._features.get(key, {}))
        start_specialist(job, base, rows)
        if reads_by_base_alone(base.specialist):
            self._features[key] = dict(base.known)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
