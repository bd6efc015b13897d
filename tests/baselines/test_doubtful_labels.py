"""Labels that may be wrong."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from conftest import topic_rows, write_csv
from typer.testing import CliRunner

from vertical_sdk.baselines.doubtful_labels import choose_doubtful, find_doubtful_labels
from vertical_sdk.cli.app import app
from vertical_sdk.types import Example


def test_a_label_is_doubtful_if_another_one_reaches_its_own_mean() -> None:
    probabilities = np.array(
        [
            [0.9, 0.1],  # labelled 0
            [0.5, 0.5],  # labelled 0: 1 is below its mean of .6
            [0.3, 0.7],  # labelled 0: 1 reaches .6, and 0 does not reach (.9 + .5 + .3) / 3
            [0.2, 0.8],  # labelled 1
            [0.6, 0.4],  # labelled 1: 0 reaches .567
        ]
    )

    assert choose_doubtful(probabilities, np.array([0, 0, 0, 1, 1])) == [(2, 1), (4, 0)]


def _rows(wrong: int) -> tuple[list[Example], dict[str, str]]:
    """600 rows of three topics, of which some have the label of another topic: id → the right label."""
    rng = random.Random(3)
    names = sorted({label for _, label in topic_rows(30)})
    rows, changed = [], {}
    for number, (text, label) in enumerate(topic_rows(600)):
        given = label
        if number < wrong:
            given = rng.choice([name for name in names if name != label])
            changed[str(number)] = label
        rows.append(Example(id=str(number), text=text, target=given))
    return rows, changed


def test_labels_that_were_changed_are_found_with_the_right_one() -> None:
    rows, changed = _rows(wrong=30)

    doubts, predicted = find_doubtful_labels(rows)

    right = [doubt for doubt in doubts if changed.get(doubt.id) == doubt.likelier]
    assert len(right) >= 20  # of 30
    assert len(right) / len(doubts) >= 2 / 3
    assert doubts[0].other - doubts[0].given == max(doubt.other - doubt.given for doubt in doubts)
    assert 0.8 < predicted < 0.95  # 5% are wrong


def test_rows_of_rare_labels_and_a_single_label_are_not_looked_at() -> None:
    rows, _ = _rows(wrong=0)
    rare = [Example(id=f"rare {n}", text="nothing like it", target="rare") for n in range(4)]

    assert not {doubt.id for doubt in find_doubtful_labels([*rows, *rare])[0]} & {row.id for row in rare}
    assert find_doubtful_labels([row for row in rows if row.target == rows[0].target]) == ([], 1.0)


@pytest.mark.parametrize("deep", [True, False])
def test_the_command_names_the_doubtful_rows_only_if_asked(deep: bool, tmp_path: Path) -> None:
    rows, _ = _rows(wrong=12)
    file = write_csv(tmp_path / "rows.csv", [(row.text, str(row.target)) for row in rows])

    run = CliRunner().invoke(app, ["data", "check", str(file), *(["--deep"] if deep else [])])

    assert run.exit_code == 0
    assert ("may be wrong: row " in run.output.replace("\n", " ")) == deep
