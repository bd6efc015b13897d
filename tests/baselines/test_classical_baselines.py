from __future__ import annotations

import numpy as np
import pytest

from vertical_sdk import catalog
from vertical_sdk.errors import DataError
from vertical_sdk.outputs import Outputs
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, LabelSpace, Message, Target, Task

LUNG, HEART, SKIN = "lung", "heart", "skin"
LABELS = LabelSpace((LUNG, HEART, SKIN, "never seen"))
TEXTS = {
    LUNG: ["acute bronchitis", "viral pneumonia", "chronic bronchitis", "pneumonia due to virus", "asthma and bronchitis"],
    HEART: ["cardiac arrest", "cardiomyopathy", "heart failure", "acute heart failure", "cardiac failure"],
    SKIN: ["contact dermatitis", "dermatitis of skin", "skin rash"],
}


def _ask(name: str, train: list[tuple[str, Target]], asked: list[str], task: Task, **options: object) -> Outputs:
    rows = [Example(str(i), text, target) for i, (text, target) in enumerate(train)]
    fitted = catalog.baselines.get(name)(rows, LABELS, task, 0, None, **options)
    said = fitted.ask([Example("?", text) for text in asked], None)
    assert isinstance(said, Outputs)
    return said


PAIRS: list[tuple[str, Target]] = [(text, label) for label, texts in TEXTS.items() for text in texts]


@pytest.mark.parametrize("task", ["classification", "ordinal"])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_tfidf_learns_words_and_pieces_of_words(task: Task, class_weight: str | None) -> None:
    said = _ask("tfidf", PAIRS, ["bronchitic disease", "cardiac rupture", "dermatitides"], task, class_weight=class_weight)

    assert get_task(task).predictions(said).tolist() == [0, 1, 2]
    assert said.probabilities is not None
    assert said.probabilities.sum(axis=1) == pytest.approx(1.0)
    assert said.probabilities[:, 3].tolist() == [0, 0, 0]  # a label without training rows


def test_tfidf_gives_the_same_twice() -> None:
    first, second = (_ask("tfidf", PAIRS, ["bronchial"], "classification").probabilities for _ in range(2))

    assert np.array_equal(first, second)  # type: ignore[arg-type]


def test_tfidf_of_two_labels_is_one_logistic_regression() -> None:
    pairs = [pair for pair in PAIRS if pair[1] != SKIN]
    rows = [Example(str(i), text, target) for i, (text, target) in enumerate(pairs)]

    said = catalog.baselines.get("tfidf")(rows, LabelSpace((LUNG, HEART)), "classification", 0, None).ask(
        [Example("?", "cardiac")], None
    )

    assert said.probabilities.sum() == pytest.approx(1.0)
    assert said.probabilities[0, 1] > 0.5


def test_tfidf_judges_each_of_several_labels_by_itself() -> None:
    both = [(f"{one} with {other}", (LUNG, HEART)) for one, other in zip(TEXTS[LUNG], TEXTS[HEART], strict=True)]
    train = [(text, (label,) if isinstance(label, str) else ()) for text, label in PAIRS] + both

    said = _ask("tfidf", train, ["bronchitis with cardiac failure", "skin rash"], "multilabel")

    assert get_task("multilabel").predictions(said).tolist() == [[1, 1, 0, 0], [0, 0, 1, 0]]


def test_tfidf_of_numbers_follows_the_words() -> None:
    train: list[tuple[str, Target]] = [("cheap small flat", 10.0), ("large house", 90.0)] * 5

    low, high = get_task("regression").predictions(_ask("tfidf", train, ["small flat", "large house"], "regression"))

    assert low < 35
    assert high > 65


def test_tfidf_of_texts_gives_the_answer_to_the_most_similar_prompt() -> None:
    turns = [("What treats asthma?", "An inhaler."), ("What treats a rash?", "A cream.")]
    rows = [Example(q, messages=(Message("user", q), Message("assistant", a))) for q, a in turns]
    asked = [Example("?", messages=(Message("user", "Which cream for my rash?"),))]

    said = catalog.baselines.get("tfidf")(rows, None, "generation", 0, None).ask(asked, None)

    assert get_task("generation").predictions(said) == ["A cream."]


def test_tfidf_reads_scripts_without_spaces() -> None:
    train: list[tuple[str, Target]] = [
        ("急性支气管炎", LUNG),
        ("慢性支气管炎", LUNG),
        ("心力衰竭", HEART),
        ("急性心力衰竭", HEART),
    ]

    assert get_task("classification").predictions(_ask("tfidf", train, ["支气管炎病"], "classification")).tolist() == [0]


@pytest.mark.parametrize("name", ["tfidf", "majority"])
def test_a_baseline_without_training_rows_says_so(name: str) -> None:
    with pytest.raises(DataError, match="no training rows"):
        _ask(name, [], ["x"], "classification")


def test_texts_without_words_are_an_error_that_says_so() -> None:
    with pytest.raises(DataError, match="hold no words"):
        _ask("tfidf", [("", LUNG), (" ", HEART)], ["x"], "classification")


def test_the_majority_is_the_share_of_each_label() -> None:
    said = _ask("majority", PAIRS, ["anything", "else"], "classification")

    assert said.probabilities is not None
    assert said.probabilities.tolist() == [[5 / 13, 5 / 13, 3 / 13, 0.0]] * 2


def test_the_majority_of_several_labels_of_numbers_and_of_texts() -> None:
    many = _ask("majority", [("a", (LUNG,)), ("b", (LUNG, HEART)), ("c", (LUNG,)), ("d", ())], ["x"], "multilabel")
    numbers = _ask("majority", [("a", 1.0), ("b", 4.0)], ["x", "y"], "regression")
    answers = [Example(str(i), messages=(Message("assistant", text),)) for i, text in enumerate(["no", "yes", "no"])]
    texts = catalog.baselines.get("majority")(answers, None, "generation", 0, None).ask([Example("?")], None)

    assert get_task("multilabel").predictions(many).tolist() == [[1, 0, 0, 0]]
    assert get_task("regression").predictions(numbers).tolist() == [2.5, 2.5]
    assert get_task("generation").predictions(texts) == ["no"]
