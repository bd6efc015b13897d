"""The base model as a baseline, without training: the answers of the most similar training rows."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from vertical_sdk.baselines.fitted import Arrays, decode_json, encode_json, read_targets, take_array
from vertical_sdk.baselines.frozen_base import FrozenBase
from vertical_sdk.catalog import baselines
from vertical_sdk.errors import AdapterError, DataError
from vertical_sdk.outputs import Outputs
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, LabelSpace, TaskName

__all__ = ["Nearest", "knn"]

NEIGHBOURS = (1, 3, 10, 30, 100)
MOST_NEIGHBOURS = 1000
"""The largest number that is read from a file."""
TEMPERATURES = (0.02, 0.05, 0.1, 0.2, 1.0)
"""Differences of cosine similarity: between two rows that differ by so much, the weight falls to 1/e at most."""
MOST_TRIED = 2000
"""Training rows on which the number of neighbours and the temperature are chosen."""
LARGEST = 64 << 20
"""Bytes of the features and targets that are stored."""
PART = 256
"""Rows that are compared with all training rows at a time."""
TINY = 1e-9
Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Nearest:
    """Weighted nearest neighbours by the cosine similarity of features.

    features     (training rows, width) of length 1, rounded to float16
    mean         (width,) subtracted from features before they get length 1
    targets      (training rows, k) 1 for a label of the row, else 0; or its number (training rows, 1)
    neighbours   how many training rows answer
    temperature  how fast the weight of a training row falls with its similarity
    """

    task: TaskName
    features: Floats
    mean: Floats
    targets: Floats
    neighbours: int
    temperature: float

    def predict(self, rows: Sequence[Example], base: FrozenBase) -> Outputs:
        """Predict the weighted shares of the neighbours' labels, or the weighted mean of their numbers.

        Raises AdapterError for a base whose features have another width.
        """
        read, prior = base.features(rows).numpy(), self.targets.mean(axis=0)
        if read.shape[1] != len(self.mean):
            raise AdapterError(
                f"the member knn compares features of {len(self.mean)} numbers, and those of the base have {read.shape[1]}. "
                "Train the adapter again."
            )
        features = _to_length_one(read, self.mean)
        parts = [np.zeros((0, self.targets.shape[1]))]
        for start in range(0, len(rows), PART):
            similarity, places = _find_nearest(features[start : start + PART] @ self.features.T, self.neighbours)
            parts.append(_average(similarity, self.targets[places], prior, self.neighbours, self.temperature))
        answers = np.concatenate(parts)
        return Outputs(values=answers[:, 0]) if get_task(self.task).numeric else Outputs(probabilities=answers)

    def to_arrays(self) -> Arrays:
        """Return features and targets; features in half precision, to which they were rounded when they were fitted."""
        return {
            "settings": encode_json({"task": self.task, "neighbours": self.neighbours}),
            "temperature": np.array([self.temperature]),
            "features": self.features.astype(np.float16),
            "mean": self.mean,
            "targets": self.targets.astype(_stored_type(self.task)),
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Nearest:
        """Restore the baseline from `to_arrays`. Raises ValueError for a label that a row has in part, or twice."""
        settings = decode_json(arrays["settings"])
        task, neighbours = settings["task"], settings["neighbours"]
        if type(neighbours) is not int or not 0 < neighbours <= MOST_NEIGHBOURS:
            raise ValueError(f"neighbours must be a number from 1 to {MOST_NEIGHBOURS}, and is {neighbours!r}")
        features = take_array(arrays, "features", None, None)
        targets = take_array(arrays, "targets", len(features), None).astype(np.float32)
        kind = get_task(task)
        if kind.numeric and targets.shape[1] != 1:
            raise ValueError(f"targets must be one number for each row, and are {targets.shape[1]}")
        if not kind.numeric and not ((targets == 0) | (targets == 1)).all():
            raise ValueError("targets must be 0 or 1 for each label")
        if kind.single_label and not (targets.sum(axis=1) == 1).all():
            raise ValueError("targets must name one label for each row")
        if not len(features) or (np.abs(features) > 1).any():
            raise ValueError("features must be those of at least one row, from -1 to 1")
        mean = take_array(arrays, "mean", features.shape[1])
        temperature = float(take_array(arrays, "temperature", 1, least=min(TEMPERATURES))[0])
        return cls(task, features.astype(np.float32), mean.astype(np.float32), targets, neighbours, temperature)


@baselines.register(
    "knn",
    tasks=("classification", "ordinal", "multilabel", "regression"),
    title="general base, nearest neighbours",
    reads_base=True,
    saves_as=Nearest,
)
def knn(
    train: Sequence[Example],
    labels: LabelSpace | None,
    task: TaskName,
    seed: int,
    base: FrozenBase,
    *,
    most: Annotated[int, Field(ge=1)] = 10_000,
) -> Nearest:
    """Answer as the most similar training rows do: by the cosine similarity of the frozen base's features, after their mean is subtracted.

    Weights of neighbours are exp(similarity / temperature), less that of the first row that is left out (Hechenbichler and Schliep,
    2004), so that an exchange at the edge changes no answer. One more neighbour has the mean target of all training rows, so no label
    is impossible. The number of neighbours and the temperature are those with the least loss on up to 2,000 training rows, each
    answered by rows of other groups.

    most  training rows that are kept, chosen by the seed: each costs a pass through the base, and is stored

    Raises DataError if there are no training rows, or what would be stored has more than 64 MB.
    """
    chosen = train if len(train) <= most else random.Random(seed).sample(list(train), most)  # noqa: S311
    kind, truth = get_task(task), read_targets(chosen, labels, task)
    if kind.numeric:
        targets = np.asarray(truth, dtype=np.float32).reshape(-1, 1)
    elif kind.single_label:
        targets = (np.asarray(truth)[:, None] == np.arange(len(labels or ()))).astype(np.float32)
    else:
        targets = np.asarray(truth, dtype=np.float32)
    read = base.features(chosen).numpy()
    size = (2 * read.shape[1] + _stored_type(task)().itemsize * targets.shape[1]) * len(read)
    if size > LARGEST:
        raise DataError(
            f"the nearest neighbours of {len(read)} training rows have {size >> 20} MB, and at most {LARGEST >> 20} MB are stored. "
            f"Set most of knn to {len(read) * LARGEST // size} or less."
        )
    mean = read.mean(axis=0)
    features = _to_length_one(read, mean).astype(np.float16).astype(np.float32)
    neighbours, temperature = _choose(features, targets, chosen, task, seed)
    return Nearest(task, features, mean, targets, neighbours, temperature)


def _stored_type(task: TaskName) -> Any:
    """The type of the stored targets: float16 has 0 and 1 exactly."""
    return np.float32 if get_task(task).numeric else np.float16


def _to_length_one(features: Floats, mean: Floats) -> Floats:
    centred = features - mean
    return np.asarray(centred / np.linalg.norm(centred, axis=1, keepdims=True).clip(TINY), dtype=np.float32)


def _find_nearest(similarity: Floats, neighbours: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Find the most similar training rows, and the first row that is left out; -inf if there are fewer.

    similarity  (rows, training rows)
    returns     similarities and places of the training rows, (rows, neighbours + 1) in order
    """
    count = min(neighbours + 1, similarity.shape[1])
    places = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
    nearest = np.take_along_axis(similarity, places, axis=1)
    order = np.argsort(-nearest, axis=1, kind="stable")
    missing = ((0, 0), (0, neighbours + 1 - count))
    ordered: NDArray[np.float64] = np.take_along_axis(nearest, order, axis=1).astype(np.float64)
    return (
        np.pad(ordered, missing, constant_values=-np.inf),
        np.pad(np.take_along_axis(places, order, axis=1), missing),
    )


