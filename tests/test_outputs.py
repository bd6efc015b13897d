from __future__ import annotations

import numpy as np
import pytest

from vertical_sdk.errors import DataError
from vertical_sdk.outputs import Outputs, answer, prompt, references
from vertical_sdk.types import Example, LabelSpace, Message

LABELS = LabelSpace(("low", "high"))
CHAT = (Message("system", "Be brief."), Message("user", "Ask?"), Message("assistant", "Answer."))


def test_a_row_of_no_probability_is_a_missing_answer() -> None:
    outputs = Outputs(probabilities=np.array([[0.2, 0.8], [0.0, 0.0]]), unparsed=1)

    assert outputs.predictions("classification").tolist() == [1, -1]


def test_several_labels_are_given_from_one_half_on() -> None:
    assert Outputs(probabilities=np.array([[0.5, 0.49], [0.9, 0.6]])).predictions("multilabel").tolist() == [[1, 0], [1, 1]]


def test_outputs_of_another_task_are_refused() -> None:
    with pytest.raises(ValueError, match="not those of regression"):
        Outputs(texts=["a"]).predictions("regression")


def test_the_truth_has_the_shape_of_the_predictions() -> None:
    assert references([Example("1", target="high"), Example("2", target="low")], LABELS, "ordinal").tolist() == [1, 0]
    assert references([Example("1", target=("high", "low")), Example("2", target=())], LABELS, "multilabel").tolist() == [
        [1, 1],
        [0, 0],
    ]
    assert references([Example("1", target=2.5), Example("2", target=3)], None, "regression").tolist() == [2.5, 3.0]
    assert references([Example("1", messages=CHAT)], None, "generation") == ["Answer."]


def test_a_target_that_is_no_label_names_the_row_and_the_nearest_label() -> None:
    with pytest.raises(DataError, match=r"row 7: 'hihg' is no label of this task\. Did you mean 'high'"):
        references([Example("7", target="hihg")], LABELS, "classification")


def test_a_missing_number_and_a_missing_answer_name_the_row() -> None:
    with pytest.raises(DataError, match="row 7: the target must be a number"):
        references([Example("7")], None, "regression")
    with pytest.raises(DataError, match="row 7: has no answer"):
        answer(Example("7", messages=CHAT[:2]))


def test_the_prompt_is_all_but_the_answer() -> None:
    assert prompt(Example("1", messages=CHAT)) == prompt(Example("1", messages=CHAT[:2])) == "Be brief.\nAsk?"
    assert prompt(Example("1", text="plain")) == "plain"
