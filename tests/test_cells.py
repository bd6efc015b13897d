import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from vertical_sdk.cells import clean_text, find_look_alikes, is_empty, is_missing, normalize_key, to_number

ENGLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
NBSP, ZERO_WIDTH, BOM = "\u00a0", "\u200b", "\ufeff"


@pytest.mark.parametrize(
    "cell",
    [None, "", "  ", NBSP, ZERO_WIDTH, float("nan"), np.float32("nan"), np.datetime64("NaT"), pd.NA, pd.NaT, Decimal("NaN")],
)
def test_a_cell_without_a_value_is_empty(cell: Any) -> None:
    assert is_empty(cell)
    assert is_missing(cell)
    assert normalize_key(cell) is None


@pytest.mark.parametrize("word", ["NA", "N/A", "n/a", "#N/A", "nan", "NaN", " None ", "null", "NULL", "<NA>", "NaT"])
def test_a_word_for_a_missing_cell_is_missing_but_not_empty(word: str) -> None:
    assert is_missing(word)
    assert not is_empty(word)
    assert not is_missing(word, ())


@pytest.mark.parametrize("cell", [0, 0.0, False, "0", "no", "Nan Li", "nano", "-", "unknown", [], np.array([1, 2])])
def test_other_cells_are_values(cell: Any) -> None:
    assert not is_missing(cell)


@pytest.mark.parametrize(
    ("cell", "key"),
    [
        (" p7 ", "p7"),
        (f"p7{NBSP}", "p7"),
        (f"{BOM}p7{ZERO_WIDTH}", "p7"),
        ("p\u00ad7", "p7"),
        ("cafe\u0301", "caf\u00e9"),
        ("a \t b", "a b"),
        (7, "7"),
        (7.0, "7"),
        ("7.0", "7"),
        ("7.00", "7"),
        ("-3.0", "-3"),
        ("-0.0", "0"),
        (np.int64(7), "7"),
        (np.float32(7), "7"),
        (Decimal("7.00"), "7"),
        (100.0, "100"),
        (7.5, "7.5"),
        ("7.50", "7.50"),
        ("007", "007"),
        ("007.0", "007.0"),
        ("1e3", "1e3"),
        (True, "True"),
        (np.bool_(True), "True"),
        (datetime.date(2024, 1, 2), "2024-01-02"),
        (datetime.datetime(2024, 1, 2), "2024-01-02"),
        (np.datetime64("2024-01-02T00:00:00.000000000"), "2024-01-02"),
        ("2024-01-02T00:00:00.000", "2024-01-02"),
        (datetime.datetime(2024, 1, 2, 3, 4), "2024-01-02 03:04:00"),
        ("2024-01-02T03:04", "2024-01-02 03:04:00"),
        ("2024-01-02T03:04:05.250", "2024-01-02 03:04:05.25"),
        (datetime.datetime(2024, 1, 2, tzinfo=datetime.timezone.utc), "2024-01-02 00:00:00+00:00"),
        (datetime.datetime(2024, 1, 2, tzinfo=ZoneInfo("Asia/Shanghai")), "2024-01-02 00:00:00+08:00"),
        ("-0", "0"),
        (-0.0, "0"),
        ("+7", "+7"),
        ("+7.0", "+7.0"),
        ("p7\u061c", "p7"),
        ("p\ufe0f7", "p7"),
        ("p7\U000e0041", "p7"),
        ("p7\x9c", "p7"),
        ("\x02p7\x03", "p7"),
        ("\x00", None),
        (ENGLAND, ENGLAND),
        ("\u3164", None),
        ("P7", "P7"),
        ("\u06a9\u200c\u06a9", "\u06a9\u200c\u06a9"),
        ("spam\u200d", "spam"),
    ],
)
def test_a_key_has_one_form(cell: Any, key: str) -> None:
    assert normalize_key(cell) == key


def test_words_keep_their_order_and_single_spaces() -> None:
    assert clean_text(f" spam{NBSP}{NBSP} folder\n") == "spam folder"


@pytest.mark.parametrize(
    ("cell", "number"),
    [("1.5", 1.5), (" 2 ", 2.0), (3, 3.0), ("1e-3", 0.001), ("1_5", None), ("x", None), (None, None), (10**400, float("inf"))],
)
def test_a_number_is_read_as_people_write_it(cell: Any, number: float | None) -> None:
    assert to_number(cell) == number


def test_names_that_may_be_one_are_found() -> None:
    names = ["Spam", "spam", "ham", "1", "1.0", "01", "2", "True", "true", "\uff21", "A"]

    assert sorted(find_look_alikes(names)) == [("01", "1", "1.0"), ("A", "\uff21"), ("Spam", "spam"), ("True", "true")]
