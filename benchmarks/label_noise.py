"""How many wrong labels `vertical data check --deep` finds: some labels of a file are changed, and the doubtful ones counted.

    python benchmarks/label_noise.py FILE --text COLUMN --label COLUMN [--share S] [--rows N] [--seed N]

A changed label is found if its row is doubtful. Rows that were not changed and are doubtful may have a wrong label in the file itself,
so the share of doubts that are right is a lower bound.
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import replace
from pathlib import Path

from vertical_sdk.baselines.doubtful_labels import find_doubtful_labels
from vertical_sdk.data.read import read_table


def main() -> None:
    """Change labels, and print how many are found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--text", required=True)
    parser.add_argument("--label", required=True)
    parser.add_argument("--share", type=float, default=0.05, help="of the labels that are changed to another at random")
    parser.add_argument("--rows", type=int, default=3000, help="at most so many, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    rng = random.Random(chosen.seed)
    read = read_table(chosen.file, {"text": chosen.text, "label": chosen.label}, "classification")
    rows = rng.sample(list(read.examples), min(chosen.rows, len(read.examples)))
    labels = sorted({str(row.target) for row in rows})
    changed = {row.id for row in rng.sample(rows, round(chosen.share * len(rows)))}
    noisy = [
        replace(row, target=rng.choice([label for label in labels if label != row.target])) if row.id in changed else row
        for row in rows
    ]
    before, _ = find_doubtful_labels(rows, chosen.seed)
    doubts, predicted = find_doubtful_labels(noisy, chosen.seed)
    right = {doubt.id for doubt in doubts} & changed
    first = {doubt.id for doubt in doubts[: len(changed)]} & changed
    found = {
        "file": chosen.file.name,
        "rows": len(rows),
        "labels": len(labels),
        "changed": len(changed),
        "found": round(len(right) / len(changed), 3),
        "doubtful": len(doubts),
        "doubts that were changed": round(len(right) / max(1, len(doubts)), 3),
        "of as many first doubts as changed": round(len(first) / len(changed), 3),
        "doubtful before the change": len(before),
        "labels predicted": round(predicted, 3),
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
