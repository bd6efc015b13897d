"""Compare a recipe with and without the start from a language adapter, on few training rows, by its metric on validation rows.

    python benchmarks/language.py RECIPE RUN [--data FOLDER] [--rows N] [--epochs E] [--max-length N] [--seeds S...]

RUN is the run of a language recipe, such as medical/language for medical/abstracts, with the same source and the seed 0. Each seed draws
its own training rows and first weights; both trainings of a seed have the same ones. The members of the recipe and its copies of rows are
left out, so that the adapter alone is compared. Test rows are not read.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import mean

from local import FILES

from vertical_sdk.bases.base import pull_base
from vertical_sdk.data import prepare
from vertical_sdk.metrics.measure import higher_is_better
from vertical_sdk.recipe import load_recipe
from vertical_sdk.tasks import main_metric
from vertical_sdk.tuning.trainings import Trainings, Watch
from vertical_sdk.types import silent


def main() -> None:
    """Print one line of JSON for each seed, and the mean difference."""
    given = argparse.ArgumentParser(description="Compare a recipe with and without the start from a language adapter.")
    given.add_argument("recipe")
    given.add_argument("run", type=Path, help="the run of the language recipe")
    given.add_argument("--data", type=Path, help="a folder with the files of benchmarks/local.py")
    given.add_argument("--rows", type=int, default=100, help="training rows")
    given.add_argument("--epochs", type=float, default=4.0)
    given.add_argument("--max-length", type=int, default=64)
    given.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    options = given.parse_args()
    places = FILES.get(options.recipe, {}) if options.data else {}
    settings = {key: value and str(options.data.resolve() / value) for key, value in places.items()}
    changed = {
        "ensemble": [],
        "data.copies": 0,
        "data.max_length": options.max_length,
        "data.limits.truncated": 1.0,
        "train.num_train_epochs": options.epochs,
    }
    recipe = load_recipe(options.recipe, {**settings, **changed})
    prepared, base, metric = prepare(recipe), pull_base(recipe.base), main_metric(recipe).use
    differences = []
    for seed in options.seeds:
        rows = list(prepared.train)
        random.Random(seed).shuffle(rows)
        rows = rows[: options.rows]
        scores = {}
        for name, start in (("fresh", None), ("start", str(options.run.resolve()))):
            with tempfile.TemporaryDirectory() as folder:
                trainings = Trainings(
                    recipe.replace({"start": start}),
                    replace(prepared, train=tuple(rows)),
                    base,
                    Path(folder),
                    higher=higher_is_better(metric),
                )
                scores[name] = trainings.score({}, seed, Watch(time.monotonic() + 86_400, silent))
        if scores["fresh"] is not None and scores["start"] is not None:
            differences.append(scores["start"] - scores["fresh"])
        print(json.dumps({"recipe": recipe.name, "seed": seed, "rows": len(rows), "metric": metric, **scores}), flush=True)
    if differences:
        print(f"{metric}, start minus fresh: {mean(differences):+.4f} on average of {len(differences)} seeds", flush=True)


if __name__ == "__main__":
    main()
