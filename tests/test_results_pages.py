"""Check that the pages of results are those that the stored measurements give, and that their links work."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("page")


def test_result_pages_equal_the_stored_measurements(page: ModuleType) -> None:
    pages = page.pages(page.read_records(page.RECORDS), page.read_records(page.ABLATION))

    assert set(pages) == {page.OVERVIEW, *page.DETAILS.glob("*.md")}
    for path, text in pages.items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is not up to date; run python benchmarks/page.py"


def test_links_in_the_overview_lead_to_headings(page: ModuleType) -> None:
    links = re.findall(r"\]\((results/[a-z]+\.md)#([^)]+)\)", page.OVERVIEW.read_text(encoding="utf-8"))

    assert links
    for file, anchor in set(links):
        headings = re.findall(r"^## (.*)$", (ROOT / "docs" / file).read_text(encoding="utf-8"), re.MULTILINE)
        assert anchor in {re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-") for heading in headings}


def record(metric: str, low: float, high: float, **more: Any) -> dict[str, Any]:
    """One measured recipe with two baselines, of which the trees are stronger."""
    far = 0.9 if metric == "macro_f1" else -0.9
    differences = {"base": (far, far - 0.1, far + 0.1), "boosted_trees": ((low + high) / 2, low, high)}
    tests = [
        {
            "baseline": name,
            "metric": metric,
            "difference": dict(zip(("value", "low", "high"), values, strict=True)),
            "p_value": 0.5,
        }
        for name, values in differences.items()
    ]
    systems = {"base": {"title": "general base"}, "boosted_trees": {"title": "boosted trees"}}
    return {"systems": systems, "tests": tests, "confidence": 0.95, **more}


@pytest.mark.parametrize(
    ("metric", "low", "high", "outcome"),
    [
        ("macro_f1", 0.01, 0.1, "adds"),
        ("macro_f1", -0.01, 0.1, "nothing"),
        ("macro_f1", -0.1, -0.01, "worse"),
        ("rmse", -0.1, -0.01, "adds"),
        ("rmse", 0.01, 0.1, "worse"),
    ],
)
def test_an_adapter_is_worth_it_if_the_interval_is_on_the_better_side(
    page: ModuleType, metric: str, low: float, high: float, outcome: str
) -> None:
    found = page.weigh(record(metric, low, high))

    assert (found.alternative, found.name, found.outcome) == ("boosted_trees", "boosted trees", outcome)


def test_an_adapter_without_weight_is_not_worth_it(page: ModuleType) -> None:
    assert page.weigh(record("macro_f1", 0.01, 0.1, ensemble={"adapter": 0.0, "boosted_trees": 1.0})).outcome == "nothing"


def test_the_system_that_the_evaluation_chose_is_compared_with(page: ModuleType) -> None:
    chosen = record("macro_f1", -0.01, 0.1, contribution={"alternative": "base", "name": "general base"})

    assert page.weigh(chosen).alternative == "base"


@pytest.mark.parametrize(
    ("metric", "values", "verdict"),
    [
        ("macro_f1", (0.72, 0.74, 0.73), "pays"),
        ("macro_f1", (0.69, 0.75, 0.69), "within noise"),
        ("rmse", (0.72, 0.74, 0.73), "worse"),
        ("rmse", (0.68, 0.66, 0.67), "pays"),
    ],
)
def test_method_pays_if_the_interval_over_seeds_is_a_gain(
    page: ModuleType, metric: str, values: tuple[float, ...], verdict: str
) -> None:
    own = {"0": 0.70, "1": 0.70, "2": 0.70}
    gains = [value - 0.70 for value in values]
    mean = sum(gains) / 3
    # the 97.5% point of Student's distribution with 2 degrees of freedom, from a table
    reach = 4.303 * (sum((gain - mean) ** 2 for gain in gains) / 2) ** 0.5 / 3**0.5

    difference, found = page.describe_difference(dict(zip(own, values, strict=True)), own, metric)

    assert found == verdict
    assert [float(number) for number in re.findall(r"[-+][\d.]+", difference)] == pytest.approx(
        [mean, mean - reach, mean + reach], abs=6e-4
    )
