# ruff: noqa: ARG001, ARG002  (all baselines are given the same things)
"""Gradient-boosted trees on records and numbers: the strong baseline wherever rows are fields and not sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from vertical_sdk.baselines.fitted import Arrays, as_bytes, from_bytes
from vertical_sdk.catalog import baselines
from vertical_sdk.errors import DataError, MissingExtra
from vertical_sdk.outputs import Outputs
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, LabelSpace, Task

__all__ = ["BoostedTrees", "boosted_trees"]

Positive = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, eq=False)
class BoostedTrees:
    """LightGBM's trees, kept in its own text format, and how fields become numbers.

    fields  name and, for a field of words, its words in order
    model   one text for labels or numbers; for multilabel one a label ("" for a label that no or every row has)
    share   (labels,) the labels' shares of the training rows, which such a label is given
    values  how many numbers of a row's `values` stand behind its fields
    """

    task: Task
    fields: tuple[tuple[str, tuple[str, ...] | None], ...]
    models: tuple[str, ...]
    share: NDArray[np.float64]
    values: int = 0

    def ask(self, rows: Sequence[Example], base: Any) -> Outputs:
        """Probabilities of the labels, or numbers.

        Raises DataError for a row without the values that the trees read.
        """
        import lightgbm

        table = _table(rows, self.fields, self.values)
        said = [np.asarray(lightgbm.Booster(model_str=text).predict(table)) if text else None for text in self.models]
        if get_task(self.task).numeric:
            assert said[0] is not None
            return Outputs(values=said[0])
        if not get_task(self.task).single_label:
            columns = [np.full(len(rows), self.share[k]) if one is None else one for k, one in enumerate(said)]
            return Outputs(probabilities=np.stack(columns, axis=1))
        assert said[0] is not None
        return Outputs(probabilities=said[0] if said[0].ndim == 2 else np.stack([1 - said[0], said[0]], axis=1))

    def arrays(self) -> Arrays:
        """Fields and trees."""
        kept = {"task": self.task, "fields": self.fields, "models": self.models, "values": self.values}
        return {"kept": as_bytes(kept), "share": self.share}

    @classmethod
    def of(cls, arrays: Arrays) -> BoostedTrees:
        """The same again."""
        kept = from_bytes(arrays["kept"])
        fields = tuple((name, None if words is None else tuple(words)) for name, words in kept["fields"])
        return cls(kept["task"], fields, tuple(kept["models"]), arrays["share"], kept.get("values", 0))


@baselines.register(
    "boosted_trees",
    tasks=("classification", "ordinal", "multilabel", "regression"),
    title="boosted trees",
    saves_as=BoostedTrees,
    classical=2,
    extra="trees",
)
def boosted_trees(
    train: Sequence[Example],
    labels: LabelSpace | None,
    task: Task,
    seed: int,
    base: Any,
    *,
    n_estimators: Positive = 300,
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.03,
    num_leaves: Annotated[int, Field(ge=2)] = 15,
    min_child_samples: Positive = 20,
    subsample: Annotated[float, Field(gt=0, le=1)] = 0.8,
    colsample_bytree: Annotated[float, Field(gt=0, le=1)] = 0.5,
    reg_lambda: Annotated[float, Field(ge=0)] = 1.0,
    without: tuple[str, ...] = (),
) -> BoostedTrees:
    """Gradient-boosted trees (LightGBM; Ke et al., 2017) on the rows' records, and on their `values` where those are (n,).

    Words are categories, of which those that no training row has count as unknown; so do missing numbers. Series of several
    channels and images are not read. Names are those of LightGBM's scikit-learn interface.

    without  fields that are not read, such as names that stand in a record for a metric's sake

    Raises DataError for rows with neither, or with different numbers of values; MissingExtra without LightGBM.
    """
    try:
        import lightgbm
    except (ImportError, OSError) as error:
        raise MissingExtra("trees", f"boosted trees ({error})") from None
    if not train:
        raise DataError("boosted_trees: there are no training rows.")
    size_of = next((_size(row) for row in train if _size(row)), 0)
    bare = next((row for row in train if not row.record and not size_of), None)
    if bare is not None:
        raise DataError(f"boosted_trees: row {bare.id} has no fields and no (n,) values; it reads these, and tfidf reads text.")
    fields = tuple(field for field in _fields(train) if field[0] not in without)
    table, truth = _table(train, fields, size_of), get_task(task).references(train, labels)
    words = [i for i, (_, known) in enumerate(fields) if known is not None]
    size = len(labels) if labels else 1
    params = {
        "learning_rate": learning_rate,
        "num_leaves": num_leaves,
        "min_data_in_leaf": min_child_samples,
        "bagging_fraction": subsample,
        "bagging_freq": 1,
        "feature_fraction": colsample_bytree,
        "lambda_l2": reg_lambda,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }

    def grow(target: NDArray[Any], objective: dict[str, Any]) -> str:
        data = lightgbm.Dataset(table, label=target, categorical_feature=words, free_raw_data=False)
        return str(lightgbm.train(params | objective, data, num_boost_round=n_estimators).model_to_string())

    if get_task(task).numeric:
        return BoostedTrees(task, fields, (grow(truth, {"objective": "regression"}),), np.zeros(1), size_of)
    if not get_task(task).single_label:
        models = [grow(truth[:, k], {"objective": "binary"}) if 0 < truth[:, k].sum() < len(truth) else "" for k in range(size)]
        return BoostedTrees(task, fields, tuple(models), truth.mean(axis=0), size_of)
    objective = {"objective": "binary"} if size == 2 else {"objective": "multiclass", "num_class": size}
    return BoostedTrees(task, fields, (grow(truth, objective),), np.bincount(truth, minlength=size) / len(truth), size_of)


def _size(row: Example) -> int:
    """How many numbers a row has beside its fields; none where its values are no plain list."""
    return 0 if row.values is None or row.values.ndim != 1 else len(row.values)


def _fields(rows: Sequence[Example]) -> tuple[tuple[str, tuple[str, ...] | None], ...]:
    """Every field of the rows; one is of words where any row has a word in it."""
    found: dict[str, set[str]] = {}
    for row in rows:
        for name, value in row.record:
            words = found.setdefault(name, set())
            if isinstance(value, str):
                words.add(value)
    return tuple((name, tuple(sorted(words)) if words else None) for name, words in found.items())


def _table(rows: Sequence[Example], fields: Sequence[tuple[str, tuple[str, ...] | None]], values: int) -> NDArray[np.float64]:
    """Numbers (rows, fields + values); NaN for what is not known."""
    table = np.full((len(rows), len(fields) + values), np.nan)
    places = {
        name: (i, None if words is None else {word: float(n) for n, word in enumerate(words)})
        for i, (name, words) in enumerate(fields)
    }
    for n, row in enumerate(rows):
        if values and _size(row) != values:
            said = f" ({row.text[:40]!r})" if row.text else ""
            raise DataError(
                f"boosted_trees: row {row.id}{said} has {_size(row) or 'no'} (n,) values, and {values} are read. A row that the "
                "recipe's reader or cleaners cannot make numbers of has none."
            )
        if values:
            table[n, len(fields) :] = row.values
        for name, value in row.record:
            place, codes = places.get(name, (None, None))
            if place is None or value is None:
                continue
            if codes is not None:
                table[n, place] = codes.get(value if isinstance(value, str) else f"{value:g}", np.nan)
            elif not isinstance(value, str):
                table[n, place] = value
    return table
