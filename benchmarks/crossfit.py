"""Measure cross-fitting against one split: how wide the verdict's interval is, and how good what ships is on rows held out of everything.

    python benchmarks/crossfit.py finance/news-sentiment DATA/finance/news_sentiment.csv --rows 400 --fresh 2000 --seeds 0 1 2

For each seed, `--rows` rows are drawn with the seed. One specialist is trained with the recipe's split, one with
`evaluate.use: crossfit`. Both are judged as `vertical evaluate` does, and then answer the same `--fresh` other rows.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from vertical_sdk import evaluate, train
from vertical_sdk.types import silent

FORMS: dict[str, dict[str, Any]] = {"split": {}, "crossfit": {"evaluate.use": "crossfit"}}


def main() -> None:
    """Print one JSON line for each seed and form."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--fresh", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder:
            measure_seed(arguments, seed, Path(folder))


def measure_seed(arguments: argparse.Namespace, seed: int, folder: Path) -> None:
    """Train both forms on the rows of a seed, and judge them on their own rows and on fresh ones."""
    with arguments.data.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    random.Random(seed).shuffle(rows)
    parts = {"own.csv": rows[: arguments.rows], "fresh.csv": rows[arguments.rows : arguments.rows + arguments.fresh]}
    for name, part in parts.items():
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *part])
    for form, settings in FORMS.items():
        own = {"data.source": str(folder / "own.csv"), "data.file": None, "train.seed": seed, "evaluate.forgetting": None}
        started = time.monotonic()
        run = train(arguments.recipe, settings=own | settings, out=folder / form, progress=silent)
        trained = time.monotonic()
        judged = evaluate(run.path, memory=run.memory, progress=silent)
        fresh = evaluate(run.path, data=folder / "fresh.csv", progress=silent)
        metric = judged.tests[0].metric
        line: dict[str, Any] = {
            "seed": seed,
            "form": form,
            "seconds": round(trained - started),
            "rows": judged.rows,
            "metric": metric,
        }
        for name, result in (("verdict", judged), ("fresh", fresh)):
            for system in ("adapter", "alone", "members"):
                if system in result.systems:
                    value = result.systems[system].metrics[metric]
                    line[f"{name}.{system}"] = [round(number, 4) for number in (value.value, value.low, value.high)]
        line["gate"], line["fresh rows"] = judged.gate.result if judged.gate else None, fresh.rows
        line["agreement"] = (run.card.training.get("crossfit") or {}).get("agreement")
        line["advantage"] = [
            (
                test.baseline,
                *(round(number, 4) for number in (test.difference.value, test.difference.low, test.difference.high)),
            )
            for test in judged.tests
            if test.metric == metric
        ]
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
