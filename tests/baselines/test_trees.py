from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vertical_sdk import catalog
from vertical_sdk.baselines.fitted import pack, unpack
from vertical_sdk.errors import DataError
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, LabelSpace, Task

TWO = LabelSpace(("low", "high"))
SMALL = {"n_estimators": 20}


def _rows(count: int, seed: int, *, record: bool = False, task: Task = "classification") -> list[Example]:
    """The second of three numbers decides; a field, where there is one, decides as much."""
    rng = np.random.default_rng(seed)
    rows = []
    for n in range(count):
        values = rng.normal(size=3).astype(np.float32)
        field = float(rng.normal())
        total = float(values[1]) + (field if record else 0.0)
        target: str | float = total if task == "regression" else TWO.labels[int(total > 0)]
        rows.append(Example(f"{n}", target=target, values=values, record=(("debt", field),) if record else ()))
    return rows


def test_trees_read_a_rows_numbers() -> None:
    fitted = catalog.baselines.get("boosted_trees")(_rows(300, 0), TWO, "classification", 0, None)
    asked = _rows(200, 1)

    said = get_task("classification").predictions(fitted.ask(asked, None))

    assert np.mean([TWO.labels[label] == row.target for label, row in zip(said, asked, strict=True)]) > 0.9


def test_trees_read_numbers_beside_fields() -> None:
    train, asked = _rows(600, 0, record=True, task="regression"), _rows(200, 1, record=True, task="regression")
    truth = np.array([row.target for row in asked])

    def error(rows: list[Example], ask: list[Example]) -> float:
        fitted = catalog.baselines.get("boosted_trees")(rows, None, "regression", 0, None)
        return float(np.square(fitted.ask(ask, None).values - truth).mean())

    both = error(train, asked)
    fields, numbers = (
        error([_without(row, part) for row in train], [_without(row, part) for row in asked]) for part in ("values", "record")
    )
    assert both < 0.3 < min(fields, numbers)


def _without(row: Example, part: str) -> Example:
    kept = {"record": row.record, "values": row.values} | {part: () if part == "record" else None}
    return Example(row.id, target=row.target, **kept)  # type: ignore[arg-type]


@pytest.mark.parametrize("record", [False, True])
def test_what_is_kept_of_trees_on_numbers_says_the_same(record: bool, tmp_path: Path) -> None:
    fitted = catalog.baselines.get("boosted_trees")(_rows(100, 0, record=record), TWO, "classification", 0, None, **SMALL)

    again = unpack("boosted_trees", pack("boosted_trees", fitted, "here"))

    asked = _rows(20, 1, record=record)
    np.testing.assert_array_equal(again.ask(asked, None).probabilities, fitted.ask(asked, None).probabilities)


def test_a_number_that_is_not_known_is_no_error() -> None:
    fitted = catalog.baselines.get("boosted_trees")(_rows(100, 0), TWO, "classification", 0, None, **SMALL)

    scores = fitted.ask([Example("?", values=np.full(3, np.nan, dtype=np.float32))], None).probabilities

    assert np.isfinite(scores).all()


def test_a_row_without_the_numbers_that_the_trees_read_is_named() -> None:
    rows = _rows(100, 0)
    fitted = catalog.baselines.get("boosted_trees")(rows, TWO, "classification", 0, None, **SMALL)

    with pytest.raises(DataError, match=r"row q \('text'\) has no \(n,\) values, and 3 are read"):
        fitted.ask([Example("q", "text")], None)
    with pytest.raises(DataError, match=r"row q has 2 \(n,\) values, and 3 are read"):
        fitted.ask([Example("q", values=np.zeros(2))], None)
    with pytest.raises(DataError, match=r"row odd has 4 \(n,\) values, and 3 are read"):
        catalog.baselines.get("boosted_trees")(
            [*rows, Example("odd", target="low", values=np.zeros(4))], TWO, "classification", 0, None
        )


def test_pictures_are_no_list_of_numbers() -> None:
    pictures = [Example(str(n), target=TWO.labels[n % 2], values=np.zeros((4, 4))) for n in range(10)]

    with pytest.raises(DataError, match=r"row 0 has no fields and no \(n,\) values"):
        catalog.baselines.get("boosted_trees")(pictures, TWO, "classification", 0, None)


def test_trees_leave_out_the_fields_that_they_are_told_to() -> None:
    rows = [
        Example(f"{n}", target=float(n % 5), record=(("name", f"street {n % 5}"), ("debt", float(n * 7919 % 13))))
        for n in range(300)
    ]
    fit = catalog.baselines.get("boosted_trees")

    all_fields, without = fit(rows, None, "regression", 0, None), fit(rows, None, "regression", 0, None, without=("name",))

    assert [name for name, _ in all_fields.fields] == ["name", "debt"]
    assert [name for name, _ in without.fields] == ["debt"]
    renamed = [Example(row.id, record=(("name", "else"), row.record[1])) for row in rows]
    np.testing.assert_array_equal(without.ask(rows, None).values, without.ask(renamed, None).values)
