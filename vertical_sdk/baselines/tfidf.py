"""The TF-IDF baseline: counts of words and pieces of words under a linear model."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from vertical_sdk.baselines.fitted import Arrays, decode_json, encode_json, read_targets, take_array
from vertical_sdk.catalog import baselines
from vertical_sdk.data.scripts import CJK
from vertical_sdk.errors import DataError
from vertical_sdk.outputs import Outputs, prompt_of
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, LabelSpace, TaskName

__all__ = ["Tfidf", "tfidf"]

WORD = r"(?u)\b\w+\b"
"""Words of one letter count too: a grade, a sign."""
WORD_BY_SCRIPT = rf"(?u)[{CJK}]|[^\W{CJK}]+"
"""The same, and each Han, Kana or Hangul character by itself, as no space ends a word there. Two together are a pair."""
PIECES = (2, 5)
"""Characters of the shortest and the longest piece of a word."""
CERTAIN = 1000.0
"""Log-odds of a label that every training row has; its negative for a label that no training row has."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Tfidf:
    """Words (1-2 together) and pieces of words (2-5 characters), weighted by TF-IDF, under one linear model per label.

    words, pieces  the features, in order
    by_script      whether Han, Kana and Hangul characters are words. False for what was stored before they were
    idf            (features,) their weights
    weight, bias   (features, k) and (k,)
    """

    task: TaskName
    words: tuple[str, ...]
    pieces: tuple[str, ...]
    idf: Floats
    weight: NDArray[Any]
    bias: Floats
    by_script: bool = True

    @functools.cached_property
    def analyzers(self) -> tuple[tuple[Callable[[str], list[str]], dict[str, int]], ...]:
        """How each half reads a text, and the place of each of its features: built once, since there are about 10⁵ of them."""
        words = _vectorizer("words", by_script=self.by_script).build_analyzer()
        pieces = _vectorizer("pieces").build_analyzer()
        places = {name: len(self.words) + place for place, name in enumerate(self.pieces)}
        return (words, {name: place for place, name in enumerate(self.words)}), (pieces, places)

    def features(self, texts: Sequence[str]) -> Any:
        """Compute sparse features (texts, features). Each half has length 1, so that words and pieces weigh the same.

        They are those of scikit-learn's TfidfVectorizer, whose checks of its own arguments take longer than a short text.
        """
        from scipy.sparse import csr_matrix

        places: list[int] = []
        counts: list[int] = []
        sizes: list[int] = []
        for text in texts:
            for analyze, vocabulary in self.analyzers:
                found = Counter(map(vocabulary.get, analyze(text)))
                del found[None]  # what no training text has
                known = sorted(found)  # type: ignore[type-var]
                places += known  # type: ignore[arg-type]
                counts += map(found.__getitem__, known)
                sizes.append(len(known))
        indices = np.array(places, dtype=np.int32)
        weights = (np.log(np.array(counts, dtype=np.float64)) + 1) * self.idf[indices]
        half = np.repeat(np.arange(len(sizes)), sizes)
        weights /= np.sqrt(np.bincount(half, weights=weights**2, minlength=len(sizes)))[half]
        ends = np.cumsum([0, *sizes])[::2]  # two halves a text
        return csr_matrix((weights, indices, ends), shape=(len(texts), len(self.idf)))

    def predict(self, rows: Sequence[Example], base: Any) -> Outputs:
        """Predict probabilities of the labels, or numbers."""
        features = self.features([prompt_of(row) for row in rows])
        used = np.unique(features.indices)  # of the weights only these become float64: a text has a few hundred features
        raw = np.asarray(features[:, used] @ self.weight[used].astype(np.float64)) + self.bias
        if get_task(self.task).numeric:
            return Outputs(values=raw[:, 0])
        by_label = 0.5 * (1 + np.tanh(raw / 2))
        if not get_task(self.task).single_label:
            return Outputs(probabilities=by_label)
        return Outputs(probabilities=by_label / by_label.sum(axis=1, keepdims=True).clip(1e-300))

    def to_arrays(self) -> Arrays:
        """Return features and weights; the weights in half precision, as there are many and each is small."""
        settings = encode_json({"task": self.task, "words": self.words, "pieces": self.pieces, "by_script": self.by_script})
        return {"settings": settings, "idf": self.idf, "weight": self.weight.astype(np.float16), "bias": self.bias}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Tfidf:
        """Restore the baseline from `to_arrays`. Raises ValueError for a feature that is named twice."""
        settings = decode_json(arrays["settings"])
        words, pieces = (tuple(map(str, settings[name])) for name in ("words", "pieces"))
        for name, features in (("words", words), ("pieces", pieces)):
            if len(set(features)) < len(features):
                raise ValueError(f"{name} contains the same feature twice")
        idf = take_array(arrays, "idf", len(words) + len(pieces))
        weight = take_array(arrays, "weight", len(idf), None)
        bias = take_array(arrays, "bias", weight.shape[1])
        return cls(settings["task"], words, pieces, idf, weight, bias, by_script=bool(settings.get("by_script", False)))


