"""Measure how often a specialist keeps the promise of `evaluate.abstention`, and how many rows it then answers.

    python benchmarks/abstention.py runs/finance-news-sentiment-... --alpha 0.05 0.1 --splits 20

The run is not trained again: its adapter and members answer its test rows once. For each split, whole groups of these rows are dealt
to two halves at random. On one half, temperature, label offsets and the threshold are fitted, as training fits them on validation rows;
on the other half the answers are counted. `kept` is the share of splits in which no more than alpha of the answers are wrong there;
`broken` that of splits whose interval of the share of errors is above alpha. About 10% of splits may miss `kept` by the chance of the
second half alone; `broken` should be below delta.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vertical_sdk import VerticalModel
from vertical_sdk.calibration.abstention import compute_share, select_independent
from vertical_sdk.data.prepare import prepare
from vertical_sdk.recipe import Recipe
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, LabelSpace, silent


def main() -> None:
    """Print one JSON line for each alpha."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--alpha", type=float, nargs="+", default=[0.05, 0.1])
    parser.add_argument("--delta", type=float, default=0.05)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = VerticalModel.from_pretrained(arguments.run, progress=silent)
    recipe = model.adapter.recipe
    rows = prepare(recipe, progress=silent).test
    raw = model.answer(rows, progress=silent).raw
    for alpha in arguments.alpha:
        promising = recipe.replace({"evaluate.abstention": {"alpha": alpha, "delta": arguments.delta}})
        results = [try_split(promising, raw, rows, model.card.labels, seed) for seed in range(arguments.splits)]
        print(json.dumps({"recipe": recipe.name, "rows": len(rows), "alpha": alpha, **summarize(results, alpha)}))


def try_split(
    recipe: Recipe, raw: NDArray[Any], rows: Sequence[Example], labels: LabelSpace | None, seed: int
) -> tuple[int, int, int]:
    """Fit on one half of the rows; count the rows of the other half, the answers among them, and the wrong answers."""
    task = get_task(recipe.task)
    units = {key: number for number, key in enumerate(dict.fromkeys(row.group or row.id for row in rows))}
    half = np.random.default_rng(seed).permutation(len(units)) % 2 == 0
    fitted_on = np.array([half[units[row.group or row.id]] for row in rows])
    parts = {side: [row for row, own in zip(rows, fitted_on, strict=True) if own == side] for side in (True, False)}
    calibration = task.calibrate(raw[fitted_on], parts[True], labels, recipe)
    outputs = task.decode(raw[~fitted_on], calibration)
    at = select_independent([row.group for row in parts[False]])
    wrong = np.asarray(task.predictions(outputs) != task.references(parts[False], labels))[at]
    assert outputs.answered is not None
    answered = outputs.answered[at]
    return len(at), int(answered.sum()), int((answered & wrong).sum())


def summarize(results: Sequence[tuple[int, int, int]], alpha: float) -> dict[str, float]:
    """Shares of the splits, and means over them."""
    kept = [wrong <= alpha * answered for _, answered, wrong in results]
    broken = [compute_share(wrong, answered).low > alpha for _, answered, wrong in results]
    promised = [(answered, wrong) for _, answered, wrong in results if answered]
    return {
        "splits": len(results),
        "promised": len(promised) / len(results),
        "kept": float(np.mean(kept)),
        "broken": float(np.mean(broken)),
        "coverage": float(np.mean([answered / judged for judged, answered, _ in results])),
        "errors": float(np.mean([wrong / answered for answered, wrong in promised])) if promised else float("nan"),
    }


if __name__ == "__main__":
    main()
