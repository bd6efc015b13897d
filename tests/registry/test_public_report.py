"""What a registry shows of a report: everything but rows of data, unless the recipe publishes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from registry.conftest import RESULTS, resolve_recipe

from vertical_sdk.card import CARD, read_card, write_card
from vertical_sdk.paths import file_digest, public_source
from vertical_sdk.registry import Registry
from vertical_sdk.registry.checks import find_adapter_folder
from vertical_sdk.registry.public_report import describe_report, public_report
from vertical_sdk.report_rows import BEGIN, END, GENERATOR

MakeAdapter = Callable[..., Path]
PAGE = f"<html>{GENERATOR}<p>0.91</p>{BEGIN}<td>a patient's words</td>{END}<p>source</p>{BEGIN}<svg>a curve</svg>{END}</html>"
PUBLIC = f"<html>{GENERATOR}<p>0.91</p><p>source</p></html>"


def publish(run: Path, registry: Path) -> str | None:
    """The published report; None without one."""
    report = Registry(registry).publish(run).path / "report.html"
    return report.read_text() if report.exists() else None


def tell(run: Path) -> str:
    folder, report = find_adapter_folder(run)
    return describe_report(report, read_card(folder), None)


def test_rows_are_left_out_of_the_report_of_a_run(make_adapter: MakeAdapter, tmp_path: Path) -> None:
    make_adapter(folder=tmp_path / "run" / "adapter")
    (tmp_path / "run" / "report.html").write_text(PAGE)

    assert publish(tmp_path / "run", tmp_path / "registry") == PUBLIC
    assert (tmp_path / "run" / "report.html").read_text() == PAGE
    assert tell(tmp_path / "run") == "The published report shows no rows of data."


def test_rows_are_left_out_of_a_report_inside_the_adapter_folder(make_adapter: MakeAdapter, tmp_path: Path) -> None:
    folder = make_adapter(folder=tmp_path / "downloaded")
    (folder / "report.html").write_text(PAGE)

    assert publish(folder, tmp_path / "registry") == PUBLIC
    assert Registry(tmp_path / "registry").verify() == []


def test_published_report_is_published_again_as_the_same_version(make_adapter: MakeAdapter, tmp_path: Path) -> None:
    make_adapter(folder=tmp_path / "run" / "adapter")
    (tmp_path / "run" / "report.html").write_text(PAGE)
    first = Registry(tmp_path / "registry").publish(tmp_path / "run")

    again = Registry(tmp_path / "other").publish(first.path)

    assert again.digest == first.digest


def test_rows_stay_in_the_report_if_the_recipe_publishes_them(make_adapter: MakeAdapter, tmp_path: Path) -> None:
    folder = make_adapter(folder=tmp_path / "run" / "adapter")
    (tmp_path / "run" / "report.html").write_text(PAGE)
    card = read_card(folder)
    recipe = resolve_recipe(card.name, evaluate=card.recipe["evaluate"], report={"rows": True})
    write_card(folder, card.model_copy(update=recipe))

    assert publish(tmp_path / "run", tmp_path / "registry") == PAGE
    assert "shows test rows to everyone" in tell(tmp_path / "run")


@pytest.mark.parametrize("rows", [1, "yes", None])
def test_only_a_plain_true_publishes_rows(rows: object, make_adapter: MakeAdapter, tmp_path: Path) -> None:
    folder = make_adapter(folder=tmp_path / "adapter")
    (tmp_path / "report.html").write_text(PAGE)
    card = read_card(folder)
    card = card.model_copy(update={"recipe": {**card.recipe, "report": {"rows": rows}}})

    assert public_report(tmp_path / "report.html", card, None) == PUBLIC


def test_report_whose_rows_are_not_marked_is_not_published(make_adapter: MakeAdapter, tmp_path: Path) -> None:
    folder = make_adapter(folder=tmp_path / "run" / "adapter")
    (tmp_path / "run" / "recipe.json").write_text("{}")
    (tmp_path / "run" / "report.html").write_text("<h2>Some rows</h2><td>a patient's words</td>")
    evaluation = {
        "adapter": file_digest(folder / CARD),
        "hub_id": None,
        "rows": 4,
        **RESULTS,
        "baseline": None,
        "gate": {"passed": True, "reasons": []},
        "examples": [{"text": "a patient's words"}],
    }
    (tmp_path / "run" / "evaluation.json").write_text(json.dumps(evaluation))

    assert publish(tmp_path / "run", tmp_path / "registry") is None
    assert Registry(tmp_path / "registry").verify() == []


@pytest.mark.parametrize(
    ("source", "public"),
    [
        ("/home/ann/secret project/may.csv", "may.csv"),
        ("data/may.csv", "may.csv"),
        ("/home/ann/rows/", "rows"),
        ("file:///home/ann/may.csv", "may.csv"),
        ("~/may.csv", "may.csv"),
        ("/home/ann/a:b.csv", "a:b.csv"),
        ("may.csv", "may.csv"),
        ("pypi:simple-icd-10-cm==1.5.0", "pypi:simple-icd-10-cm==1.5.0"),
        ("hf:owner/name", "hf:owner/name"),
        ("s3://bucket/rows/may.csv", "s3://bucket/rows/may.csv"),
    ],
)
def test_public_form_of_a_source_has_no_local_folders(source: str, public: str) -> None:
    assert public_source(source) == public
