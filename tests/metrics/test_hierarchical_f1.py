from __future__ import annotations

import numpy as np
import pytest

from vertical_sdk.metrics import NO_ANSWER, bind
from vertical_sdk.types import LabelSpace

SPACE = LabelSpace(("cat", "dog", "oak", "animal"), parents={"cat": "animal", "dog": "animal"})


def measured(predictions: list[int], references: list[int], space: LabelSpace | None = SPACE) -> float:
    return bind("hierarchical_f1", space)(np.array(predictions), np.array(references))


def test_the_right_family_is_half_the_way() -> None:
    # {cat, animal} against {dog, animal}: one in common, of two on each side
    assert measured([0], [1]) == pytest.approx(0.5)
    assert measured([0], [0]) == 1.0
    assert measured([0], [2]) == 0.0


def test_a_label_that_is_anothers_parent_is_common_to_both() -> None:
    # {animal} against {dog, animal}: precision 1, recall 1/2
    assert measured([3], [1]) == pytest.approx(2 / 3)


def test_sets_are_counted_over_all_rows() -> None:
    # {cat, animal} {oak} no answer, against {dog, animal} {oak} {oak}
    assert measured([0, 2, NO_ANSWER], [1, 2, 2]) == pytest.approx(2 * 2 / (3 + 4))


def test_it_is_what_sets_written_out_give() -> None:
    rng = np.random.default_rng(0)
    predictions, references = rng.integers(0, 4, (2, 60))

    def joined(position: int) -> set[str]:
        label = SPACE.labels[position]
        return {label, SPACE.parents.get(label, label)}

    pairs = [(joined(p), joined(r)) for p, r in zip(predictions, references, strict=True)]
    common = sum(len(p & r) for p, r in pairs)
    precision, recall = common / sum(len(p) for p, _ in pairs), common / sum(len(r) for _, r in pairs)
    expected = 2 * precision * recall / (precision + recall)
    assert measured(predictions.tolist(), references.tolist()) == pytest.approx(expected)


def test_without_parents_it_is_the_micro_f1() -> None:
    assert measured([0, 1, 1], [0, 1, 2], LabelSpace(("a", "b", "c"))) == pytest.approx(2 / 3)
    assert measured([0, 1, 1], [0, 1, 2], None) == pytest.approx(2 / 3)
