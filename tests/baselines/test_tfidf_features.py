"""The features of TF-IDF against scikit-learn's TfidfVectorizer."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import topic_rows
from scipy.sparse import hstack
from sklearn.feature_extraction.text import TfidfVectorizer

from vertical_sdk.baselines.tfidf import WORD_BY_SCRIPT, _learn_features

ODD = (
    "",
    "a",
    "!",
    "Ünïcode ÄÖ  dort",
    "tab\tnew\nline x",
    "İstanbul ı ß SS",
    "中文 字 テスト",
    "e\u0301e x\u00a0y z\u2003w",
    "\x1cq\x1fz \x85 k",
)


@pytest.mark.parametrize("min_df", [1, 2, 5])
def test_features_are_those_of_scikit_learn(min_df: int) -> None:
    train = [*ODD, *(text for text, _ in topic_rows(60))]
    new = [*ODD, "heart and lung", "unheard words qqqq", train[-1]]
    plain = [
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=WORD_BY_SCRIPT, min_df=min_df),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=min_df),
    ]
    expected = hstack([vectorizer.fit_transform(train) for vectorizer in plain]).toarray()

    tfidf, known = _learn_features(train, "classification", min_df)

    assert [*tfidf.words, *tfidf.pieces] == [*plain[0].get_feature_names_out(), *plain[1].get_feature_names_out()]
    np.testing.assert_array_equal(tfidf.idf, np.concatenate([vectorizer.idf_ for vectorizer in plain]))
    np.testing.assert_allclose(known.toarray(), expected, rtol=0, atol=1e-15)
    transformed = hstack([vectorizer.transform(new) for vectorizer in plain]).toarray()
    np.testing.assert_allclose(tfidf.features(new).toarray(), transformed, rtol=0, atol=1e-15)
