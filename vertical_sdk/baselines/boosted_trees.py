"""Gradient-boosted trees on records and numbers: the strong baseline for rows of fields instead of sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from vertical_sdk.baselines.fitted import Arrays, decode_json, encode_json, read_targets
from vertical_sdk.catalog import baselines
from vertical_sdk.errors import DataError, MissingExtra
from vertical_sdk.outputs import Outputs
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, LabelSpace, TaskName

__all__ = ["BoostedTrees", "boosted_trees"]

Positive = Annotated[int, Field(ge=1)]
Fields = tuple[tuple[str, tuple[str, ...] | None], ...]
"""Names of fields; with the words of the field in order, or None for a field of numbers."""


@dataclass(frozen=True, eq=False)
class BoostedTrees:
    """LightGBM's trees, stored in its own text format, and how to turn fields into numbers.

    models  one text for labels or numbers; for multilabel one per label ("" for a label that no row or every row has)
    share   (labels,) the labels' shares of the training rows: the prediction for a label without trees
    values  number of a row's `values`, which come after its fields in the table
    """

    task: TaskName
    fields: Fields
    models: tuple[str, ...]
    share: NDArray[np.float64]
    values: int = 0

    def predict(self, rows: Sequence[Example], base: Any) -> Outputs:
        """Predict probabilities of the labels, or numbers.

        Raises DataError for a row without the values that the trees read.
        """
        import lightgbm

        table, task = _build_table(rows, self.fields, self.values), get_task(self.task)
        raw = [np.asarray(lightgbm.Booster(model_str=text).predict(table)) if text else None for text in self.models]
        if task.labelled and not task.single_label:
            columns = [np.full(len(rows), self.share[k]) if column is None else column for k, column in enumerate(raw)]
            return Outputs(probabilities=np.stack(columns, axis=1))
        (result,) = raw
        assert result is not None
        if task.numeric:
            return Outputs(values=result)
        return Outputs(probabilities=result if result.ndim == 2 else np.stack([1 - result, result], axis=1))

    def to_arrays(self) -> Arrays:
        """Return fields and trees."""
        settings = {"task": self.task, "fields": self.fields, "models": self.models, "values": self.values}
        return {"settings": encode_json(settings), "share": self.share}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> BoostedTrees:
        """Restore the baseline from `to_arrays`."""
        settings = decode_json(arrays["settings"])
        fields = tuple((name, None if words is None else tuple(words)) for name, words in settings["fields"])
        return cls(settings["task"], fields, tuple(settings["models"]), arrays["share"], settings["values"])


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
    task: TaskName,
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
    """Fit gradient-boosted trees (LightGBM; Ke et al., 2017) on the rows' records, and on their `values` of shape (n,).

    Words are categories; a word that no training row has counts as unknown, as does a missing number. Series of several channels
    and images are not read. The options have the names of LightGBM's scikit-learn interface.

    without  fields that are not read, such as names that a record contains for the sake of a metric

    Raises DataError for rows with neither fields nor values, or with different numbers of values; MissingExtra if LightGBM is not
    installed.
    """
    try:
        import lightgbm
    except (ImportError, OSError) as error:
        raise MissingExtra("trees", f"boosted trees ({error})") from None
    truth = read_targets(train, labels, task)
    values = next((_value_count(row) for row in train if _value_count(row)), 0)
    empty = next((row for row in train if not row.record and not values), None)
    if empty is not None:
        raise DataError(
            f"Row {empty.id} has no fields and no (n,) values, which are all that boosted_trees reads. Use tfidf for text."
        )
    fields = tuple(field for field in _find_fields(train) if field[0] not in without)
    table = _build_table(train, fields, values)
    categories = [i for i, (_, words) in enumerate(fields) if words is not None]
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
        data = lightgbm.Dataset(table, label=target, categorical_feature=categories, free_raw_data=False)
        return str(lightgbm.train(params | objective, data, num_boost_round=n_estimators).model_to_string())

    if get_task(task).numeric:
        return BoostedTrees(task, fields, (grow(truth, {"objective": "regression"}),), np.zeros(1), values)
    if not get_task(task).single_label:
        models = [grow(truth[:, k], {"objective": "binary"}) if 0 < truth[:, k].sum() < len(truth) else "" for k in range(size)]
        return BoostedTrees(task, fields, tuple(models), truth.mean(axis=0), values)
    objective = {"objective": "binary"} if size == 2 else {"objective": "multiclass", "num_class": size}
    return BoostedTrees(task, fields, (grow(truth, objective),), np.bincount(truth, minlength=size) / len(truth), values)


def _value_count(row: Example) -> int:
    """Count the numbers of a row's `values`; 0 if they do not have the shape (n,)."""
    return 0 if row.values is None or row.values.ndim != 1 else len(row.values)


def _find_fields(rows: Sequence[Example]) -> Fields:
    """List every field of the rows. A field is of words if any row has a word in it."""
    words_of: dict[str, set[str]] = {}
    for row in rows:
        for name, value in row.record:
            words = words_of.setdefault(name, set())
            if isinstance(value, str):
                words.add(value)
    return tuple((name, tuple(sorted(words)) if words else None) for name, words in words_of.items())


def _build_table(rows: Sequence[Example], fields: Fields, values: int) -> NDArray[np.float64]:
    """Turn rows into numbers (rows, fields + values); NaN if unknown.

    Raises DataError for a row with another number of values.
    """
    table = np.full((len(rows), len(fields) + values), np.nan)
    columns = {
        name: (i, None if words is None else {word: float(n) for n, word in enumerate(words)})
        for i, (name, words) in enumerate(fields)
    }
    for n, row in enumerate(rows):
        if values and _value_count(row) != values:
            text = f" ({row.text[:40]!r})" if row.text else ""
            raise DataError(
                f"Row {row.id}{text} has {_value_count(row) or 'no'} (n,) values, but boosted_trees needs {values}. "
                "The recipe's reader or cleaners may have failed to turn this row into numbers."
            )
        if values:
            table[n, len(fields) :] = row.values
        for name, value in row.record:
            column, codes = columns.get(name, (None, None))
            if column is None or value is None:
                continue
            if codes is not None:
                table[n, column] = codes.get(value if isinstance(value, str) else f"{value:g}", np.nan)
            elif not isinstance(value, str):
                table[n, column] = value
    return table
