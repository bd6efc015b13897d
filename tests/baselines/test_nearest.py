"""Nearest neighbours against scikit-learn's, with weights and losses worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import topic_recipe
from sklearn.neighbors import NearestNeighbors

from vertical_sdk import VerticalModel, catalog, evaluate, train
from vertical_sdk.adapters.folder import read_adapter
from vertical_sdk.baselines import nearest
from vertical_sdk.baselines.frozen_base import FrozenBase, content_of
from vertical_sdk.baselines.nearest import TEMPERATURES, Nearest
from vertical_sdk.errors import AdapterError, DataError
from vertical_sdk.types import Example, LabelSpace, Target, TaskName

LABELS = LabelSpace(("skin", "heart", "lung"))


def _rows(count: int, seed: int = 0, spread: float = 1.0) -> tuple[list[Example], np.ndarray, np.ndarray]:
    """Rows, their features around one centre for each label, and their labels' positions."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(3, 8))
    positions = rng.integers(0, 3, count)
    features = (centres[positions] + rng.normal(size=(count, 8)) * spread + 5.0).astype(np.float32)
    return [Example(f"{seed}-{n}", f"text {seed} {n}", LABELS.labels[k]) for n, k in enumerate(positions)], features, positions


def _base(rows: list[Example], features: np.ndarray) -> FrozenBase:
    """A base whose features of these rows are known."""
    known = {content_of(row): torch.tensor(one) for row, one in zip(rows, features, strict=True)}
    return FrozenBase(None, known=known)  # type: ignore[arg-type]


def _fit(rows: list[Example], base: FrozenBase, task: TaskName = "classification", **options: object) -> Nearest:
    fitted = catalog.baselines.get("knn")(rows, None if task == "regression" else LABELS, task, 0, base, **options)
    assert isinstance(fitted, Nearest)
    return fitted


def _expected(
    train: np.ndarray, targets: np.ndarray, new: np.ndarray, neighbours: int, temperature: float, mean: np.ndarray
) -> np.ndarray:
    """The documented formula on scikit-learn's neighbours."""
    search = NearestNeighbors(n_neighbors=neighbours + 1, metric="cosine", algorithm="brute").fit(train - mean)
    distance, places = search.kneighbors(new - mean)
    answers = []
    for row, place in zip(1 - distance, places, strict=True):
        weights = np.exp((row - row[0]) / temperature)
        weights = weights[:-1] - weights[-1]
        share = weights @ targets[place[:-1]] / weights.sum()
        answers.append((neighbours * share + targets.mean(axis=0)) / (neighbours + 1))
    return np.array(answers)


@pytest.mark.parametrize(("neighbours", "temperature"), [(1, 0.02), (3, 1.0), (10, 0.05), (30, 0.2)])
def test_answers_are_the_weighted_shares_of_scikit_learns_neighbours(neighbours: int, temperature: float) -> None:
    rows, features, positions = _rows(200)
    new, new_features, _ = _rows(50, seed=1)
    fitted = replace(_fit(rows, _base(rows, features)), neighbours=neighbours, temperature=temperature)

    found = fitted.predict(new, _base(new, new_features)).probabilities

    expected = _expected(features, np.eye(3)[positions], new_features, neighbours, temperature, features.mean(axis=0))
    assert found is not None
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(found, expected, atol=0.01)  # features are stored in half precision
    assert np.abs(found - expected).mean() < 5e-4


def test_neighbours_and_temperature_have_the_least_loss_without_the_row_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "NEIGHBOURS", (1, 3, 10, 30))
    rows, features, positions = _rows(60)
    mean, losses = features.mean(axis=0), {}
    for neighbours in (1, 3, 10, 30):
        for temperature in TEMPERATURES:
            answers = [
                _expected(
                    np.delete(features, n, 0),
                    np.eye(3)[np.delete(positions, n)],
                    features[n : n + 1],
                    neighbours,
                    temperature,
                    mean,
                )
                for n in range(60)
            ]
            losses[neighbours, temperature] = -np.log(np.concatenate(answers)[np.arange(60), positions]).mean()

    fitted = _fit(rows, _base(rows, features))

    assert losses[fitted.neighbours, fitted.temperature] == pytest.approx(min(losses.values()), abs=2e-3)
    assert max(losses.values()) > min(losses.values()) + 0.1


def test_rows_are_answered_by_other_groups_when_the_number_is_chosen() -> None:
    rows, features, _ = _rows(90, spread=8.0)  # nothing to learn, but each row is there three times
    thrice = [replace(row, id=f"{row.id} {n}", text=f"{row.text} {n}", group=row.id) for row in rows for n in range(3)]
    base = _base(thrice, np.repeat(features, 3, axis=0))

    grouped, alone = (_fit(train, base).predict(thrice, base).probabilities for train in (thrice, _ungroup(thrice)))

    assert grouped is not None
    assert alone is not None
    assert grouped.max(axis=1).mean() < 0.55
    assert alone.max(axis=1).mean() > 0.7


def _ungroup(rows: list[Example]) -> list[Example]:
    return [replace(row, group=None) for row in rows]


