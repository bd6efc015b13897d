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
        ("born 31-Dec-1999", 1, "born 01-Jan-2000"),
        ("31 Dec 1999 / 31/DEC/1999", 2, "2 Jan 2000 / 02/JAN/2000"),
        ("Dec-31-1999, 1999-Dec-31", 1, "Jan-01-2000, 2000-Jan-01"),
        ("31Dec1999 and 31-Dec-99", 1, "01Jan2000 and 01-Jan-00"),
        ("31 Dec '99 or 31 Dec 99.", 1, "1 Jan '00 or 1 Jan 00."),
        ("12/31/99", 1, "01/01/00"),
        ("born 31.12.99", 1, "born 01.01.00"),
        ("geb. 31. 12. 1999", 1, "geb. 01. 01. 2000"),
        ("on 19991231, at 19991231T0830", 1, "on 20000101, at 20000101T0830"),
        ("199912310830 20210304083015.5", 1, "200001010830 20210305083015.5"),
        ("31.12.1999 08:30, 31/12/1999-08:30", 1, "01.01.2000 08:30, 01/01/2000-08:30"),
        ("12/1999, 2021-03, Dec-1999", 31, "01/2000, 2021-04, Jan-2000"),
        ("于1999年12月31日入院，12月31号出院", 1, "于2000年1月1日入院，1月1号出院"),
        ("1999 年 12 月 31 日", 1, "2000 年 1 月 1 日"),
        ("１９９９年１２月３１日", 1, "２０００年１月１日"),
        ("二〇二四年三月五日", 26, "二〇二四年三月三十一日"),
        ("一九九九年十二月三十一日", 1, "二〇〇〇年一月一日"),
        ("2021年3月", 31, "2021年4月"),
        ("1999년 12월 31일", 1, "2000년 1월 1일"),
        ("日期1999-12-31上午", 1, "日期2000-01-01上午"),
        ("出生19991231。", 1, "出生20000101。"),
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


NUMBERS = """
    10-20 mg|version 10.11.12|v22.04.10|clause 10.11.12|Regulation 12/2006|No. 05/2013|Oct-4 expression|2009-10 season|2005/06|take 2.may be
    |2-octanol|12345678|20211399|order 20231301|010-62785001|13800138000|3-5 days|5-10|article 20|ISO 8601-1|10.2012|1999-2005|12-14 weeks
    |L4-5|3.5-4.0|2020-21|price 2000.12|第3条第12款|有期徒刑3年2个月|3年2月|1999年|13月5日|2月30日|617-867-5309|19-12-1|20:12:31
    |110101199003078515|6222021234567890128|pages 1999-12|120311990101|lot 199912311|A19991231|1.19991231"""


def test_ordinary_numbers_are_not_dates() -> None:
    numbers = [number.strip() for number in NUMBERS.split("|")]

    assert [number for number in numbers if find_dates(number)] == []
    assert len(numbers) == 43


def test_found_dates_are_in_order_and_apart() -> None:
    text = "From March 4, 2021 until 3/9/2021"

    assert [text[a:b] for a, b in find_dates(text)] == ["March 4, 2021", "3/9/2021"]
