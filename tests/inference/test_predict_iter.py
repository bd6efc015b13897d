from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from vertical_sdk.errors import AdapterError, DataError
from vertical_sdk.inference import VerticalModel
from vertical_sdk.inference.predictions import CHUNK

TEXTS = ("red itch on skin", "short breath", "pulse is fast and the chest hurts", "rash")


def number_texts(count: int) -> list[str]:
    return [f"{TEXTS[n % len(TEXTS)]} {'again ' * (n % 7)}" for n in range(count)]


def test_predictions_of_an_iterator_equal_those_of_a_list(words: VerticalModel) -> None:
    texts = number_texts(CHUNK + 50)

    answers = list(words.predict_iter(iter(texts), top_k=2))

    expected = words.predict(texts, top_k=2)
    assert [answer.label for answer in answers] == [answer.label for answer in expected]
    assert [answer.probabilities for answer in answers] == [pytest.approx(a.probabilities, rel=1e-4) for a in expected]
    assert {len(answer.probabilities) for answer in answers} == {2}


def test_no_more_than_a_chunk_is_read_ahead(words: VerticalModel) -> None:
    read = 0

    def texts() -> Iterator[str]:
        nonlocal read
        for text in number_texts(3 * CHUNK):
            read += 1
            yield text

    answers = words.predict_iter(texts())
    assert read == 0
    next(answers)
    assert read == CHUNK
    for _ in range(CHUNK):
        next(answers)
    assert read == 2 * CHUNK


def test_a_text_that_cannot_be_read_is_named_by_its_number_among_all(words: VerticalModel) -> None:
    answers = words.predict_iter([*number_texts(CHUNK + 3), " ", "rash"])

    assert next(answers).label in words.labels
    with pytest.raises(DataError, match=rf"text {CHUNK + 3} is ' '"):
        list(answers)


def test_wrong_arguments_raise_before_the_first_text_is_read(words: VerticalModel) -> None:
    with pytest.raises(DataError, match=r"for one text write predict_iter\(\[text\]\)"):
        words.predict_iter("rash")
    with pytest.raises(DataError, match="keep at least one label"):
        words.predict_iter(["rash"], top_k=0)
    with pytest.raises(DataError, match="batch_size"):
        words.predict_iter(["rash"], batch_size=0)
    with pytest.raises(AdapterError, match="no adapter is called 'other'"):
        words.predict_iter(["rash"], adapter="other")


def test_progress_has_the_share_of_a_list_and_the_rows_of_an_iterator(words: VerticalModel) -> None:
    shares: list[tuple[str, float | None]] = []
    texts = number_texts(CHUNK + 1)

    list(words.predict_iter(texts, progress=lambda what, share: shares.append((what, share))))
    list(words.predict_iter(iter(texts), progress=lambda what, share: shares.append((what, share))))

    assert shares == [
        ("predicting", 0.0),
        ("predicting", CHUNK / (CHUNK + 1)),
        ("predicting from row 0", None),
        (f"predicting from row {CHUNK}", None),
    ]


def test_a_table_of_several_chunks_keeps_the_order_and_the_index_of_its_rows(records: Path) -> None:
    model = VerticalModel.from_pretrained(records)
    units = ["heart" if n % 3 else "lung" for n in range(CHUNK + 20)]
    table = pd.DataFrame({"debt": [float(n % 9) for n in range(len(units))], "unit": units}).set_index("unit")

    answers = list(model.predict_iter(table))

    expected = model.predict([{"debt": float(n % 9), "ward": unit} for n, unit in enumerate(units)])
    assert [answer.probabilities for answer in answers] == [pytest.approx(a.probabilities, rel=0.01, abs=0) for a in expected]
    assert expected[0].probabilities != pytest.approx(expected[1].probabilities, rel=0.01, abs=0)
