from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from vertical_sdk import catalog
from vertical_sdk.baselines.fitted import decode_json, encode_json
from vertical_sdk.baselines.tfidf import Tfidf
from vertical_sdk.errors import DataError
from vertical_sdk.outputs import Outputs
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, LabelSpace, Message, Target, TaskName

LUNG, HEART, SKIN = "lung", "heart", "skin"
LABELS = LabelSpace((LUNG, HEART, SKIN, "never seen"))
TEXTS = {
    LUNG: ["acute bronchitis", "viral pneumonia", "chronic bronchitis", "pneumonia due to virus", "asthma and bronchitis"],
    HEART: ["cardiac arrest", "cardiomyopathy", "heart failure", "acute heart failure", "cardiac failure"],
    SKIN: ["contact dermatitis", "dermatitis of skin", "skin rash"],
}


def _predict(name: str, train: list[tuple[str, Target]], texts: list[str], task: TaskName, **options: object) -> Outputs:
    rows = [Example(str(i), text, target) for i, (text, target) in enumerate(train)]
    fitted = catalog.baselines.get(name)(rows, LABELS, task, 0, None, **options)
    outputs = fitted.predict([Example("?", text) for text in texts], None)
    assert isinstance(outputs, Outputs)
    return outputs


PAIRS: list[tuple[str, Target]] = [(text, label) for label, texts in TEXTS.items() for text in texts]


@pytest.mark.parametrize("task", ["classification", "ordinal"])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_tfidf_learns_words_and_pieces_of_words(task: TaskName, class_weight: str | None) -> None:
    outputs = _predict(
        "tfidf", PAIRS, ["bronchitic disease", "cardiac rupture", "dermatitides"], task, class_weight=class_weight
    )

    assert get_task(task).predictions(outputs).tolist() == [0, 1, 2]
    assert outputs.probabilities is not None
    assert outputs.probabilities.sum(axis=1) == pytest.approx(1.0)
    assert outputs.probabilities[:, 3].tolist() == [0, 0, 0]  # a label without training rows


def test_tfidf_is_deterministic() -> None:
    first, second = (_predict("tfidf", PAIRS, ["bronchial"], "classification").probabilities for _ in range(2))

    assert np.array_equal(first, second)  # type: ignore[arg-type]


def test_tfidf_of_two_labels_is_one_logistic_regression() -> None:
    pairs = [pair for pair in PAIRS if pair[1] != SKIN]
    rows = [Example(str(i), text, target) for i, (text, target) in enumerate(pairs)]

    outputs = catalog.baselines.get("tfidf")(rows, LabelSpace((LUNG, HEART)), "classification", 0, None).predict(
        [Example("?", "cardiac")], None
    )

    assert outputs.probabilities.sum() == pytest.approx(1.0)
    assert outputs.probabilities[0, 1] > 0.5


def test_tfidf_decides_each_label_of_a_multilabel_task_alone() -> None:
    both = [(f"{lung} with {heart}", (LUNG, HEART)) for lung, heart in zip(TEXTS[LUNG], TEXTS[HEART], strict=True)]
    train = [(text, (label,) if isinstance(label, str) else ()) for text, label in PAIRS] + both

    outputs = _predict("tfidf", train, ["bronchitis with cardiac failure", "skin rash"], "multilabel")

    assert get_task("multilabel").predictions(outputs).tolist() == [[1, 1, 0, 0], [0, 0, 1, 0]]


def test_tfidf_for_regression_follows_the_words() -> None:
    train: list[tuple[str, Target]] = [("cheap small flat", 10.0), ("large house", 90.0)] * 5

    low, high = get_task("regression").predictions(_predict("tfidf", train, ["small flat", "large house"], "regression"))

    assert low < 35
    assert high > 65


def test_tfidf_for_generation_copies_the_answer_of_the_nearest_prompt() -> None:
    turns = [("What treats asthma?", "An inhaler."), ("What treats a rash?", "A cream.")]
    rows = [Example(q, messages=(Message("user", q), Message("assistant", a))) for q, a in turns]
    rows_to_answer = [Example("?", messages=(Message("user", "Which cream for my rash?"),))]

    outputs = catalog.baselines.get("tfidf")(rows, None, "generation", 0, None).predict(rows_to_answer, None)

    assert get_task("generation").predictions(outputs) == ["A cream."]