@dataclass(frozen=True, eq=False)
class _NearestPrompt:
    """Answers with the answer to the most similar training prompt.

    known  (training rows, features) sparse
    """

    tfidf: Tfidf
    known: Any
    answers: list[str]

    def predict(self, rows: Sequence[Example], base: Any) -> Outputs:
        """Copy the answer to the training prompt with the greatest cosine similarity; among equals, the first."""
        prompts = self.tfidf.features([prompt_of(row) for row in rows])
        nearest: list[int] = []
        for start in range(0, prompts.shape[0], 512):
            nearest.extend((prompts[start : start + 512] @ self.known.T).toarray().argmax(axis=1).tolist())
        return Outputs(texts=[self.answers[i] for i in nearest])


@baselines.register("tfidf", title="TF-IDF + linear", saves_as=Tfidf, classical=1)
def tfidf(
    train: Sequence[Example],
    labels: LabelSpace | None,
    task: TaskName,
    seed: int,
    base: Any,
    *,
    C: float = 10.0,  # noqa: N803  (scikit-learn's name)
    alpha: float = 1.0,
    class_weight: Literal["balanced"] | None = None,
    min_df: Annotated[int, Field(ge=1)] = 1,
) -> Tfidf | _NearestPrompt:
    """Fit a linear model on counts of words and of pieces of words: what a good classical system reaches in seconds.

    Features are TF-IDF of 1-2 words and of 2-5 characters within words, with logarithmic counts. A Han, Kana or Hangul character
    is a word. The model depends on the task:

        labels      one logistic regression per label (for classification and ordinal, scaled to sum to 1)
        numbers     ridge regression
        generation  the answer to the most similar training prompt

    C             inverse strength of the L2 penalty of logistic regression
    alpha         strength of the L2 penalty of ridge regression
    class_weight  "balanced": rare labels count as much as frequent ones
    min_df        leave out features that fewer training rows have, which makes the stored model smaller

    Raises DataError if there are no training rows, or no words in them.
    """
    truth = read_targets(train, labels, task)
    kind = get_task(task)
    unweighted, known = _learn_features([prompt_of(row) for row in train], task, min_df)
    if kind.written:
        return _NearestPrompt(unweighted, known, truth)
    if kind.numeric:
        from sklearn.linear_model import Ridge

        model = Ridge(alpha=alpha, random_state=seed).fit(known, truth)
        return _with_weights(unweighted, model.coef_.reshape(1, -1), np.atleast_1d(model.intercept_))
    if not kind.single_label:
        return _with_weights(unweighted, *_one_against_rest(known, truth, C, class_weight, None, seed))
    size = len(labels or ())
    weights = None
    if class_weight:
        counts = np.bincount(truth, minlength=size)
        weights = (len(truth) / (np.count_nonzero(counts) * counts.clip(1)))[truth]
    return _with_weights(unweighted, *_one_against_rest(known, truth[:, None] == np.arange(size), C, None, weights, seed))


