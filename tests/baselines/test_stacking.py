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
from vertical_sdk.types import Example, LabelSpace, TaskName

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


def _recipe(*members: str, task: TaskName = "classification") -> Recipe:
    evaluate = Evaluate(metrics=(Part(use="rmse" if task == "regression" else "macro_f1"),))
    parts = tuple(Part(use=name) for name in members)
    return Recipe(name="own", task=task, data=Data(source="rows.csv"), ensemble=parts, evaluate=evaluate)


def _truth(rows: list[Example]) -> np.ndarray:
    return np.array([row.target == "bad" for row in rows]).astype(int)


def _log_loss(logits: np.ndarray, truth: np.ndarray) -> float:
    return float(-np.log(to_probabilities(logits)[np.arange(len(truth)), truth]).mean())


def test_a_useless_adapter_gets_less_weight_than_a_good_member() -> None:
    train, validation, test = _records(400, 0), _records(200, 1), _records(400, 2)
    noise = np.random.default_rng(0).normal(size=(600, 2))

    ensemble, _ = fit_ensemble(_recipe("boosted_trees"), train, validation, noise[:200], TWO, 0, None)
    combined = ensemble.combine(noise[200:], ensemble.gather(test, None))

    assert ensemble.weights[0] < 0.4 < ensemble.weights[1]
    assert _log_loss(combined, _truth(test)) < 0.5 < _log_loss(noise[200:], _truth(test))


def test_a_correct_adapter_decides_alone() -> None:
    train, validation = _records(300, 0), _records(200, 1)
    truth = _truth(validation)
    correct = np.stack([2.0 - 4 * truth, 4 * truth - 2.0], axis=1)

    ensemble, _ = fit_ensemble(_recipe("majority"), train, validation, correct, TWO, 0, None)

    assert (ensemble.combine(correct, ensemble.gather(validation, None)).argmax(axis=1) == truth).all()


def test_ensemble_adds_weighted_log_probabilities() -> None:
    train, validation = _records(200, 0), _records(100, 1)
    own = np.random.default_rng(1).normal(size=(100, 2))

    ensemble, _ = fit_ensemble(_recipe("tfidf", "boosted_trees"), train, validation, own, TWO, 0, None)

    expected = ensemble.weights[0] * np.log(to_probabilities(own)) + ensemble.bias
    for weight, member in zip(ensemble.weights[1:], ensemble.members, strict=True):
        expected = expected + weight * np.log(np.clip(member.predict(validation, None).probabilities, 1e-6, 1 - 1e-6))
    assert ensemble.combine(own, ensemble.gather(validation, None)) == pytest.approx(expected, abs=1e-4)
    assert list(ensemble.shares) == ["adapter", "tfidf", "boosted_trees"]


@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_a_loaded_ensemble_predicts_the_same(task: TaskName, tmp_path: Path) -> None:
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
    ensemble, _ = fit_ensemble(_recipe("tfidf", "boosted_trees", task=task), train, validation, own, labels, 0, None)

    save_ensemble(tmp_path, ensemble)
    loaded = load_ensemble(tmp_path, _recipe("tfidf", "boosted_trees", task=task), labels)

    assert loaded is not None
    assert loaded.combine(own, loaded.gather(validation, None)) == pytest.approx(
        ensemble.combine(own, ensemble.gather(validation, None)), abs=2e-3
    )  # half precision
    assert loaded.predict_member(Part(use="tfidf"), validation, None) is not None
    assert loaded.predict_member(Part(use="tfidf", C=1.0), validation, None) is None


def test_out_of_fold_predictions_come_from_members_that_never_saw_the_rows() -> None:
    rng = random.Random(0)
    labelled = [Example(str(n), f"word{n * 7919}", rng.choice(["good", "bad"])) for n in range(300)]
    train, validation = labelled[:200], labelled[200:]  # nothing can be learned here, only learned by heart
    silent = np.zeros((100, 2))

    ensemble, out_of_fold = fit_ensemble(_recipe("tfidf"), train, validation, silent, TWO, 0, None)

    by_heart = ensemble.members[0].predict(validation, None).probabilities
    assert by_heart is not None
    truth = _truth(validation)
    assert (by_heart.argmax(axis=1) == truth).mean() > 0.9
    assert (out_of_fold.argmax(axis=1) == truth).mean() < 0.65


def test_an_incomplete_file_is_a_corrupt_adapter(tmp_path: Path) -> None:
    ensemble, _ = fit_ensemble(_recipe("majority"), _records(50, 0), _records(50, 1), np.zeros((50, 2)), TWO, 0, None)
    save_ensemble(tmp_path, ensemble)
    (tmp_path / ENSEMBLE).write_bytes((tmp_path / ENSEMBLE).read_bytes()[:-40])

    with pytest.raises(CorruptAdapter, match=r"ensemble\.safetensors: this file is cut or not a safetensors file"):
        load_ensemble(tmp_path, _recipe("majority"), TWO)


def test_trees_accept_unknown_words_and_missing_numbers() -> None:
    fitted = catalog.baselines.get("boosted_trees")(_records(200, 0), TWO, "classification", 0, None)
    unknown = [Example("?", record=(("debt", None), ("sex", "other"))), Example("?", record=(("age", 30.0),))]

    scores = fitted.predict(unknown, None).probabilities

    assert np.isfinite(scores).all()
    assert scores.sum(axis=1) == pytest.approx(1.0)


def test_trees_on_texts_are_refused() -> None:
    with pytest.raises(DataError, match="Row a has no fields"):
        catalog.baselines.get("boosted_trees")([Example("a", "text", "good")], TWO, "classification", 0, None)