def _average(
    similarity: NDArray[np.float64], targets: Floats, prior: Floats, neighbours: int, temperature: float
) -> NDArray[np.float64]:
    """Average the targets of the nearest training rows, and the prior as one row more: (rows, k).

    similarity  (rows, at least neighbours + 1) in order, as `_find_nearest` returns them
    targets     (rows, as many, k)
    """
    nearest = np.maximum(similarity[:, :1], -1.0)  # -inf: a row that is alone
    weights = np.exp((similarity - nearest) / temperature)
    known = np.isfinite(similarity[:, :neighbours])
    weights = (weights[:, :neighbours] - weights[:, neighbours : neighbours + 1] + TINY) * known
    weights *= neighbours / weights.sum(axis=1, keepdims=True).clip(TINY)
    total = np.einsum("rn,rnk->rk", weights, targets[:, :neighbours]) + prior
    return np.asarray(total / (weights.sum(axis=1, keepdims=True) + 1))


def _choose(features: Floats, targets: Floats, rows: Sequence[Example], task: TaskName, seed: int) -> tuple[int, float]:
    """Choose the number of neighbours and the temperature with the least loss, each row answered by rows of other groups."""
    tried = np.sort(np.random.default_rng(seed).permutation(len(rows))[:MOST_TRIED])
    groups = np.unique([f"g{row.group}" if row.group else f"r{n}" for n, row in enumerate(rows)], return_inverse=True)[1]
    prior = targets.mean(axis=0)
    loss = np.zeros((len(NEIGHBOURS), len(TEMPERATURES)))
    for part in _parts(tried):
        similarity = np.where(groups[part][:, None] == groups, -np.inf, features[part] @ features.T)
        nearest, places = _find_nearest(similarity, max(NEIGHBOURS))
        answers = targets[places]
        for i, neighbours in enumerate(NEIGHBOURS):
            for j, temperature in enumerate(TEMPERATURES):
                average = _average(nearest, answers, prior, neighbours, temperature)
                loss[i, j] += _measure_loss(average, targets[part], task)
    best = divmod(int(loss.argmin()), len(TEMPERATURES))
    return NEIGHBOURS[best[0]], TEMPERATURES[best[1]]


def _parts(places: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(places), PART):
        yield places[start : start + PART]


def _measure_loss(answers: NDArray[np.float64], truth: Floats, task: TaskName) -> float:
    """The sum over the rows of squared errors, or of negative log-likelihoods."""
    kind = get_task(task)
    if kind.numeric:
        return float(((answers - truth) ** 2).sum())
    surprise = -truth * np.log(answers.clip(TINY))
    if not kind.single_label:
        surprise -= (1 - truth) * np.log((1 - answers).clip(TINY))
    return float(surprise.sum())