def _vectorizer(kind: str, *, by_script: bool = True, **options: Any) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    if kind == "words":
        return TfidfVectorizer(
            ngram_range=(1, 2), sublinear_tf=True, token_pattern=WORD_BY_SCRIPT if by_script else WORD, **options
        )
    return TfidfVectorizer(analyzer="char_wb", ngram_range=PIECES, sublinear_tf=True, **options)


def _learn_features(texts: list[str], task: TaskName, min_df: int) -> tuple[Tfidf, Any]:
    """Return a Tfidf with features but no weights, and the features of the training rows."""
    from scipy.sparse import hstack

    fewest = min(min_df, len(texts))
    vectorizer = _vectorizer("words", min_df=fewest)
    try:
        words = vectorizer.fit_transform(texts)
        names, pieces, idf = _learn_pieces(texts, fewest)
    except ValueError as error:
        raise DataError(
            f"The tfidf baseline cannot be fitted: the {len(texts)} training texts contain no words ({error})."
        ) from None
    unweighted = Tfidf(
        task,
        tuple(vectorizer.get_feature_names_out().tolist()),
        names,
        np.concatenate([vectorizer.idf_, idf]),
        np.zeros((0, 0)),
        np.zeros(0),
    )
    return unweighted, hstack([words, pieces], format="csr")


def _learn_pieces(texts: list[str], fewest: int) -> tuple[tuple[str, ...], Any, Floats]:
    """Count pieces of words in texts as `_vectorizer("pieces")` does, but cut each word only once.

    Pieces do not cross words, so (texts, words) counts times (words, pieces) counts are the counts of pieces.

    fewest   texts that a piece must be in
    returns  the pieces in order, their weights in each text (texts, pieces), and their idf

    Raises ValueError if no piece is in so many texts.
    """
    from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

    split = CountVectorizer(tokenizer=str.split, token_pattern=None)
    cut = CountVectorizer(analyzer="char_wb", ngram_range=PIECES)
    counts = split.fit_transform(texts) @ cut.fit_transform(split.get_feature_names_out())
    kept = np.flatnonzero(np.bincount(counts.indices, minlength=counts.shape[1]) >= fewest)
    if not len(kept):
        raise ValueError(f"no piece of a word is in {fewest} of them")
    counts = counts[:, kept].astype(np.float64)
    counts.sort_indices()
    transformer = TfidfTransformer(sublinear_tf=True)
    weights = transformer.fit_transform(counts)
    return tuple(cut.get_feature_names_out()[kept].tolist()), weights, transformer.idf_


def _with_weights(tfidf: Tfidf, weight: NDArray[Any], bias: Floats) -> Tfidf:
    """Set the weights, given as (k, features)."""
    return Tfidf(tfidf.task, tfidf.words, tfidf.pieces, tfidf.idf, np.ascontiguousarray(weight.T, dtype=np.float32), bias)


def _one_against_rest(
    known: Any, truth: NDArray[Any], strength: float, class_weight: str | None, weights: Floats | None, seed: int
) -> tuple[NDArray[Any], Floats]:
    """Fit one logistic regression per label: weights (labels, features), biases (labels,).

    A label that all training rows or no training rows have is certain. Coordinate descent on the dual (Hsieh et al., 2008) takes
    seconds where L-BFGS on all labels at once takes half a minute, for the same quality. A smaller `tol` takes longer and changes
    probabilities by less than .005.
    """
    from sklearn.linear_model import LogisticRegression

    size = truth.shape[1]
    weight, bias = np.zeros((size, known.shape[1]), dtype=np.float32), np.zeros(size)
    for k in range(size):
        positive = truth[:, k] != 0
        if positive.all() or not positive.any():
            bias[k] = CERTAIN if positive[0] else -CERTAIN
            continue
        if size == 2 and k == 1 and class_weight is None and (positive != (truth[:, 0] != 0)).all():
            weight[1], bias[1] = -weight[0], -bias[0]
            continue
        model = LogisticRegression(
            C=strength, solver="liblinear", dual=True, tol=0.1, max_iter=10_000, class_weight=class_weight, random_state=seed
        )
        model.fit(known, positive, sample_weight=weights)
        weight[k], bias[k] = model.coef_[0], model.intercept_[0]
    return weight, bias