def test_tfidf_reads_scripts_without_spaces() -> None:
    train: list[tuple[str, Target]] = [
        ("急性支气管炎", LUNG),
        ("慢性支气管炎", LUNG),
        ("心力衰竭", HEART),
        ("急性心力衰竭", HEART),
    ]

    assert get_task("classification").predictions(_predict("tfidf", train, ["支气管炎病"], "classification")).tolist() == [0]


CHINESE: list[tuple[str, Target]] = [
    ("胃疼，恶心", LUNG),
    ("饭后胃疼COVID-19", LUNG),
    ("头疼头晕", HEART),
    ("睡不好，头疼", HEART),
]


def test_tfidf_of_chinese_counts_characters_pairs_and_words() -> None:
    fitted = _fit(CHINESE)

    assert {"胃", "疼", "头", "胃 疼", "头 疼", "covid", "19", "covid 19", "疼 covid"} <= set(fitted.words)
    assert not [word for word in fitted.words if any(len(part) > 1 and not part.isascii() for part in word.split())]


def test_tfidf_of_chinese_is_stored_and_restored() -> None:
    fitted = _fit(CHINESE)
    rows = [Example("?", text) for text in ("我胃疼", "COVID头晕", "plain words")]

    restored = Tfidf.from_arrays({name: array.copy() for name, array in fitted.to_arrays().items()})

    assert restored.features([row.text for row in rows]).toarray().tolist() == pytest.approx(
        fitted.features([row.text for row in rows]).toarray()
    )
    assert restored.predict(rows, None).probabilities == pytest.approx(fitted.predict(rows, None).probabilities, abs=1e-3)


def test_tfidf_that_was_stored_before_characters_were_words_reads_as_then() -> None:
    arrays = _fit(PAIRS).to_arrays()
    settings = decode_json(arrays["settings"])
    del settings["by_script"]
    settings["words"] = ["胃疼", *settings["words"][1:]]

    restored = Tfidf.from_arrays({**arrays, "settings": encode_json(settings)})

    assert restored.features(["胃疼"]).toarray()[0, 0] > 0
    assert replace(restored, by_script=True).features(["胃疼"]).toarray()[0, 0] == 0


def test_tfidf_reads_texts_without_han_kana_and_hangul_as_scikit_learn_does() -> None:
    texts = ["It's 5mg/day, naïve_café №7", "Болит голова ٣", "ไข้สูง x² A_b c", "a I 1.5"]
    expected = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")

    found = expected.fit_transform(texts).toarray()

    fitted = _fit([(text, LUNG) for text in texts])
    assert list(fitted.words) == expected.get_feature_names_out().tolist()
    assert np.array_equal(fitted.features(texts).toarray()[:, : len(fitted.words)], found)


def _fit(train: list[tuple[str, Target]]) -> Tfidf:
    rows = [Example(str(i), text, target) for i, (text, target) in enumerate(train)]
    fitted = catalog.baselines.get("tfidf")(rows, LABELS, "classification", 0, None)
    assert isinstance(fitted, Tfidf)
    return fitted


@pytest.mark.parametrize("name", ["tfidf", "majority"])
def test_a_baseline_without_training_rows_is_refused(name: str) -> None:
    with pytest.raises(DataError, match="no training rows"):
        _predict(name, [], ["x"], "classification")


def test_texts_without_words_are_refused() -> None:
    with pytest.raises(DataError, match="contain no words"):
        _predict("tfidf", [("", LUNG), (" ", HEART)], ["x"], "classification")


def test_majority_predicts_the_share_of_each_label() -> None:
    outputs = _predict("majority", PAIRS, ["anything", "else"], "classification")

    assert outputs.probabilities is not None
    assert outputs.probabilities.tolist() == [[5 / 13, 5 / 13, 3 / 13, 0.0]] * 2


def test_majority_predicts_shares_means_and_the_most_common_answer() -> None:
    many = _predict("majority", [("a", (LUNG,)), ("b", (LUNG, HEART)), ("c", (LUNG,)), ("d", ())], ["x"], "multilabel")
    numbers = _predict("majority", [("a", 1.0), ("b", 4.0)], ["x", "y"], "regression")
    answers = [Example(str(i), messages=(Message("assistant", text),)) for i, text in enumerate(["no", "yes", "no"])]
    texts = catalog.baselines.get("majority")(answers, None, "generation", 0, None).predict([Example("?")], None)

    assert get_task("multilabel").predictions(many).tolist() == [[1, 0, 0, 0]]
    assert get_task("regression").predictions(numbers).tolist() == [2.5, 2.5]
    assert get_task("generation").predictions(texts) == ["no"]
