from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from vertical_sdk.card import Calibration, Verdict
from vertical_sdk.evaluation.headline import headline
from vertical_sdk.evaluation.plots import confusion_plot, interval_plot, number
from vertical_sdk.evaluation.report import render, write_report
from vertical_sdk.evaluation.result import Bin, Comparison, Evaluation, ExampleRow, LabelRow, System
from vertical_sdk.types import Interval

NASTY = "<script>alert('x')</script> & 急性支气管炎"
FULL = Evaluation(
    name="medical/icd-chapter",
    task="classification",
    rows=200,
    labels=["lung", NASTY],
    systems={
        "adapter": System(
            "specialist", {"accuracy": Interval(0.72, 0.66, 0.78), "ece": Interval(0.05, 0.04, 0.09)}, seconds=1.5
        ),
        "base": System("general base", {"accuracy": Interval(0.38, 0.31, 0.45)}, unparsed=17),
        "tfidf": System("TF-IDF", {"accuracy": Interval(0.70, 0.63, 0.76), "ece": Interval(0.08, 0.05, 0.12)}),
        "probe": System("linear probe", error=f"no network {NASTY}"),
    },
    tests=[
        Comparison("base", "accuracy", Interval(0.34, 0.27, 0.41), 0.002, 1e-9),
        Comparison("tfidf", "accuracy", Interval(0.02, -0.03, 0.07), 0.41, 0.5),
    ],
    baseline="tfidf",
    lower_is_better=["ece"],
    per_label=[LabelRow("lung", 120, 0.8, 0.7, 0.75, 0.5, 0.4, 0.44), LabelRow(NASTY, 80, 0.6, 0.6, 0.6, 0.7, 0.7, 0.7)],
    confusion=[[84, 36], [32, 48]],
    reliability={"before": [Bin(0.8, 0.9, 0.85, 0.6, 200)], "after": [Bin(0.6, 0.7, 0.65, 0.6, 200)]},
    calibration=Calibration(temperature=1.7, ece_before=0.25, ece_after=0.05, rows=150),
    examples=[ExampleRow(NASTY, "lung", "lung", "no answer", 0.93), ExampleRow("stye", NASTY, "lung")],
    gate=Verdict(passed=False, reasons=(f"Fails: not sure {NASTY}",)),
    account={
        "read": 1200,
        "lost": 0.01,
        "steps": [{"step": "dedup", "rows_in": 1200, "rows_out": 1190, "dropped": {"same text": 10}, "notes": {NASTY: 3}}],
        "truncated": {"test": 4},
    },
    provenance={
        "base": {"name": "minilm-l6", "architecture": "BertModel", "weights": "ab" * 32, "tokenizer": "cd" * 32},
        "recipe_digest": "ef" * 32,
        "sources": [{"source": "pypi:simple-icd-10-cm==1.5.0", "sha256": "12" * 32, "license": None}],
        "seed": 0,
    },
)


