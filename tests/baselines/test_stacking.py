from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from vertical_sdk import catalog
from vertical_sdk.baselines.stacking import ENSEMBLE, fit_ensemble, load_ensemble, save_ensemble
from vertical_sdk.calibration.temperature import to_probabilities
from vertical_sdk.errors import CorruptAdapter, DataError
from vertical_sdk.recipe import Data, Evaluate, Part, Recipe
from vertical_sdk.types import Example, LabelSpace, Task

TWO = LabelSpace(("good", "bad"))


def _records(count: int, seed: int) -> list[Example]:
    """Whether an applicant is bad follows from debt and age, with noise."""
    rng = random.Random(seed)
    rows = []
    for n in range(count):
        debt, age = rng.gauss(0, 1), rng.uniform(18, 80)
        bad = debt + (0.5 if age < 30 else -0.5) + rng.gauss(0, 0.5) > 0
        record = (("debt", debt), ("age", age), ("sex", rng.choice(["female", "male"])))
        text = "much debt" if debt > 0 else "little debt"
        rows.append(Example(f"{seed}-{n}", text, "bad" if bad else "good", record=record))
    return rows


def _recipe(*members: str, task: Task = "classification") -> Recipe:
    judged = Evaluate(metrics=(Part(use="rmse" if task == "regression" else "macro_f1"),))
    parts = tuple(Part(use=name) for name in members)
    return Recipe(name="own", task=task, data=Data(source="rows.csv"), ensemble=parts, evaluate=judged)


def _truth(rows: list[Example]) -> np.ndarray:
    return np.array([row.target == "bad" for row in rows]).astype(int)


def _log_loss(logits: np.ndarray, truth: np.ndarray) -> float:
    return float(-np.log(to_probabilities(logits)[np.arange(len(truth)), truth]).mean())


def test_a_useless_adapter_gets_little_weight_and_a_good_member_much() -> None:
    train, validation, test = _records(400, 0), _records(200, 1), _records(400, 2)
    noise = np.random.default_rng(0).normal(size=(600, 2))

    made, _ = fit_ensemble(_recipe("boosted_trees"), train, validation, noise[:200], TWO, 0, None)
    fused = made.fuse(noise[200:], test, None)

    assert made.weights[0] < 0.4 < made.weights[1]
    assert _log_loss(fused, _truth(test)) < 0.5 < _log_loss(noise[200:], _truth(test))


def test_an_adapter_that_is_right_is_left_to_speak() -> None:
    train, validation = _records(300, 0), _records(200, 1)
    truth = _truth(validation)
    knowing = np.stack([2.0 - 4 * truth, 4 * truth - 2.0], axis=1)

    made, _ = fit_ensemble(_recipe("majority"), train, validation, knowing, TWO, 0, None)

    assert (made.fuse(knowing, validation, None).argmax(axis=1) == truth).all()


def test_the_pool_is_the_weighted_sum_of_log_probabilities() -> None:
    train, validation = _records(200, 0), _records(100, 1)
    own = np.random.default_rng(1).normal(size=(100, 2))

    made, _ = fit_ensemble(_recipe("tfidf", "boosted_trees"), train, validation, own, TWO, 0, None)

    by_hand = made.weights[0] * np.log(to_probabilities(own)) + made.bias
    for weight, member in zip(made.weights[1:], made.members, strict=True):
        by_hand = by_hand + weight * np.log(np.clip(member.ask(validation, None).probabilities, 1e-6, 1 - 1e-6))
    assert made.fuse(own, validation, None) == pytest.approx(by_hand, abs=1e-4)
    assert list(made.shares) == ["adapter", "tfidf", "boosted_trees"]


@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_what_is_loaded_says_what_was_saved(task: Task, tmp_path: Path) -> None:
    train, validation = _records(200, 0), _records(120, 1)
    targets = {
        "classification": lambda t: t,
        "multilabel": lambda t: (t,) if t == "bad" else (),
        "regression": lambda t: float(t == "bad"),
    }
    train, validation = (
        [Example(r.id, r.text, targets[task](r.target), record=r.record) for r in rows] for rows in (train, validation)
    )
    own = np.random.default_rng(1).normal(size=(120, 1 if task == "regression" else 2))
    labels = None if task == "regression" else TWO
    made, _ = fit_ensemble(_recipe("tfidf", "boosted_trees", task=task), train, validation, own, labels, 0, None)

    save_ensemble(tmp_path, made)
    again = load_ensemble(tmp_path)

    assert again is not None
    assert again.fuse(own, validation, None) == pytest.approx(made.fuse(own, validation, None), abs=2e-3)  # half precision
    assert again.ask_member(Part(use="tfidf"), validation, None) is not None
    assert again.ask_member(Part(use="tfidf", C=1.0), validation, None) is None


def test_what_is_calibrated_on_was_said_by_members_that_had_not_seen_the_rows() -> None:
    rng = random.Random(0)
    labelled = [Example(str(n), f"word{n * 7919}", rng.choice(["good", "bad"])) for n in range(300)]
    train, validation = labelled[:200], labelled[200:]  # nothing can be learned here, only learned by heart
    silent = np.zeros((100, 2))

    made, out_of_fold = fit_ensemble(_recipe("tfidf"), train, validation, silent, TWO, 0, None)

    by_heart = made.members[0].ask(validation, None).probabilities
    assert by_heart is not None
    truth = _truth(validation)
    assert (by_heart.argmax(axis=1) == truth).mean() > 0.9
    assert (out_of_fold.argmax(axis=1) == truth).mean() < 0.65


def test_a_cut_file_is_a_corrupt_adapter(tmp_path: Path) -> None:
    made, _ = fit_ensemble(_recipe("majority"), _records(50, 0), _records(50, 1), np.zeros((50, 2)), TWO, 0, None)
    save_ensemble(tmp_path, made)
    (tmp_path / ENSEMBLE).write_bytes((tmp_path / ENSEMBLE).read_bytes()[:-40])

    with pytest.raises(CorruptAdapter, match="members"):
        load_ensemble(tmp_path)


def test_trees_take_unknown_words_and_missing_numbers() -> None:
    fitted = catalog.baselines.get("boosted_trees")(_records(200, 0), TWO, "classification", 0, None)
    strange = [Example("?", record=(("debt", None), ("sex", "other"))), Example("?", record=(("age", 30.0),))]

    scores = fitted.ask(strange, None).probabilities

    assert np.isfinite(scores).all()
    assert scores.sum(axis=1) == pytest.approx(1.0)


def test_trees_of_texts_are_refused() -> None:
    with pytest.raises(DataError, match="row a has no fields"):
        catalog.baselines.get("boosted_trees")([Example("a", "text", "good")], TWO, "classification", 0, None)
