# ruff: noqa: ARG001  (all baselines are given the same things)
"""Cheap systems that a specialist has to beat to be worth its price.

A baseline is a function in `catalog.baselines`: from training rows, and the rows to speak about, to Outputs. `base` is the
general base model, for those that need it; the classical ones here do not. Its keyword-only parameters are what a recipe
may set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.catalog import baselines
from vertical_sdk.errors import DataError
from vertical_sdk.evaluation.outputs import Outputs, prompt, references
from vertical_sdk.types import Example, LabelSpace, Task

__all__ = ["majority", "tfidf"]

WORD = r"(?u)\b\w+\b"
"""Words of one letter count too: a grade, a sign, a Chinese character."""


@baselines.register("majority")
def majority(
    train: Sequence[Example], rows: Sequence[Example], labels: LabelSpace | None, task: Task, seed: int, base: Any
) -> Outputs:
    """Says of every row what is commonest: the labels' shares of the training rows, their mean, or their commonest answer.

    Raises DataError where there are no training rows.
    """
    truth = _truth(train, labels, task)
    if task == "generation":
        return Outputs(texts=[Counter(truth).most_common(1)[0][0]] * len(rows))
    if task == "regression":
        return Outputs(values=np.full(len(rows), truth.mean()))
    share = truth.mean(axis=0) if task == "multilabel" else np.bincount(truth, minlength=len(labels or ())) / len(truth)
    return Outputs(scores=np.tile(share, (len(rows), 1)))


@baselines.register("tfidf")
def tfidf(
    train: Sequence[Example],
    rows: Sequence[Example],
    labels: LabelSpace | None,
    task: Task,
    seed: int,
    base: Any,
    *,
    C: float = 10.0,  # noqa: N803  (scikit-learn's name)
    alpha: float = 1.0,
    class_weight: Literal["balanced"] | None = None,
) -> Outputs:
    """Counts of words and of pieces of words under a linear model: what a good classical system reaches in seconds.

    Features are TF-IDF of 1-2 words and of 2-5 characters within words, with logarithmic counts. On them stand, for labels,
    one logistic regression a label (for classification and ordinal scaled to sum to 1); for numbers, ridge regression; for
    generation, the answer to the most similar training prompt.

    C             inverse strength of the logistic regressions' L2 penalty
    alpha         strength of ridge regression's
    class_weight  "balanced": rare labels count as much as frequent ones

    Raises DataError where there are no training rows or no words in them.
    """
    truth = _truth(train, labels, task)
    known, asked = _features([prompt(row) for row in train], [prompt(row) for row in rows])
    if task == "generation":
        return Outputs(texts=[truth[i] for i in _nearest(known, asked)])
    if task == "regression":
        from sklearn.linear_model import Ridge

        return Outputs(values=Ridge(alpha=alpha, random_state=seed).fit(known, truth).predict(asked).astype(np.float64))
    if task == "multilabel":
        return Outputs(scores=_one_against_rest(known, truth, asked, C, class_weight, None, seed))
    size = len(labels or ())
    weights = None
    if class_weight:
        counts = np.bincount(truth, minlength=size)
        weights = (len(truth) / (np.count_nonzero(counts) * counts.clip(1)))[truth]
    scores = _one_against_rest(known, truth[:, None] == np.arange(size), asked, C, None, weights, seed)
    return Outputs(scores=scores / scores.sum(axis=1, keepdims=True))


def _truth(train: Sequence[Example], labels: LabelSpace | None, task: Task) -> Any:
    if not train:
        raise DataError("baseline: there are no training rows.")
    return references(train, labels, task)


def _features(train: list[str], rows: list[str]) -> tuple[Any, Any]:
    """Sparse (rows, features): each half has length 1 a row, so that words and characters weigh the same."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=WORD)
    pieces = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    try:
        known = hstack([words.fit_transform(train), pieces.fit_transform(train)], format="csr")
    except ValueError as error:
        raise DataError(f"baseline tfidf: the {len(train)} training texts hold no words ({error}).") from None
    return known, hstack([words.transform(rows), pieces.transform(rows)], format="csr")


def _one_against_rest(
    known: Any,
    truth: NDArray[Any],
    asked: Any,
    strength: float,
    class_weight: str | None,
    weights: NDArray[np.float64] | None,
    seed: int,
) -> NDArray[np.float64]:
    """The probability of each label by itself (rows, labels); a label that no or every training row has is certain.

    Coordinate descent on the dual (Hsieh et al., 2008) takes seconds where L-BFGS on all labels at once takes half a
    minute, for the same quality.
    """
    from sklearn.linear_model import LogisticRegression

    scores = np.zeros((asked.shape[0], truth.shape[1]))
    for k in range(truth.shape[1]):
        has = truth[:, k] != 0
        if has.all() or not has.any():
            scores[:, k] = float(has[0])
            continue
        if truth.shape[1] == 2 and k == 1 and class_weight is None and (has != (truth[:, 0] != 0)).all():
            scores[:, 1] = 1 - scores[:, 0]
            continue
        model = LogisticRegression(
            C=strength, solver="liblinear", dual=True, max_iter=10_000, class_weight=class_weight, random_state=seed
        )
        scores[:, k] = model.fit(known, has, sample_weight=weights).predict_proba(asked)[:, 1]
    return scores


def _nearest(known: Any, asked: Any, at_once: int = 512) -> list[int]:
    """For each asked row the known row of greatest cosine similarity; the first of equals."""
    found: list[int] = []
    for start in range(0, asked.shape[0], at_once):
        similar = (asked[start : start + at_once] @ known.T).toarray()
        found.extend(similar.argmax(axis=1).tolist())
    return found