class _Reader(HTMLParser):
    """Collects the text of a page, and checks that every element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        if tag not in {"meta", "line"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def _read(page: str) -> _Reader:
    reader = _Reader()
    reader.feed(page)
    assert reader.open == []
    return reader


def test_an_evaluation_survives_json() -> None:
    assert Evaluation.from_dict(json.loads(json.dumps(FULL.to_dict()))) == FULL


def test_a_number_that_is_not_finite_is_null_in_json() -> None:
    spoilt = replace(FULL, systems={"adapter": System("specialist", {"r2": Interval(math.nan, -math.inf, 1.0)})})

    plain = json.loads(json.dumps(spoilt.to_dict(), allow_nan=False))
    back = Evaluation.from_dict(plain).systems["adapter"].metrics["r2"]

    assert plain["systems"]["adapter"]["metrics"]["r2"] == {"value": None, "low": None, "high": 1.0}
    assert math.isnan(back.value)
    assert back.high == 1.0


def test_the_headline_says_how_often_each_is_right_and_what_is_significant() -> None:
    assert headline(FULL) == (
        "The specialist is right on 72 of 100 test rows (general base: 38; TF-IDF: 70). "
        "In Accuracy it is significantly better than “general base”, not significantly different from “TF-IDF”."
    )


def test_the_headline_counts_finer_where_a_hundred_would_hide_a_difference() -> None:
    close = replace(
        FULL, tests=[], systems={**FULL.systems, "tfidf": System("TF-IDF", {"accuracy": Interval(0.718, 0.6, 0.8)})}
    )

    assert headline(close) == "The specialist is right on 720 of 1,000 test rows (general base: 380; TF-IDF: 718)."


def test_the_headline_of_numbers_names_the_error() -> None:
    numbers = Evaluation(
        name="esol",
        task="regression",
        rows=50,
        systems={
            "adapter": System("specialist", {"mae": Interval(0.5, 0.4, 0.6)}),
            "tfidf": System("TF-IDF", {"mae": Interval(0.9, 0.8, 1)}),
        },
        tests=[Comparison("tfidf", "mae", Interval(-0.4, -0.5, -0.3), 0.002)],
        lower_is_better=["mae"],
    )

    assert headline(numbers) == (
        "The specialist reaches 0.500 in MAE, where less is better (TF-IDF: 0.900). "
        "In MAE it is significantly better than “TF-IDF”."
    )


def test_the_report_tells_everything() -> None:
    text = " ".join(_read(render(FULL)).text.split())

    for told in (
        "The gate is not passed",
        "0.660 … 0.780",
        "Not measured: linear probe",
        "significantly better",
        "not significant",
        "−0.100",  # the gain of the second label
        "same text: 10",
        "pypi:simple-icd-10-cm==1.5.0",
        "not stated",
        "12" * 32,
        "1.700",
        "17",
        "test 4",
        "minilm-l6, BertModel, weights abababababab, tokenizer cdcdcdcdcdcd",
    ):
        assert told in text, told


def test_text_from_the_data_cannot_become_markup() -> None:
    page = render(FULL)

    assert "script" not in _read(page).tags
    assert page.count("&lt;script&gt;") >= 6  # labels, error, reason, note, example, reference
    assert NASTY in _read(page).text


def test_the_report_needs_nothing_from_anywhere() -> None:
    page = render(FULL)

    assert _read(page).attributes.isdisjoint({"src", "srcset", "href", "xlink:href", "action", "data", "poster"})
    assert not re.search(r"url\(|@import", page)
    assert "default-src 'none'" in page


def test_the_report_is_written_from_plain_data(tmp_path: Path) -> None:
    path = tmp_path / "run" / "report.html"

    write_report(path, FULL.to_dict())

    assert path.read_text(encoding="utf-8") == render(FULL)


@pytest.mark.parametrize("task", ["multilabel", "regression", "generation"])
def test_a_bare_evaluation_has_a_report_too(task: str) -> None:
    bare = Evaluation.from_dict({"name": "x", "task": task, "rows": 1})

    assert "The specialist was not measured." in _read(render(bare)).text


def test_a_plot_of_many_labels_shows_those_most_often_confused() -> None:
    size = 80
    confusion = [[10 if i == j else 0 for j in range(size)] for i in range(size)]
    confusion[79][78] = 5

    text = _read(str(confusion_plot(confusion, [f"label {i}" for i in range(size)]))).text

    assert "label 79 → label 78: 5 of 15" in text
    assert "label 70" not in text


def test_a_plot_leaves_out_what_is_not_a_number() -> None:
    assert interval_plot([("a", Interval(math.nan, 0, 1), True)]) == ""
    assert "0.500" in interval_plot([("a", Interval(math.nan, 0, 1), True), ("b", Interval(0.5, 0.4, 0.6), False)])


@pytest.mark.parametrize(
    ("value", "expected"), [(0.12345, "0.123"), (-12.345, "−12.3"), (12345.6, "12,346"), (None, "–"), (math.nan, "–")]
)
def test_numbers_are_written_for_people(value: float | None, expected: str) -> None:
    assert number(value) == expected
