import pytest

from vertical_sdk.data.dates import find_dates, shift_dates


@pytest.mark.parametrize(
    ("before", "days", "after"),
    [
        ("seen 2021-03-04.", 1, "seen 2021-03-05."),
        ("2021-12-31T10:30", 1, "2022-01-01T10:30"),
        ("03/04/2021", 30, "04/03/2021"),
        ("3/4/21", -4, "2/28/21"),
        ("25/12/2020", 7, "01/01/2021"),
        ("4.3.2021", 1, "5.3.2021"),
        ("March 4, 2021", 28, "April 1, 2021"),
        ("on 4 Mar 2021", 28, "on 1 Apr 2021"),
        ("MARCH 31st, 2020", 1, "APRIL 1st, 2020"),
        ("1st of May 2020", -1, "30th of April 2020"),
        ("in Mar. 2021", 31, "in Apr. 2021"),
        ("born April 9", 365, "born April 9"),
        ("28.02.2020 to 01.03.2020", 365, "27.02.2021 to 01.03.2021"),
    ],
)
def test_a_date_moves_and_keeps_its_format(before: str, days: int, after: str) -> None:
    assert shift_dates(before, days) == after


@pytest.mark.parametrize(
    "text",
    ["120/80", "version 1.5.10", "192.168.10.20", "in 2021", "two weeks ago", "you may 2 or 3 times", "2021-02-30", "1/2"],
)
def test_texts_that_are_not_dates_and_vague_dates_stay(text: str) -> None:
    assert find_dates(text) == []
    assert shift_dates(text, 100) == text


def test_found_dates_are_in_order_and_apart() -> None:
    text = "From March 4, 2021 until 3/9/2021"

    assert [text[a:b] for a, b in find_dates(text)] == ["March 4, 2021", "3/9/2021"]