def test_multilabel_answers_with_the_share_of_each_label_and_regression_with_a_mean() -> None:
    rows, features, positions = _rows(200)
    targets: list[Target] = [("skin", "heart") if k == 0 else ("lung",) if k == 1 else () for k in positions]
    several = [replace(row, target=target) for row, target in zip(rows, targets, strict=True)]
    numbers = [replace(row, target=float(k) - 5) for row, k in zip(rows, positions, strict=True)]
    base = _base(rows, features)
    truth = np.array([[k == 0, k == 0, k == 1] for k in positions])

    shares = _fit(several, base, "multilabel").predict(rows, base).probabilities
    means = _fit(numbers, base, "regression").predict(rows, base).values

    assert shares is not None
    assert means is not None
    assert ((shares > 0.5) == truth).mean() > 0.85
    np.testing.assert_allclose(shares[:, 0], shares[:, 1], atol=1e-6)
    assert np.corrcoef(means, positions)[0, 1] > 0.8


def test_a_restored_baseline_answers_as_the_fitted_one() -> None:
    rows, features, _ = _rows(60)
    new, new_features, _ = _rows(20, seed=1)
    fitted, base = _fit(rows, _base(rows, features)), _base(new, new_features)

    restored = Nearest.from_arrays({name: array.copy() for name, array in fitted.to_arrays().items()})

    np.testing.assert_array_equal(restored.predict(new, base).probabilities, fitted.predict(new, base).probabilities)  # type: ignore[arg-type]


def test_rows_that_all_have_the_same_text_answer_with_their_shares() -> None:
    rows = [Example(str(n), "same", LABELS.labels[n % 3 == 0]) for n in range(30)]
    base = _base(rows, np.ones((30, 8), dtype=np.float32))

    found = _fit(rows, base).predict(rows[:1], base).probabilities

    assert found is not None
    assert found[0] == pytest.approx([1 / 3, 2 / 3, 0], abs=0.35)
    assert found.sum() == pytest.approx(1)


def test_one_training_row_is_enough() -> None:
    rows, features, _ = _rows(1)
    base = _base(rows, features)

    found = _fit(rows, base).predict(rows, base).probabilities

    assert found is not None
    assert found[0].max() == 1


def test_an_exchange_at_the_edge_changes_no_answer() -> None:
    targets = np.eye(2, dtype=np.float32)[[0, 0, 1, 1]][None]
    near = np.array([[0.9, 0.8, 0.5, 0.5]])

    first = nearest._average(near, targets, targets[0].mean(axis=0), 2, 0.1)
    other = nearest._average(near, targets[:, [0, 1, 3, 2]], targets[0].mean(axis=0), 2, 0.1)
    at_the_edge = nearest._average(np.array([[0.9, 0.5, 0.5]]), targets[:, [0, 2, 0]], targets[0].mean(axis=0), 2, 0.1)

    assert first == pytest.approx(other)
    assert at_the_edge[0, 0] == pytest.approx((2 * 1 + 0.5) / 3, abs=1e-6)


def test_more_than_can_be_stored_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, features, _ = _rows(60)
    base = _base(rows, features)
    monkeypatch.setattr(nearest, "LARGEST", 22 * 50)  # 8 features and 3 labels of 2 bytes

    with pytest.raises(DataError, match="Set most of knn to 50 or less"):
        _fit(rows, base)
    assert len(_fit(rows, base, most=50).features) == 50


def test_a_base_of_another_width_is_refused() -> None:
    rows, features, _ = _rows(20)
    fitted = _fit(rows, _base(rows, features))

    with pytest.raises(AdapterError, match="features of 8 numbers, and those of the base have 5"):
        fitted.predict(rows, _base(rows, features[:, :5]))


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("targets", lambda a: a + np.float16(1), "targets must be 0 or 1"),
        ("targets", lambda a: a * 0, "one label for each row"),
        ("targets", lambda a: a[:-1], "targets must be floats of the shape"),
        ("features", lambda a: a * np.float16(100), "from -1 to 1"),
        ("features", lambda a: a[:0], "targets must be floats of the shape"),
        ("mean", lambda a: a[:-1], "mean must be floats of the shape"),
        ("temperature", lambda a: a * 0, "temperature contains a number below"),
    ],
)
def test_arrays_that_cannot_be_are_refused(name: str, change: object, problem: str) -> None:
    rows, features, _ = _rows(20)
    arrays = _fit(rows, _base(rows, features)).to_arrays()
    arrays[name] = change(arrays[name])  # type: ignore[operator]

    with pytest.raises(ValueError, match=problem):
        Nearest.from_arrays(arrays)


def test_neighbours_are_trained_judged_stored_and_loaded_with_an_adapter(encoder: Path, tmp_path: Path) -> None:
    recipe = topic_recipe(tmp_path, encoder, ensemble=["knn"], evaluate__baselines=["knn"], evaluate__gate=False)
    run = train(recipe, out=tmp_path / "run").path

    judged = evaluate(run)
    model = VerticalModel.from_pretrained(run)
    members = read_adapter(run / "adapter").ensemble

    assert judged.systems["knn"].error is None
    assert judged.systems["knn"].metrics["accuracy"].value > 0.6
    assert members is not None
    assert isinstance(members.members[0], Nearest)
    assert set(model.predict(["a rash on the skin"])[0].probabilities) == set(model.card.labels.labels)  # type: ignore[union-attr]
