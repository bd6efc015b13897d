"""Check that the pages of results are those that the stored measurements give, and that their links work."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType

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


@pytest.mark.parametrize(
    ("metric", "low", "high", "expected"),
    [("macro_f1", 0.01, 0.1, True), ("macro_f1", -0.01, 0.1, False), ("rmse", -0.1, -0.01, True), ("rmse", 0.01, 0.1, False)],
)
def test_a_lead_is_sure_if_the_interval_is_on_the_better_side(
    page: ModuleType, metric: str, low: float, high: float, expected: bool
) -> None:
    assert page.sure_lead({"value": 0.0, "low": low, "high": high}, metric) is expected
