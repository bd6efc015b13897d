from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from vertical_sdk.outputs import Outputs
from vertical_sdk.recipe import Data, Evaluate, Gate, Part, Recipe
from vertical_sdk.tasks import get_task, main_metric
from vertical_sdk.types import Example, LabelSpace, TaskName


def _recipe(metric: str, task: TaskName = "classification") -> Recipe:
    return Recipe(name="own", task=task, data=Data(source="rows.csv"), evaluate=Evaluate(metrics=(Part(use=metric),)))


def _rare(n: int = 2000) -> tuple[LabelSpace, list[Example], Outputs, np.ndarray]:
    """One row in ten is rare, and calibrated scores cannot tell the two well apart."""
    rng = np.random.default_rng(0)
    truth = (rng.random(n) < 0.1).astype(int)
    sign = rng.normal(loc=1.2 * truth, size=n)
    odds = np.exp(1.2 * sign - 0.72) * 0.1 / 0.9
    scores = np.stack([1 / (1 + odds), odds / (1 + odds)], axis=1)
    labels = LabelSpace(("usual", "rare"), counts={"usual": 900, "rare": 100})
    return labels, [Example(str(i), target=labels.labels[t]) for i, t in enumerate(truth)], Outputs(probabilities=scores), truth


def test_rare_labels_are_said_more_often_where_f1_is_asked_for() -> None:
    labels, rows, outputs, truth = _rare()

    offsets = get_task("classification").fit_rule(outputs, rows, labels, _recipe("macro_f1"))

    moved = get_task("classification").predictions(Outputs(probabilities=outputs.probabilities, offsets=np.array(offsets)))
    plain = get_task("classification").predictions(outputs)
    assert f1_score(truth, moved, average="macro") > f1_score(truth, plain, average="macro") + 0.03
    assert moved.sum() > plain.sum()


def test_accuracy_leaves_the_likeliest_label_nearly_alone() -> None:
    labels, rows, outputs, _ = _rare()

    offsets = get_task("classification").fit_rule(outputs, rows, labels, _recipe("accuracy"))

    moved = get_task("classification").predictions(Outputs(probabilities=outputs.probabilities, offsets=np.array(offsets)))
    assert (moved == get_task("classification").predictions(outputs)).mean() > 0.97


@pytest.mark.parametrize(("times", "moves"), [(1, False), (40, True)])
def test_a_gain_of_one_row_among_fifty_moves_nothing(times: int, moves: bool) -> None:
    """Moved boundaries correct two rows of fifty and spoil another: luck, as likely as not; forty times as many rows say the same surely."""
    labels = _rare(1)[0]
    shares = np.array(([0.9] * 4 + [0.45] * 2 + [0.46] + [0.02] * 43) * times)
    rows = [Example(str(i), target="rare" if i % 50 < 6 else "usual") for i in range(50 * times)]

    offsets = get_task("classification").fit_rule(
        Outputs(probabilities=np.stack([1 - shares, shares], axis=1)), rows, labels, _recipe("accuracy")
    )

    assert (offsets != ()) == moves


@pytest.mark.parametrize("metric", ["auc", "log_loss", "ece"])
def test_metrics_that_look_at_probabilities_alone_move_nothing(metric: str) -> None:
    labels, rows, outputs, _ = _rare(100)

    assert get_task("classification").fit_rule(outputs, rows, labels, _recipe(metric)) == ()


def test_one_shift_serves_all_labels_of_a_multilabel_task() -> None:
    labels = LabelSpace(("a", "b"))
    rng = np.random.default_rng(0)
    truth = rng.random((1000, 2)) < 0.1
    scores = np.clip(0.12 * truth + 0.2 * rng.random((1000, 2)), 0, 1)  # never near one half
    rows = [Example(str(i), target=tuple(np.array(labels.labels)[t])) for i, t in enumerate(truth)]

    offsets = get_task("multilabel").fit_rule(Outputs(probabilities=scores), rows, labels, _recipe("macro_f1", "multilabel"))

    assert offsets[0] == offsets[1] > 0.5
    said = get_task("multilabel").predictions(Outputs(probabilities=scores, offsets=np.array(offsets)))
    assert f1_score(truth, said, average="macro") > 0.6
    assert get_task("multilabel").predictions(Outputs(probabilities=scores)).sum() == 0


def test_the_gates_metric_comes_first() -> None:
    recipe = _recipe("accuracy")
    gated = recipe.model_copy(update={"evaluate": Evaluate(metrics=recipe.evaluate.metrics, gate=Gate(metric="macro_f1"))})

    assert main_metric(recipe).use == "accuracy"
    assert main_metric(gated).use == "macro_f1"


def test_a_row_without_an_answer_stays_without() -> None:
    outputs = Outputs(probabilities=np.array([[0.0, 0.0], [0.6, 0.4]]), offsets=np.array([-1.0, 1.0]))

    assert get_task("classification").predictions(outputs).tolist() == [-1, 1]
