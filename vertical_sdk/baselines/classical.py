# ruff: noqa: ARG001, ARG002  (all baselines are given the same things)
"""Cheap classical systems: the commonest answer, and counts of words under a linear model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from vertical_sdk.baselines.fitted import Arrays, as_bytes, from_bytes
from vertical_sdk.catalog import baselines
from vertical_sdk.errors import DataError
from vertical_sdk.outputs import Outputs, prompt_of
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, LabelSpace, Task

__all__ = ["Majority", "Tfidf", "majority", "tfidf"]

WORD = r"(?u)\b\w+\b"
"""Words of one letter count too: a grade, a sign, a Chinese character."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Majority:
    """Says the same of every row.

    share  (labels,) the labels' shares, or (1,) the mean of numbers; None where texts are answered
    """

    task: Task
    share: Floats | None
    answer: str = ""

    def ask(self, rows: Sequence[Example], base: Any) -> Outputs:
        """The same answer for each."""
        if self.share is None:
            return Outputs(texts=[self.answer] * len(rows))
        if get_task(self.task).numeric:
            return Outputs(values=np.full(len(rows), self.share[0]))
        return Outputs(probabilities=np.tile(self.share, (len(rows), 1)))

    def arrays(self) -> Arrays:
        """Share, and what else there is."""
        kept = as_bytes({"task": self.task, "answer": self.answer})
        return {"kept": kept} | ({"share": self.share} if self.share is not None else {})

    @classmethod
    def of(cls, arrays: Arrays) -> Majority:
        """The same again."""
        kept = from_bytes(arrays["kept"])
        return cls(kept["task"], arrays.get("share"), kept["answer"])


@baselines.register("majority", saves_as=Majority, classical=4)
def majority(train: Sequence[Example], labels: LabelSpace | None, task: Task, seed: int, base: Any) -> Majority:
    """Says of every row what is commonest: the labels' shares of the training rows, their mean, or their commonest answer.

    Raises DataError where there are no training rows.
    """
    truth = _truth(train, labels, task)
    if get_task(task).written:
        return Majority(task, None, Counter(truth).most_common(1)[0][0])
    if get_task(task).numeric:
        return Majority(task, np.array([truth.mean()]))
    share = (
        truth.mean(axis=0) if not get_task(task).single_label else np.bincount(truth, minlength=len(labels or ())) / len(truth)
    )
    return Majority(task, share)


@dataclass(frozen=True, eq=False)
class Tfidf:
    """Words (1-2 together) and pieces of words (2-5 characters), weighed by TF-IDF, under one linear model a label.

    words, pieces  the features, in order
    idf            (features,) their weights
    weight, bias   (features, k) and (k,)
    """

    task: Task
    words: tuple[str, ...]
    pieces: tuple[str, ...]
    idf: Floats
    weight: NDArray[Any]
    bias: Floats

    def features(self, texts: Sequence[str]) -> Any:
        """Sparse (texts, features); each half has length 1, so that words and pieces weigh the same."""
        from scipy.sparse import hstack

        halves = []
        for kind, names, idf in (
            ("words", self.words, self.idf[: len(self.words)]),
            ("pieces", self.pieces, self.idf[len(self.words) :]),
        ):
            if names:
                vectorizer = _vectorizer(kind, vocabulary={name: i for i, name in enumerate(names)})
                vectorizer.idf_ = idf
                halves.append(vectorizer.transform(texts))
        return hstack(halves, format="csr")

    def ask(self, rows: Sequence[Example], base: Any) -> Outputs:
        """Probabilities of the labels, or numbers."""
        raw = np.asarray(self.features([prompt_of(row) for row in rows]) @ self.weight.astype(np.float64)) + self.bias
        if get_task(self.task).numeric:
            return Outputs(values=raw[:, 0])
        each = 0.5 * (1 + np.tanh(raw / 2))
        if not get_task(self.task).single_label:
            return Outputs(probabilities=each)
        return Outputs(probabilities=each / each.sum(axis=1, keepdims=True).clip(1e-300))

    def arrays(self) -> Arrays:
        """The weights in half precision: they are many, and each is small."""
        names = {"task": self.task, "words": self.words, "pieces": self.pieces}
        return {"kept": as_bytes(names), "idf": self.idf, "weight": self.weight.astype(np.float16), "bias": self.bias}

    @classmethod
    def of(cls, arrays: Arrays) -> Tfidf:
        """The same again."""
        kept = from_bytes(arrays["kept"])
        rest = (arrays["idf"], arrays["weight"], arrays["bias"])
        return cls(kept["task"], tuple(kept["words"]), tuple(kept["pieces"]), *rest)


@dataclass(frozen=True, eq=False)
class _Nearest:
    """Answers what the most similar training prompt was answered."""

    tfidf: Tfidf
    known: Any
    answers: list[str]

    def ask(self, rows: Sequence[Example], base: Any) -> Outputs:
        """The answer to the training prompt of greatest cosine similarity; the first of equals."""
        asked = self.tfidf.features([prompt_of(row) for row in rows])
        found: list[int] = []
        for start in range(0, asked.shape[0], 512):
            found.extend((asked[start : start + 512] @ self.known.T).toarray().argmax(axis=1).tolist())
        return Outputs(texts=[self.answers[i] for i in found])


