"""Gradient-boosted trees on records and numbers: the strong baseline for rows of fields instead of sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from vertical_sdk.baselines.fitted import Arrays, decode_json, encode_json, read_targets, take_array
from vertical_sdk.calibration.temperature import to_probabilities
from vertical_sdk.catalog import baselines
from vertical_sdk.errors import DataError, MissingExtra
from vertical_sdk.kernels.threads import SMALL_TABLE, count_threads_for
from vertical_sdk.outputs import Outputs
from vertical_sdk.tasks import get_task
from vertical_sdk.trees import Trees, join_trees, parse_trees, read_trees
from vertical_sdk.types import Example, LabelSpace, TaskName

__all__ = ["BoostedTrees", "boosted_trees"]

Positive = Annotated[int, Field(ge=1)]
Fields = tuple[tuple[str, tuple[str, ...] | None], ...]
"""Names of fields; with the words of the field in order, or None for a field of numbers."""


@dataclass(frozen=True, eq=False)
class BoostedTrees:
    """Boosted trees, and how to turn fields into numbers.

    trees   one output for two labels or for numbers, else one for each label; for multilabel, a label that no row or every row has
            has no trees
    share   (labels,) the labels' shares of the training rows: the prediction for a label without trees
    values  number of a row's `values`, which come after its fields in the table
    """

    task: TaskName
    fields: Fields
    trees: Trees
    share: NDArray[np.float64]
    values: int = 0

    def predict(self, rows: Sequence[Example], base: Any) -> Outputs:
        """Predict probabilities of the labels, or numbers.

        Raises DataError for a row without the values that the trees read.
        """
        table, task = _build_table(rows, self.fields, self.values), get_task(self.task)
        sums = self.trees.sums(table, _count_outputs(self.task, len(self.share)))
        if task.numeric:
            return Outputs(values=sums[:, 0])
        if not task.single_label:
            columns = zip(_sigmoid(sums).T, self.share, strict=True)
            known = [
                column if self.trees.has_output(k) else np.full(len(rows), share) for k, (column, share) in enumerate(columns)
            ]
            return Outputs(probabilities=np.stack(known, axis=1))
        if len(self.share) == 2:
            result = _sigmoid(sums[:, 0])
            return Outputs(probabilities=np.stack([1 - result, result], axis=1))
        return Outputs(probabilities=to_probabilities(sums))

    def fill_row(self, row: Example, rng: np.random.Generator) -> Example:
        """Give a row of a self-test values that its record and `values` lack, near the numbers that the trees compare with."""
        known = dict(row.record)
        cells = list(row.record)
        for column, (name, words) in enumerate(self.fields):
            if name not in known:
                cells.append((name, self._draw_number(column, rng) if words is None else words[int(len(words) * rng.random())]))
        if self.values and _value_count(row) != self.values:
            numbers = [self._draw_number(len(self.fields) + number, rng) for number in range(self.values)]
            row = replace(row, values=np.array(numbers))
        return replace(row, record=tuple(cells))

    def _draw_number(self, column: int, rng: np.random.Generator) -> float:
        """One of the numbers that the trees compare a column with."""
        numbers = self.trees.threshold[self.trees.feature == column]
        return float(numbers[int(len(numbers) * rng.random())]) if len(numbers) else rng.random()

    def to_arrays(self) -> Arrays:
        """Return fields and trees."""
        settings = {"task": self.task, "fields": self.fields, "values": self.values}
        return {"settings": encode_json(settings), "share": self.share, **self.trees.to_arrays()}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> BoostedTrees:
        """Restore the baseline from `to_arrays`, or from the arrays of earlier versions, which had LightGBM's text of the trees."""
        settings = decode_json(arrays["settings"])
        fields = tuple((str(name), None if words is None else tuple(map(str, words))) for name, words in settings["fields"])
        task, values = settings["task"], settings["values"]
        if not isinstance(values, int) or values < 0 or any(words == () for _, words in fields):
            raise ValueError(f"values must be a number of columns, and is {values!r}; a field of words needs words")
        share = take_array(arrays, "share", None, least=0)
        texts = settings.get("models")
        trees = read_trees(arrays) if texts is None else _parse_models(texts, task, len(share))
        trees.require(outputs=_count_outputs(task, len(share)), features=len(fields) + values)
        return cls(task, fields, trees, share, values)


def _count_outputs(task: TaskName, labels: int) -> int:
    """The numbers that the trees of a task add up to."""
    return 1 if get_task(task).numeric or (get_task(task).single_label and labels == 2) else labels


def _parse_models(texts: Sequence[str], task: TaskName, labels: int) -> Trees:
    """Parse LightGBM's texts: one for all labels or for numbers; for multilabel one for each label, "" for one without trees.

    Raises ValueError for a text of another objective.
    """
    objective, kind = "binary sigmoid:1", get_task(task)
    if kind.numeric:
        objective = "regression"
    elif kind.single_label and labels != 2:
        objective = f"multiclass num_class:{labels}"
    several = kind.labelled and not kind.single_label
    if len(texts) != (labels if several else 1):
        raise ValueError(f"{len(texts)} texts of trees do not fit {labels} labels of {task}")
    if not several:
        return parse_trees(texts[0], objective)
    return join_trees([parse_trees(text, objective) if text else None for text in texts])


def _sigmoid(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-sums)))


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
        "num_threads": count_threads_for(table.size, SMALL_TABLE),
        "verbosity": -1,
    }

    def grow(target: NDArray[Any], objective: dict[str, Any]) -> str:
        data = lightgbm.Dataset(table, label=target, categorical_feature=categories, free_raw_data=False)
        return str(lightgbm.train(params | objective, data, num_boost_round=n_estimators).model_to_string())

    if get_task(task).numeric:
        texts, share = [grow(truth, {"objective": "regression"})], np.zeros(1)
    elif not get_task(task).single_label:
        texts = [grow(truth[:, k], {"objective": "binary"}) if 0 < truth[:, k].sum() < len(truth) else "" for k in range(size)]
        share = truth.mean(axis=0)
    else:
        texts = [grow(truth, {"objective": "binary"} if size == 2 else {"objective": "multiclass", "num_class": size})]
        share = np.bincount(truth, minlength=size) / len(truth)
    return BoostedTrees(task, fields, _parse_models(texts, task, len(share)), share, values)


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
