from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vertical_sdk import catalog
from vertical_sdk.baselines.fitted import load_fitted, save_arrays
from vertical_sdk.errors import DataError
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, LabelSpace, TaskName

TWO = LabelSpace(("low", "high"))
SMALL = {"n_estimators": 20}


def _rows(count: int, seed: int, *, record: bool = False, task: TaskName = "classification") -> list[Example]:
    """The second of three numbers decides; a field, if there is one, decides as much."""
    rng = np.random.default_rng(seed)
    rows = []
    for n in range(count):
        values = rng.normal(size=3).astype(np.float32)
        field = float(rng.normal())
        total = float(values[1]) + (field if record else 0.0)
        target: str | float = total if task == "regression" else TWO.labels[int(total > 0)]
        rows.append(Example(f"{n}", target=target, values=values, record=(("debt", field),) if record else ()))
    return rows


def test_trees_learn_from_values() -> None:
    fitted = catalog.baselines.get("boosted_trees")(_rows(300, 0), TWO, "classification", 0, None)
    test = _rows(200, 1)

    predictions = get_task("classification").predictions(fitted.predict(test, None))

    assert np.mean([TWO.labels[label] == row.target for label, row in zip(predictions, test, strict=True)]) > 0.9


def test_trees_learn_from_values_and_fields_together() -> None:
    train, test = _rows(600, 0, record=True, task="regression"), _rows(200, 1, record=True, task="regression")
    truth = np.array([row.target for row in test])

    def error(rows: list[Example], test_rows: list[Example]) -> float:
        fitted = catalog.baselines.get("boosted_trees")(rows, None, "regression", 0, None)
        return float(np.square(fitted.predict(test_rows, None).values - truth).mean())

    both = error(train, test)
    fields, numbers = (
        error([_without(row, part) for row in train], [_without(row, part) for row in test]) for part in ("values", "record")
    )
    assert both < 0.3 < min(fields, numbers)


def _without(row: Example, part: str) -> Example:
    parts = {"record": row.record, "values": row.values} | {part: () if part == "record" else None}
    return Example(row.id, target=row.target, **parts)  # type: ignore[arg-type]


@pytest.mark.parametrize("record", [False, True])
def test_loaded_trees_predict_the_same(record: bool, tmp_path: Path) -> None:
    fitted = catalog.baselines.get("boosted_trees")(_rows(100, 0, record=record), TWO, "classification", 0, None, **SMALL)

    loaded = load_fitted("boosted_trees", save_arrays("boosted_trees", fitted, "here"))

    test = _rows(20, 1, record=record)
    np.testing.assert_array_equal(loaded.predict(test, None).probabilities, fitted.predict(test, None).probabilities)


def test_trees_accept_unknown_numbers() -> None:
    fitted = catalog.baselines.get("boosted_trees")(_rows(100, 0), TWO, "classification", 0, None, **SMALL)

    scores = fitted.predict([Example("?", values=np.full(3, np.nan, dtype=np.float32))], None).probabilities

    assert np.isfinite(scores).all()


def test_a_row_with_another_number_of_values_is_refused_by_name() -> None:
    rows = _rows(100, 0)
    fitted = catalog.baselines.get("boosted_trees")(rows, TWO, "classification", 0, None, **SMALL)

    with pytest.raises(DataError, match=r"Row q \('text'\) has no \(n,\) values, but boosted_trees needs 3"):
        fitted.predict([Example("q", "text")], None)
    with pytest.raises(DataError, match=r"Row q has 2 \(n,\) values, but boosted_trees needs 3"):
        fitted.predict([Example("q", values=np.zeros(2))], None)
    with pytest.raises(DataError, match=r"Row odd has 4 \(n,\) values, but boosted_trees needs 3"):
        catalog.baselines.get("boosted_trees")(
            [*rows, Example("odd", target="low", values=np.zeros(4))], TWO, "classification", 0, None
        )


def test_trees_on_images_are_refused() -> None:
    pictures = [Example(str(n), target=TWO.labels[n % 2], values=np.zeros((4, 4))) for n in range(10)]

    with pytest.raises(DataError, match=r"Row 0 has no fields and no \(n,\) values"):
        catalog.baselines.get("boosted_trees")(pictures, TWO, "classification", 0, None)


def test_trees_ignore_the_fields_in_without() -> None:
    rows = [
        Example(f"{n}", target=float(n % 5), record=(("name", f"street {n % 5}"), ("debt", float(n * 7919 % 13))))
        for n in range(300)
    ]
    fit = catalog.baselines.get("boosted_trees")

    all_fields, without = fit(rows, None, "regression", 0, None), fit(rows, None, "regression", 0, None, without=("name",))

    assert [name for name, _ in all_fields.fields] == ["name", "debt"]
    assert [name for name, _ in without.fields] == ["debt"]
    renamed = [Example(row.id, record=(("name", "else"), row.record[1])) for row in rows]
    np.testing.assert_array_equal(without.predict(rows, None).values, without.predict(renamed, None).values)
