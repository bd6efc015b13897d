from __future__ import annotations

import numpy as np
import pytest

from vertical_sdk.errors import DataError
from vertical_sdk.outputs import Outputs, answer_of, prompt_of
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, LabelSpace, Message

LABELS = LabelSpace(("low", "high"))
CHAT = (Message("system", "Be brief."), Message("user", "Ask?"), Message("assistant", "Answer."))


def test_a_row_of_no_probability_is_a_missing_answer() -> None:
    outputs = Outputs(probabilities=np.array([[0.2, 0.8], [0.0, 0.0]]), unparsed=1)

    assert get_task("classification").predictions(outputs).tolist() == [1, -1]


def test_several_labels_are_given_from_one_half_on() -> None:
    assert get_task("multilabel").predictions(Outputs(probabilities=np.array([[0.5, 0.49], [0.9, 0.6]]))).tolist() == [
        [1, 0],
        [1, 1],
    ]


def test_outputs_of_another_task_are_refused() -> None:
    with pytest.raises(ValueError, match="not those of regression"):
        get_task("regression").predictions(Outputs(texts=["a"]))


def test_the_truth_has_the_shape_of_the_predictions() -> None:
    assert get_task("ordinal").references([Example("1", target="high"), Example("2", target="low")], LABELS).tolist() == [1, 0]
    assert get_task("multilabel").references(
        [Example("1", target=("high", "low")), Example("2", target=())], LABELS
    ).tolist() == [
        [1, 1],
        [0, 0],
    ]
    assert get_task("regression").references([Example("1", target=2.5), Example("2", target=3)], None).tolist() == [2.5, 3.0]
    assert get_task("generation").references([Example("1", messages=CHAT)], None) == ["Answer."]


def test_an_unknown_target_names_the_row_and_the_nearest_label() -> None:
    with pytest.raises(DataError, match=r"row 7: 'hihg' is not a label of this task\. Did you mean 'high'"):
        get_task("classification").references([Example("7", target="hihg")], LABELS)


def test_a_missing_number_and_a_missing_answer_name_the_row() -> None:
    with pytest.raises(DataError, match="row 7: the target must be a number"):
        get_task("regression").references([Example("7")], None)
    with pytest.raises(DataError, match="row 7: has no answer"):
        answer_of(Example("7", messages=CHAT[:2]))


def test_the_prompt_is_all_but_the_answer() -> None:
    assert prompt_of(Example("1", messages=CHAT)) == prompt_of(Example("1", messages=CHAT[:2])) == "Be brief.\nAsk?"
    assert prompt_of(Example("1", text="plain")) == "plain"
