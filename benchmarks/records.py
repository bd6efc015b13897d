"""Compare ways to read records on the *validation* rows: as fields, as text, by boosted trees and by logistic regression.

    python benchmarks/records.py [--data FOLDER] [--rows N] [--seeds 0 1 2] [--systems records network trees ...] [RECIPE]...

`records` is the adapter of the recipe alone, without its members; `network` the linear probe before its training, which is the small
network of the fields beside the frozen base; `text` the same recipe with its records written as text. Test rows are not read. The
metric is the area under the ROC curve. With --rows, at most so many training rows are used. `benchmarks/ablation.py` compares the
adapter with the same network without LoRA, with random weights, and from scratch.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from local import FILES
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from vertical_sdk.bases.base import pull_base
from vertical_sdk.catalog import baselines
from vertical_sdk.data.prepare import Prepared, prepare
from vertical_sdk.families.field_coding import FieldCoding
from vertical_sdk.recipe import Recipe, load_recipe
from vertical_sdk.training.stages import build_specialist, encode_job_rows, read_with_base, start_specialist
from vertical_sdk.tuning.score import score_specialist
from vertical_sdk.tuning.trainings import Trainings, Watch
from vertical_sdk.types import silent

RECIPES = ("finance/credit-risk", "finance/bankruptcy", "traffic/incident-severity")
TEXT: dict[str, dict[str, Any]] = {
    "finance/credit-risk": {"data.max_length": 256, "train.max_steps": 80, "train.learning_rate": 1e-3},
    "finance/bankruptcy": {"data.max_length": 320, "train.max_steps": 120, "train.learning_rate": 1e-3},
    "traffic/incident-severity": {"data.max_length": 96, "train.max_steps": 300, "train.learning_rate": 1e-3},
}
"""What the same recipe needs to read its records as text."""


def train_adapter(recipe: Recipe, prepared: Prepared, seed: int, *, frozen: bool = False) -> float:
    """Train the adapter of a recipe and measure it alone.

    frozen  no step: the linear probe
    """
    base = pull_base(recipe.base)
    recipe = recipe.replace({"evaluate.metrics": ["auc"], "ensemble": []})
    with tempfile.TemporaryDirectory() as folder:
        trainings = (Untrained if frozen else Trainings)(recipe, prepared, base, Path(folder), higher=True)
        value = trainings.score({}, seed, Watch(math.inf, silent))
    assert value is not None
    return value


class Untrained(Trainings):
    """Measures the specialist before its training."""

    def _train(self, job: Any, watch: Watch) -> float | None:  # noqa: ARG002
        transformers.set_seed(job.seed)
        specialist = build_specialist(job)
        rows = encode_job_rows(job, specialist)
        start_specialist(job, read_with_base(job, specialist), rows)
        return score_specialist(job, specialist, rows.validation)


def fit_trees(recipe: Recipe, prepared: Prepared, seed: int) -> float:
    """Fit boosted trees as the recipe's member does."""
    fitted = baselines.get("boosted_trees")(prepared.originals, prepared.labels, recipe.task, seed, None)
    return measure(prepared, fitted.predict(prepared.validation, None).probabilities[:, 1])


def fit_logistic(recipe: Recipe, prepared: Prepared, seed: int) -> float:  # noqa: ARG001
    """Fit logistic regression on standardized numbers and words as indicators; the penalty is the best of three."""
    rows = [*prepared.originals, *prepared.validation]
    coding = FieldCoding.fit([row.record for row in prepared.originals], 2)
    table = coding.read([row.record for row in rows])
    parts = []
    for column, words in enumerate(coding.fields.values()):
        values, missing = table[:, column], np.isnan(table[:, column])
        if words is not None:
            parts.append(coding.encode(table)[:, column])
        else:
            known = values[: len(prepared.originals)][~missing[: len(prepared.originals)]]
            z = np.where(missing, 0.0, (values - known.mean()) / (known.std() or 1.0)) if len(known) else np.zeros(len(rows))
            parts.append(np.stack([z.clip(-10, 10), missing], axis=1))
    x, y = np.concatenate(parts, axis=1), read_truth(prepared, prepared.originals)
    first = len(prepared.originals)
    fits = [LogisticRegression(C=strength, max_iter=1000, random_state=seed).fit(x[:first], y) for strength in (0.01, 0.1, 1.0)]
    return max(measure(prepared, fit.predict_proba(x[first:])[:, 1]) for fit in fits)


def read_truth(prepared: Prepared, rows: Any) -> Any:
    """The numbers of the rows' labels."""
    assert prepared.labels is not None
    return np.array([prepared.labels.index(row.target) for row in rows])


def measure(prepared: Prepared, probabilities: Any) -> float:
    """The area under the ROC curve on the validation rows."""
    return float(roc_auc_score(read_truth(prepared, prepared.validation), probabilities))


def main() -> None:
    """Print one line of JSON for each recipe and system."""
    given = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    given.add_argument("recipes", nargs="*", default=RECIPES)
    given.add_argument("--data", type=Path)
    given.add_argument("--rows", type=int)
    given.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    given.add_argument("--systems", nargs="*", default=["logistic", "trees", "network", "records", "text"])
    given.add_argument("--set", nargs="*", default=[], help="KEY=VALUE of the recipe, for `network` and `records`")
    options = given.parse_args()
    systems: dict[str, Callable[[Recipe, Prepared, int], float]] = {
        "logistic": fit_logistic,
        "trees": fit_trees,
        "network": lambda recipe, prepared, seed: train_adapter(recipe, prepared, seed, frozen=True),
        "records": train_adapter,
        "text": lambda recipe, prepared, seed: train_adapter(
            recipe.replace({"data.modality": "text"} | TEXT[recipe.name]), prepared, seed
        ),
    }
    torch.set_num_threads(1)
    for name in options.recipes:
        places = {key: value and str(options.data / value) for key, value in FILES[name].items()} if options.data else {}
        changes = {key: json.loads(value) for key, _, value in (change.partition("=") for change in options.set)}
        recipe = load_recipe(name, places | changes)
        prepared = prepare(recipe)
        if options.rows and len(prepared.originals) > options.rows:
            prepared = replace(prepared, train=tuple(random.Random(0).sample(prepared.originals, options.rows)))
        for system in options.systems:
            started = time.process_time()
            values = [round(systems[system](recipe, prepared, seed), 4) for seed in options.seeds]
            found = {"recipe": name, "system": system, "auc": values, "mean": round(float(np.mean(values)), 4)}
            rows = {"train": len(prepared.originals), "validation": len(prepared.validation)}
            print(json.dumps(found | rows | {"cpu seconds": round(time.process_time() - started)}), flush=True)


if __name__ == "__main__":
    main()
