"""Odd inputs to four kinds of specialist: each is answered as the same rows alone, or refused with one clear DataError."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image

from vertical_sdk import VerticalModel
from vertical_sdk.errors import DataError
from vertical_sdk.types import Example, Prediction


@dataclass(frozen=True, eq=False)
class Kind:
    """A specialist and two inputs that it answers differently; `plain` are the same two as Arrow can hold them."""

    name: str
    model: VerticalModel
    pair: tuple[Any, Any]
    plain: tuple[Any, Any]
    alone: tuple[Prediction, Prediction]

    @property
    def a(self) -> Any:
        return self.pair[0]

    @property
    def frame(self) -> pd.DataFrame:
        """A table with the columns that the specialist reads, or with the two inputs in one column."""
        if self.name == "series":
            return pd.DataFrame(list(self.plain), columns=[f"s{k}" for k in range(8)])
        return pd.DataFrame(list(self.plain)) if self.name == "records" else pd.DataFrame({"given": list(self.plain)})


@pytest.fixture(scope="module")
def kinds(
    tmp_path_factory: pytest.TempPathFactory, words: VerticalModel, records: Path, beats: Path, pictures: Path
) -> dict[str, Kind]:
    folder = tmp_path_factory.mktemp("files")
    rising = np.linspace(-1, 1, 8).round(3)
    stripes = np.tile((np.arange(16) % 4 < 2) * 150, (16, 1)).astype(np.uint8)
    files = [folder / "a.png", folder / "b.png"]
    for file, picture in zip(files, (stripes, stripes.T), strict=True):
        Image.fromarray(picture).save(file)
    risks = ({"debt": 9.0, "ward": "heart"}, {"debt": 1.0, "ward": "lung"})
    texts = ("red itch on skin", "cough and wheeze of the lung")
    given: dict[str, tuple[VerticalModel, Any, Any]] = {
        "texts": (words, texts, texts),
        "records": (VerticalModel.from_pretrained(records), risks, risks),
        "series": (VerticalModel.from_pretrained(beats), (rising, -rising), (rising.tolist(), (-rising).tolist())),
        "pictures": (VerticalModel.from_pretrained(pictures), (stripes, stripes.T), tuple(map(str, files))),
    }
    kinds = {}
    for name, (model, pair, plain) in given.items():
        alone = tuple(model.predict([item])[0] for item in pair)
        assert alone[0].probabilities != alone[1].probabilities
        kinds[name] = Kind(name, model, pair, plain, alone)  # type: ignore[arg-type]
    return kinds


def objects(*items: Any) -> np.ndarray[Any, Any]:
    array = np.empty(len(items), dtype=object)
    for place, item in enumerate(items):
        array[place] = item
    return array


def dataset(kind: Kind) -> datasets.Dataset:
    return datasets.Dataset.from_pandas(kind.frame)


def only(kind: str, refused: str) -> dict[str, str]:
    """What one kind answers "ab" and the others refuse."""
    return {name: "ab" if name == kind else refused for name in ("texts", "records", "series", "pictures")}


TABLE = r"takes a list of \w+, not a table with the columns"
ITEM = r"^(text|input|record) 1\b|^\S+: (no such file|cannot be read)|^'.*': no such file|^the field"
"""One bad item is refused with its number, or with its path."""
COLUMNS = {"texts": TABLE, "records": "ab", "series": "ab", "pictures": TABLE}
OTHERS: dict[str, dict[str, str]] = {
    "texts": {},
    "pictures": {},
    "records": {"risk": "good", "customer": "c1"},
    "series": {"kind": "rising", "id": "7"},
}
"""Columns of the file that a specialist was trained on and does not read."""
EXPECTED: dict[str, tuple[Callable[[Kind], Any], Any]] = {
    # in the order given
    "list": (lambda k: list(k.pair), "ab"),
    "tuple": (lambda k: k.pair, "ab"),
    "deque": (lambda k: deque(k.pair), "ab"),
    "generator": (lambda k: (item for item in k.pair), "ab"),
    "zipped and taken apart": (lambda k: (item for item, _ in zip(k.pair, "xy", strict=True)), "ab"),
    "reversed": (lambda k: reversed(k.pair), "ba"),
    "values of a dict": (lambda k: {"x": k.pair[1], "w": k.pair[0]}.values(), "ba"),
    "empty list": (lambda _: [], ""),
    "empty generator": (lambda _: iter(()), ""),
    "Series": (lambda k: pd.Series(k.pair), "ab"),
    "Series in reverse": (lambda k: pd.Series(k.pair)[::-1], "ba"),
    "Series with labels out of order": (lambda k: pd.Series(k.pair, index=[1, 0]), "ab"),
    "Series that was filtered": (lambda k: pd.Series([k.a, *k.pair])[[False, True, True]], "ab"),
    "Series with words as labels": (lambda k: pd.Series(k.pair, index=["x", "w"]), "ab"),
    "Series with one label twice": (lambda k: pd.Series(k.pair, index=[0, 0]), "ab"),
    "empty Series": (lambda _: pd.Series([], dtype=object), ""),
    "Series of Arrow": (lambda k: pd.Series(list(k.plain), dtype=pd.ArrowDtype(pa.array(list(k.plain)).type)), "ab"),
    "array of objects": (lambda k: objects(*k.pair), "ab"),
    "array of texts": (lambda k: np.array([str(item) for item in k.plain]), {**only("texts", "input 0"), "pictures": "ab"}),
    "Arrow array": (lambda k: pa.array(list(k.plain)), "ab"),
    "chunked Arrow array": (lambda k: pa.chunked_array([pa.array([k.plain[0]]), pa.array([k.plain[1]])]), "ab"),
    "column of datasets": (lambda k: datasets.Dataset.from_dict({"given": list(k.plain)})["given"], "ab"),
    "column of a streamed data set": (lambda k: datasets.Dataset.from_dict({"given": list(k.plain)}).to_iterable_dataset()["given"], "ab"),
    "row of a reader": (lambda k: [k.a, k.a], "aa"),
    # tables are for specialists that read columns
    "what only looks iterable": (lambda _: pd.Series(["a"]).str, dict.fromkeys(("texts", "records", "series", "pictures"), "takes a list of")),
    "DataFrame": (lambda k: k.frame, COLUMNS),
    "DataFrame with other labels": (lambda k: k.frame.set_axis([5, 3]), COLUMNS),
    "DataFrame with its columns in reverse": (lambda k: k.frame[k.frame.columns[::-1]], COLUMNS),
    "DataFrame with its label and group": (lambda k: k.frame.assign(**OTHERS[k.name]), COLUMNS),
    "DataFrame with an unknown column": (lambda k: k.frame.assign(other=1), {**COLUMNS, "series": "row 0: unknown columns 'other'"}),
    "DataFrame of other columns": (lambda _: pd.DataFrame({"x": [1]}), dict.fromkeys(COLUMNS, "none of the columns|" + TABLE)),
    "DataFrame with a column twice": (lambda k: pd.concat([k.frame, k.frame], axis=1), dict.fromkeys(COLUMNS, "' twice|" + TABLE)),
    "DataFrame without names": (lambda k: k.frame.set_axis(range(k.frame.shape[1]), axis=1), dict.fromkeys(COLUMNS, "not a text|" + TABLE)),
    "DataFrame without rows": (lambda k: k.frame.iloc[:0], {**COLUMNS, "records": "", "series": ""}),
    "Arrow table": (lambda k: pa.Table.from_pandas(k.frame), COLUMNS),
    "data set": (dataset, COLUMNS),
    "streamed data set": (lambda k: dataset(k).to_iterable_dataset(), COLUMNS),
    # not a list
    "input without a list": (lambda k: k.a, r"predict takes a list of \w+, not"),
    "str": (lambda _: "red rash", r"not 'red rash'; for one \w+ write predict\(\["),
    "empty str": (lambda _: "", "not ''; for one"),
    "bytes": (lambda _: b"red rash", "not b'red rash'; for one"),
    "bytearray": (lambda _: bytearray(b"red"), "not a bytearray"),
    "None": (lambda _: None, "not None; for one"),
    "int": (lambda _: 3, "not 3; for one"),
    "nan": (lambda _: float("nan"), "not nan; for one"),
    "bool": (lambda _: True, "not True; for one"),
    "path": (lambda _: Path("rows.csv"), r"not PosixPath\('rows.csv'\); for one"),
    "dict": (lambda k: {"x": k.a}, r"takes a list of \w+, not \{'x'"),
    "set": (lambda _: {1, 2}, "not a set, which has no order"),
    "frozenset": (lambda _: frozenset({"red"}), "not a frozenset, which has no order"),
    "keys of a dict": (lambda _: {"red": 1}.keys(), "not a dict_keys, which has no order"),
    "object": (lambda _: object(), "not a object; for one"),
    "function": (lambda _: len, "not a builtin_function_or_method"),
    "array of numbers": (lambda _: np.zeros(3), r"not an array of float64 \(3,\)"),
    "array of two dimensions": (lambda _: np.array([["a", "b"]]), r"not an array of <U1 \(1, 2\)"),
    "array without a dimension": (lambda _: np.array("red rash"), r"not an array of <U8 \(\)"),
    "array of bytes": (lambda _: np.array([b"red"]), r"not an array of \|S3 \(1,\)"),
    "tensor": (lambda _: torch.zeros(2), r"^(text|input) 0 is a Tensor"),
    "range": (lambda _: range(2), "^(text|input) 0 is 0"),
    # one wrong item
    "None in a list": (lambda k: [k.a, None], ITEM),
    "nan in a list": (lambda k: [k.a, float("nan")], ITEM),
    "pd.NA in a Series": (lambda k: pd.Series([k.a, pd.NA], dtype=object), ITEM),
    "bytes in a list": (lambda k: [k.a, b"red"], ITEM),
    "int in a list": (lambda k: [k.a, 7], ITEM),
    "bool in a list": (lambda k: [k.a, True], ITEM),
    "set in a list": (lambda k: [k.a, {"red"}], ITEM),
    "complex in a list": (lambda k: [k.a, 1j], ITEM),
    "fraction in a list": (lambda k: [k.a, Fraction(1, 3)], ITEM),
    "object in a list": (lambda k: [k.a, object()], ITEM),
    "time in a list": (lambda k: [k.a, pd.Timestamp("2024-01-01")], ITEM),
    "number as a field's name": (lambda k: [k.a, {1: 2}], ITEM),
    "None as a field's name": (lambda k: [k.a, {None: 2}], ITEM),
    "empty dict in a list": (lambda k: [k.a, {}], ITEM),
    "huge number in a record": (lambda k: [k.a, {"debt": 10**400}], ITEM),
    "list in a record": (lambda k: [k.a, {"debt": [1, 2]}], ITEM),
    "bytes in a record": (lambda k: [k.a, {"ward": b"heart"}], ITEM),
    "empty list in a list": (lambda k: [k.a, []], ITEM),
    "nested list": (lambda k: [k.a, [[["a"]]]], ITEM),
    "empty str in a list": (lambda k: [k.a, ""], ITEM),
    "spaces": (lambda k: [k.a, " \t\n\u00a0\u3000"], ITEM),
    "character of width zero": (lambda k: [k.a, "\u200b"], ITEM),
    "marks that cannot be seen": (lambda k: [k.a, "\ufeff\u200e\u00ad\x00"], ITEM),
    "half of a surrogate pair": (lambda k: [k.a, "red \ud800"], ITEM),
    "array of four dimensions": (lambda k: [k.a, np.zeros((2, 2, 2, 2))], ITEM),
    "array without items": (lambda k: [k.a, np.zeros(0)], ITEM),
    "array of infinite numbers": (lambda k: [k.a, np.array([1.0, np.inf])], ITEM),
    "array of numbers too large for float32": (lambda k: [k.a, np.array([1.0, 1e300])], ITEM),
    "array of nan": (lambda k: [k.a, np.full(8, np.nan)], ITEM),
    "list of words": (lambda k: [k.a, ["1.5", "2.5"]], ITEM),
    "rows of different lengths": (lambda k: [k.a, [[1.0], [1.0, 2.0]]], ITEM),
    "path that is too long": (lambda k: [k.a, Path("x" * 5000)], ITEM),
    "path of a folder": (lambda k: [k.a, Path()], ITEM),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["texts", "records", "series", "pictures"])
@pytest.mark.parametrize("given", EXPECTED)
def test_an_odd_input_is_answered_in_order_or_refused_in_one_line(kinds: dict[str, Kind], kind: str, given: str) -> None:
    asked = kinds[kind]
    build, expected = EXPECTED[given]
    expected = expected[kind] if isinstance(expected, dict) else expected

    if set(expected) <= {"a", "b"}:
        answers = asked.model.predict(build(asked))
        alone = [asked.alone["ab".index(which)] for which in expected]
        assert [answer.label for answer in answers] == [answer.label for answer in alone]
        for answer, lone in zip(answers, alone, strict=True):
            assert answer.probabilities == pytest.approx(lone.probabilities, abs=1e-5)
    else:
        with pytest.raises(DataError, match=expected) as refused:
            asked.model.predict(build(asked))
        assert "\n" not in str(refused.value)
        assert len(str(refused.value)) < 600


@pytest.mark.parametrize("given", ["list", "Series in reverse", "generator", "empty list"])
def test_predict_proba_lists_its_inputs_as_predict_does(kinds: dict[str, Kind], given: str) -> None:
    asked = kinds["texts"]
    build, expected = EXPECTED[given]

    table = asked.model.predict_proba(build(asked))

    alone = [[asked.alone["ab".index(which)].probabilities[label] for label in asked.model.labels] for which in expected]
    np.testing.assert_allclose(table, np.array(alone).reshape(len(alone), 3), atol=1e-5)


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT, np.float32("nan")], ids=repr)
def test_a_missing_field_is_unknown_however_it_is_written(kinds: dict[str, Kind], missing: Any) -> None:
    model = kinds["records"].model

    given, left_out = model.predict([{"debt": missing, "ward": "heart"}, {"ward": "heart"}])

    assert given.probabilities == left_out.probabilities


def test_a_column_may_have_the_name_of_the_file(kinds: dict[str, Kind]) -> None:
    """The recipe reads the column "unit" as the field "ward"."""
    asked = kinds["records"]

    answers = asked.model.predict(asked.frame.rename(columns={"ward": "unit"}))

    assert [answer.probabilities for answer in answers] == [pytest.approx(lone.probabilities) for lone in asked.alone]


def test_a_field_in_the_index_of_a_table_is_read(kinds: dict[str, Kind]) -> None:
    kind = kinds["records"]
    table = kind.frame.assign(visit=[1, 2]).set_index(["debt", "visit"])

    assert [p.probabilities for p in kind.model.predict(table)] == [pytest.approx(p.probabilities) for p in kind.alone]


def test_numbers_of_a_series_may_be_a_list_a_series_or_masked(kinds: dict[str, Kind]) -> None:
    asked = kinds["series"]
    rising = asked.a
    holed = rising.copy()
    holed[3] = np.nan
    with_none = [None if place == 3 else float(value) for place, value in enumerate(rising)]
    masked = np.ma.masked_array(np.where(np.isnan(holed), 99.0, holed), mask=np.isnan(holed))

    answers = asked.model.predict(
        [list(rising), tuple(rising), pd.Series(rising, index=range(8, 0, -1)), pa.array(rising), torch.tensor(rising).numpy()]
    )
    holes = asked.model.predict([holed, with_none, pd.Series(with_none, dtype="Float64"), masked])

    assert [answer.probabilities for answer in answers] == [pytest.approx(asked.alone[0].probabilities)] * 5
    assert [answer.probabilities for answer in holes] == [pytest.approx(holes[0].probabilities)] * 4


def test_an_open_picture_is_read_like_its_file(kinds: dict[str, Kind]) -> None:
    asked = kinds["pictures"]
    with Image.open(asked.plain[0]) as picture:
        answers = asked.model.predict([picture, picture.convert("RGB")])

    assert [answer.probabilities for answer in answers] == [pytest.approx(asked.alone[0].probabilities, abs=1e-5)] * 2
    with pytest.raises(DataError, match="input 0: the picture has more than 8 bits a pixel"):
        asked.model.predict([Image.fromarray(np.zeros((4, 4), dtype=np.int32))])


@pytest.mark.parametrize(
    ("adapters", "problem"),
    [
        ({"x": 1}, "adapters = {'x': 1} is wrong: give one name"),
        ({"x"}, "adapters = {'x'} is wrong: give one name"),
        (3, "adapters = 3 is wrong"),
        ([None, "topics"], "adapters: item 0 is None, which is not a name"),
        (["{name}"], "2 texts but 1 adapters"),
        (["{name}"] * 3, "2 texts but 3 adapters"),
    ],
    ids=repr,
)
def test_names_of_adapters_that_do_not_fit_are_refused(kinds: dict[str, Kind], adapters: Any, problem: str) -> None:
    asked = kinds["texts"]
    if isinstance(adapters, list):
        adapters = [name and name.format(name=asked.model.adapters[0]) for name in adapters]

    with pytest.raises(DataError, match=problem):
        asked.model.predict(list(asked.pair), adapters=adapters)


def test_one_name_of_an_adapter_is_for_all_inputs(kinds: dict[str, Kind]) -> None:
    asked = kinds["texts"]
    (name,) = asked.model.adapters

    for adapters in (name, [name, name], iter([name, name]), pd.Series([name, name], index=[1, 0]), np.array([name, name])):
        answers = asked.model.predict(asked.pair, adapters=adapters)
        assert [answer.probabilities for answer in answers] == [pytest.approx(a.probabilities) for a in asked.alone]


@pytest.mark.parametrize("setting", ["top_k", "batch_size"])
@pytest.mark.parametrize("count", [0, -1, 2.5, "3", True])
def test_a_count_that_is_not_a_whole_number_from_1_is_refused(kinds: dict[str, Kind], setting: str, count: Any) -> None:
    asked = kinds["texts"]

    with pytest.raises(DataError, match=rf"^{setting} = {count!r} is wrong"):
        asked.model.predict(asked.pair, **{setting: count})


def test_the_chosen_label_keeps_its_probability_with_top_k(kinds: dict[str, Kind]) -> None:
    answer = kinds["texts"].model.predict([kinds["texts"].a], top_k=1)[0]
    moved = Prediction(label="b", probabilities={"a": 0.6, "b": 0.4, "c": 0.0})

    assert answer.confidence == answer.probabilities[str(answer.label)]
    assert moved.confidence == 0.4
    assert moved.top_k(2) == [("a", 0.6), ("b", 0.4)]


def test_a_prediction_is_plain_data_for_json() -> None:
    many = Prediction(label=("a", "b"), probabilities={"a": 0.9, "b": 0.8}, truncated=3, adapter="topics@1")
    number = Prediction(label=2.5, interval=(2.0, 3.0))

    assert (many.confidence, number.confidence, number.top_k(3)) == (None, None, [])
    assert many.to_dict().items() >= {"label": ["a", "b"], "confidence": None, "truncated": 3, "adapter": "topics@1"}.items()
    assert number.to_dict()["interval"] == [2.0, 3.0]


def test_a_model_is_shown_by_its_base_and_specialists(kinds: dict[str, Kind]) -> None:
    model = kinds["texts"].model

    assert repr(model) == f"<VerticalModel on {model.base.name}: '{model.adapters[0]}' (in use)>"


def test_rows_of_a_reader_are_taken_in_any_sequence(kinds: dict[str, Kind]) -> None:
    asked = kinds["texts"]
    rows = [Example(id=str(n), text=text) for n, text in enumerate(asked.pair)]

    answers = asked.model.predict(pd.Series(rows, index=[1, 0]))

    assert [answer.probabilities for answer in answers] == [pytest.approx(a.probabilities) for a in asked.alone]
