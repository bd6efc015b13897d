"""The recipe's metric on the validation rows, of an adapter that was just trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.families.batching import Encoded
from vertical_sdk.families.specialist import Specialist, run_rows
from vertical_sdk.tasks import score_outputs, score_predictions
from vertical_sdk.training.job import Job
from vertical_sdk.training.stages import calibrate
from vertical_sdk.training.write import write_adapter

__all__ = ["score_specialist", "score_written"]


def score_specialist(job: Job, specialist: Specialist, validation: Sequence[Encoded]) -> float | None:
    """Measure the adapter alone on the validation rows; None if the metric is undefined there.

    What is fitted on validation rows (temperature, label offsets, intervals, alarms) is fitted on one half of them for the other half,
    so that no row is scored by what was fitted on it.

    validation  the encoded validation rows, in the job's order
    """
    raw = run_rows(specialist, validation, lambda batch: specialist(batch)[0]).numpy()
    if not np.isfinite(raw).all():
        return None
    task, prepared, recipe = job.task, job.prepared, job.recipe
    rows, half = prepared.validation, np.arange(len(raw)) % 2 == 0
    whole: dict[str, NDArray[Any]] = {}
    for scored, fitted in ((half, ~half), (~half, half)):
        calibration = task.calibrate(raw[fitted], _select(rows, fitted), prepared.labels, recipe, prepared.layout)
        outputs = task.decode(raw[scored], calibration, _select(rows, scored))
        parts = {
            "predictions": task.predictions(outputs),
            "probabilities": outputs.probabilities,
            "quantiles": outputs.quantiles,
        }
        for name, part in parts.items():
            if part is not None:
                whole.setdefault(name, np.zeros((len(raw), *part.shape[1:]), part.dtype))[scored] = part
    numbers = whole.get("probabilities"), whole.get("quantiles")
    return score_predictions(recipe, whole["predictions"], rows, prepared.labels, *numbers)


def _select(rows: Sequence[Any], chosen: NDArray[np.bool_]) -> list[Any]:
    return [row for row, is_chosen in zip(rows, chosen.tolist(), strict=True) if is_chosen]


def score_written(job: Job, specialist: Specialist) -> float | None:
    """Measure the answers that the adapter writes to the validation rows. It is stored in the job's folder and loaded again for that."""
    from vertical_sdk.inference import VerticalModel

    write_adapter(job, specialist, calibrate(job, None), None, {})
    model = VerticalModel.from_pretrained(job.folder)
    outputs = model.answer(job.prepared.validation, progress=job.progress).outputs
    return score_outputs(job.recipe, outputs, job.prepared.validation, job.prepared.labels)
