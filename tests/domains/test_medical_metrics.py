import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from vertical_sdk.catalog import metrics
from vertical_sdk.metrics.measure import bind
from vertical_sdk.types import Example, LabelSpace, Message

metrics.get("hierarchical_f1")
from vertical_sdk.domains.medical.faithfulness import find_entities  # noqa: E402

TREE = LabelSpace(("a1", "a2", "b1", "lone"), parents={"a1": "A", "a2": "A", "b1": "B"})


def test_a_wrong_block_of_the_right_chapter_is_half_right() -> None:
    score = bind("hierarchical_f1", TREE)

    assert score(np.array([1]), np.array([0])) == 0.5
    assert score(np.array([2]), np.array([0])) == 0.0
    assert score(np.array([0]), np.array([0])) == 1.0


def test_hierarchical_f1_is_that_of_the_sets_of_labels_and_parents() -> None:
    said, true = np.array([0, 1, 2, 3, -1, 0]), np.array([0, 0, 0, 3, 2, 3])
    sets = [{"a1", "A"}, {"a2", "A"}, {"b1", "B"}, {"lone"}]
    shared = sum(len(sets[p] & sets[t]) for p, t in zip(said, true, strict=True) if p >= 0)
    written, real = sum(len(sets[p]) for p in said if p >= 0), sum(len(sets[t]) for t in true)
    precision, recall = shared / written, shared / real

    found = bind("hierarchical_f1", TREE)(said, true)

    assert found == pytest.approx(2 * precision * recall / (precision + recall))


def test_without_parents_hierarchical_f1_is_accuracy() -> None:
    rng = np.random.default_rng(0)
    said, true = rng.integers(0, 3, 50), rng.integers(0, 3, 50)

    found = bind("hierarchical_f1", LabelSpace(("x", "y", "z")))(said, true)

    assert found == pytest.approx(accuracy_score(true, said))


def test_drugs_and_diseases_are_known_by_list_and_by_ending() -> None:
    found = find_entities(
        "Takes Lisinopril and zofenopril for hypertension; tonsillitis, ulcers; the diagnosis and prognosis of a coma."
    )

    assert found == {"lisinopril", "zofenopril", "hypertension", "tonsillitis", "ulcer"}


def rows(*questions: str) -> list[Example]:
    return [
        Example(str(n), messages=(Message("user", q), Message("assistant", "as the clinic wrote")))
        for n, q in enumerate(questions)
    ]


def test_faithfulness_is_the_share_of_what_is_written_that_was_said() -> None:
    asked = rows("I am seventy six and take metformin for diabetes.", "My knee hurts.")
    answers = ["76-year-old with diabetes on metformin 500 mg and lisinopril.", "Arthritis of the knee."]

    # 76 was said and 500 was not; diabetes and metformin were said, lisinopril and arthritis were not
    assert bind("medical.number_faithfulness")(answers, None, rows=asked) == 0.5
    assert bind("medical.entity_faithfulness")(answers, None, rows=asked) == 0.5


def test_faithfulness_of_an_answer_that_writes_nothing_of_the_kind_is_undefined() -> None:
    assert math.isnan(bind("medical.number_faithfulness")(["Knee pain."], None, rows=rows("My knee hurts.")))
    assert math.isnan(bind("medical.entity_faithfulness")([""], None, rows=rows("My knee hurts.")))
