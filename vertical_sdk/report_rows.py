"""The parts of a report that show rows of data: between two comments, so that publishing can leave them out."""

from __future__ import annotations

import re

__all__ = ["BEGIN", "END", "GENERATOR", "has_rows", "is_report", "remove_rows"]

GENERATOR = '<meta name="generator" content="vertical_sdk 1">'
BEGIN, END = "<!-- rows of data begin -->", "<!-- rows of data end -->"
ROWS = re.compile(f"{BEGIN}.*?(?:{END}|\\Z)", re.DOTALL)


def is_report(page: str) -> bool:
    """Whether a page is a report whose rows are marked."""
    return GENERATOR in page


def has_rows(page: str) -> bool:
    """Whether a report shows rows of data."""
    return BEGIN in page


def remove_rows(page: str) -> str:
    """Leave out everything that shows rows of data."""
    return ROWS.sub("", page)