@baselines.register("tfidf", title="TF-IDF + linear", saves_as=Tfidf, classical=1)
def tfidf(
    train: Sequence[Example],
    labels: LabelSpace | None,
    task: Task,
    seed: int,
    base: Any,
    *,
    C: float = 10.0,  # noqa: N803  (scikit-learn's name)
    alpha: float = 1.0,
    class_weight: Literal["balanced"] | None = None,
    min_df: Annotated[int, Field(ge=1)] = 1,
) -> Tfidf | _Nearest:
    """Counts of words and of pieces of words under a linear model: what a good classical system reaches in seconds.

    Features are TF-IDF of 1-2 words and of 2-5 characters within words, with logarithmic counts. On them stand, for labels,
    one logistic regression a label (for classification and ordinal scaled to sum to 1); for numbers, ridge regression; for
    generation, the answer to the most similar training prompt.

    C             inverse strength of the logistic regressions' L2 penalty
    alpha         strength of ridge regression's
    class_weight  "balanced": rare labels count as much as frequent ones
    min_df        features of fewer training rows are left out, which makes what is kept smaller

    Raises DataError where there are no training rows or no words in them.
    """
    truth = _truth(train, labels, task)
    empty, known = _learn_features([prompt_of(row) for row in train], task, min_df)
    if get_task(task).written:
        return _Nearest(empty, known, truth)
    if get_task(task).numeric:
        from sklearn.linear_model import Ridge

        model = Ridge(alpha=alpha, random_state=seed).fit(known, truth)
        return _with_weights(empty, model.coef_.reshape(1, -1), np.atleast_1d(model.intercept_))
    if not get_task(task).single_label:
        return _with_weights(empty, *_one_against_rest(known, truth, C, class_weight, None, seed))
    size = len(labels or ())
    weights = None
    if class_weight:
        counts = np.bincount(truth, minlength=size)
        weights = (len(truth) / (np.count_nonzero(counts) * counts.clip(1)))[truth]
    return _with_weights(empty, *_one_against_rest(known, truth[:, None] == np.arange(size), C, None, weights, seed))


def _truth(train: Sequence[Example], labels: LabelSpace | None, task: Task) -> Any:
    if not train:
        raise DataError("baseline: there are no training rows.")
    return get_task(task).references(train, labels)


def _vectorizer(kind: str, **options: Any) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    if kind == "words":
        return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=WORD, **options)
    return TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, **options)


def _learn_features(texts: list[str], task: Task, min_df: int) -> tuple[Tfidf, Any]:
    """A Tfidf with its features and no weights, and the training rows' features."""
    from scipy.sparse import hstack

    names, idf, halves = [], [], []
    for kind in ("words", "pieces"):
        vectorizer = _vectorizer(kind, min_df=min(min_df, len(texts)))
        try:
            halves.append(vectorizer.fit_transform(texts))
        except ValueError as error:
            raise DataError(f"baseline tfidf: the {len(texts)} training texts hold no words ({error}).") from None
        names.append(tuple(vectorizer.get_feature_names_out().tolist()))
        idf.append(vectorizer.idf_)
    empty = Tfidf(task, names[0], names[1], np.concatenate(idf), np.zeros((0, 0)), np.zeros(0))
    return empty, hstack(halves, format="csr")


def _with_weights(empty: Tfidf, weight: NDArray[Any], bias: Floats) -> Tfidf:
    """`weight` (k, features)."""
    return Tfidf(empty.task, empty.words, empty.pieces, empty.idf, np.ascontiguousarray(weight.T, dtype=np.float32), bias)


def _one_against_rest(
    known: Any, truth: NDArray[Any], strength: float, class_weight: str | None, weights: Floats | None, seed: int
) -> tuple[NDArray[Any], Floats]:
    """For each label a logistic regression by itself: (labels, features), (labels,). One that all or no rows have is certain.

    Coordinate descent on the dual (Hsieh et al., 2008) takes seconds where L-BFGS on all labels at once takes half a
    minute, for the same quality.
    """
    from sklearn.linear_model import LogisticRegression

    size = truth.shape[1]
    weight, bias = np.zeros((size, known.shape[1]), dtype=np.float32), np.zeros(size)
    for k in range(size):
        has = truth[:, k] != 0
        if has.all() or not has.any():
            bias[k] = 1000.0 if has[0] else -1000.0
            continue
        if size == 2 and k == 1 and class_weight is None and (has != (truth[:, 0] != 0)).all():
            weight[1], bias[1] = -weight[0], -bias[0]
            continue
        model = LogisticRegression(
            C=strength, solver="liblinear", dual=True, tol=0.01, max_iter=10_000, class_weight=class_weight, random_state=seed
        )
        model.fit(known, has, sample_weight=weights)
        weight[k], bias[k] = model.coef_[0], model.intercept_[0]
    return weight, bias
