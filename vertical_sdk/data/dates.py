"""Find absolute dates in a text, and move them all by the same number of days.

A date is a day with its month ("2021-03-04", "3/4/2021", "4.3.2021", "20210304", "March 4, 2021", "4-Mar-2021", "March 4",
"2021年3月4日", "3月4日") and a month with its year ("March 2021", "03/2021", "2021年3月"). A bare year, a weekday or "two weeks ago"
says too little about a person, and stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import date, timedelta

from vertical_sdk.data.scripts import fold_width, isolate_latin, write_like
from vertical_sdk.data.spans import Taken

__all__ = ["find_dates", "shift_dates"]

MONTHS = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)
_NAME = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?"
    r"|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
_DAY = r"(?P<day>0?[1-9]|[12]\d|3[01])(?P<th>st|nd|rd|th)?"
_YEAR = r"(?P<year>(?:19|20)\d\d)"
_CLOCK = r"(?:[01]\d|2[0-3]):?[0-5]\d"
_AFTER = rf"(?:(?=[Tt_-]{_CLOCK})|(?![\w/-]|\.\d))"
"""What may follow a date: a time of day, or the end of the word."""
_STAMP = rf"(?:(?={_CLOCK}(?:[0-5]\d)?(?:\.?\d{{1,6}})?(?:Z|[+-]\d{{4}})?(?![\w/]))|{_AFTER})"
"""What may follow a date of eight digits: also the digits of a time ("202103040830")."""
_MONTH, _DAY_NUMBER = r"(?P<m>0?[1-9]|1[0-2])", r"(?P<day>0?[1-9]|[12]\d|3[01])"
_NUMBERS = r"(?P<first>0?[1-9]|[12]\d|3[01])(?P<sep>[-/.])(?P<second>0?[1-9]|[12]\d|3[01])(?P=sep)"
LATIN = tuple(
    re.compile(rf"(?<![\w./-]){pattern}", flags)
    for pattern, flags in (
        (rf"{_YEAR}(?P<sep>[-/.]|\. ){_MONTH}(?P=sep){_DAY_NUMBER}{_AFTER}", 0),
        (rf"{_NUMBERS}(?P<year>(?:19|20)\d\d|(?<!\.)\d\d){_AFTER}", 0),
        (rf"(?P<first>0?[1-9]|[12]\d|3[01])(?P<sep>\. )(?P<second>0?[1-9]|1[0-2])(?P=sep){_YEAR}{_AFTER}", 0),
        (rf"{_YEAR}(?P<sep>)(?P<m>0[1-9]|1[0-2])(?P<day>0[1-9]|[12]\d|3[01]){_STAMP}", 0),
        (rf"{_DAY}(?P<sep>[-/.]){_NAME}(?P<dot>\.?)(?:(?P=sep)(?P<year>(?:19|20)?\d\d))?{_AFTER}", re.IGNORECASE),
        (rf"{_DAY}{_NAME}(?P<sep>){_YEAR}{_AFTER}", re.IGNORECASE),
        (rf"{_YEAR}(?P<sep>[-/.]| ){_NAME}(?P<dot>\.?)(?P=sep){_DAY}{_AFTER}", re.IGNORECASE),
        (rf"{_NAME}(?P<dot>\.?)(?P<sep>[-/]){_DAY}(?P=sep)(?P<year>(?:19|20)?\d\d){_AFTER}", re.IGNORECASE),
        (rf"{_NAME}(?P<dot>\.?) {_DAY}(?:(?P<comma>,? )(?P<year>(?:19|20)\d\d|'\d\d))?{_AFTER}", re.IGNORECASE),
        (
            rf"{_DAY} (?:of )?{_NAME}(?P<dot>\.?)(?:(?P<comma>,? )(?P<year>(?:19|20)\d\d|'\d\d|\d\d(?! ?[a-z%])))?{_AFTER}",
            re.IGNORECASE,
        ),
        (rf"{_NAME}(?P<dot>\.?)(?P<comma>,? |[-/]){_YEAR}{_AFTER}", re.IGNORECASE),
    )
)
"""Forms in Latin letters and digits, looked for in a text whose other letters are gaps."""
DOTTED = re.compile(rf"(?<![\w./-]){_NUMBERS.replace('[-/.]', '[.]')}(?P<year>\d\d){_AFTER}")
LABELLED = re.compile(
    r"(?:^|\b(?:born|birth|d\.?o\.?b\.?|dated?|on|since|until|till|from|to|of|am|vom|den|seit))[\s:]*\Z", re.I
)
"""The start of a text, or a word before "31.12.99", which may be a version too."""
MONTHS_OF_YEARS = tuple(
    re.compile(rf"(?<![\w./-]){pattern}{_AFTER}")
    for pattern in (rf"(?P<m>0[1-9]|1[0-2])(?P<sep>[/-]){_YEAR}", rf"{_YEAR}(?P<sep>[/-])(?P<m>0[1-9]|1[0-2])")
)
CITED = re.compile(
    r"(?:\b(?:pages?|pp|no|nos|nr|number|regulation|directive|decision|decree|law|act|case|docket|claim|cause|index|file|appeal|application"
    r"|petition|matter|article|section|rule|resolution|order)\b|[#§]|\d|\))[.\s:]*\Z",
    re.IGNORECASE,
)
"""Words before a number of a year, such as "Regulation 12/2006"."""
_HAN = "〇零一二三四五六七八九"
_HAN_YEAR = rf"(?P<year>(?:19|20)\d\d|[一二][{_HAN}]{{3}})"
_HAN_MONTH = r"(?P<m>0?[1-9](?!\d)|1[0-2]|十[一二]?|[一二三四五六七八九])"
_HAN_DAY = r"(?P<day>0?[1-9](?!\d)|[12]\d|3[01]|[二三]?十[一二三四五六七八九]?|[一二三四五六七八九])"
HAN = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?<!\d){_HAN_YEAR} ?[年년] ?{_HAN_MONTH} ?[月월](?: ?{_HAN_DAY} ?[日号號일])?",
        rf"(?<!\d)(?P<year>\d\d) ?[年년] ?{_HAN_MONTH} ?[月월] ?{_HAN_DAY} ?[日号號일]",
        rf"(?<![\d一二三四五六七八九十]){_HAN_MONTH} ?[月월] ?{_HAN_DAY} ?[日号號일]",
    )
)
"""Forms of Chinese, Japanese and Korean."""
WITHOUT_YEAR = 2001
"""The year of a date that has none. It is not a leap year."""


def find_dates(text: str) -> list[tuple[int, int]]:
    """Find the (start, end) of each date, in order and without overlaps."""
    return [match.span() for match, _ in _match_dates(text)]


def shift_dates(text: str, days: int) -> str:
    """Move each date and keep its format. The intervals between dates stay the same."""
    parts, end = [], 0
    for match, moment in _match_dates(text):
        try:
            moved = moment + timedelta(days=days)
        except OverflowError:
            continue
        parts += [text[end : match.start()], write_like(_format_date(match, moved), text[match.start() : match.end()])]
        end = match.end()
    return "".join([*parts, text[end:]])


def _match_dates(text: str) -> list[tuple[re.Match[str], date]]:
    found: list[tuple[re.Match[str], date]] = []
    taken = Taken()
    if not text.isascii():
        for pattern in HAN:
            found += _take(pattern.finditer(fold_width(text)), taken)
    latin = isolate_latin(text)
    if any(c.isdigit() for c in latin):
        for pattern in LATIN:
            found += _take(pattern.finditer(latin), taken)
        labelled = (m for m in DOTTED.finditer(latin) if LABELLED.search(latin[max(0, m.start() - 12) : m.start()]))
        found += _take(labelled, taken)
        for pattern in MONTHS_OF_YEARS:
            months = (m for m in pattern.finditer(latin) if not CITED.search(latin[max(0, m.start() - 16) : m.start()]))
            found += _take(months, taken)
    return sorted(found, key=lambda one: one[0].start())


def _take(matches: Iterable[re.Match[str]], taken: Taken) -> Iterator[tuple[re.Match[str], date]]:
    """Take the matches that are days of the calendar and overlap no earlier one."""
    for match in matches:
        if taken.is_free(*match.span()) and (moment := _parse_date(match)):
            taken.take(*match.span())
            yield match, moment


def _parse_date(match: re.Match[str]) -> date | None:
    parts = match.groupdict()
    day = _parse_number(parts.get("day") or "1")
    if "first" in parts:
        month, day = int(parts["first"]), int(parts["second"])
        if _day_first(parts):
            month, day = day, month
    elif "m" in parts:
        month = _parse_number(parts["m"])
        if "day" not in parts and match.start("year") < match.start("m") and month == (int(parts["year"]) + 1) % 100:
            return None  # a season: 2009-10
    else:
        month = _parse_month(parts["month"])
        if parts["month"] in {"may", "march", "mar"} and not parts.get("year"):
            return None  # the verbs: "you may 2 or 3 times"
    year = _parse_number(parts["year"].lstrip("'")) if parts.get("year") else WITHOUT_YEAR
    if year < 100:
        year += 2000 if year < 50 else 1900
    try:
        return date(year, month, day)
    except ValueError:
        return None


def _parse_number(written: str) -> int:
    """Read digits, digits of Chinese ("二〇二四") or a Chinese number below 100 ("二十一")."""
    if written[0] not in _HAN and written[0] != "十":
        return int(written)
    values = {"零": 0, **{character: value for value, character in enumerate("〇一二三四五六七八九")}}
    if "十" not in written:
        return int("".join(str(values[c]) for c in written))
    tens, _, ones = written.partition("十")
    return 10 * (values[tens] if tens else 1) + (values[ones] if ones else 0)


def _write_number(number: int, like: str, *, fixed: bool = False) -> str:
    """Write a number below 100 as another one is written, or a year in Chinese digits."""
    if like[0] not in _HAN and like[0] != "十":
        return f"{number:02d}" if like.startswith("0") or (fixed and len(like) == 2) else str(number)
    digits = "零一二三四五六七八九" if "零" in like else "〇一二三四五六七八九"
    if len(like) == 4:
        return "".join(digits[int(d)] for d in f"{number:04d}")
    tens, ones = divmod(number, 10)
    return (digits[tens] if tens > 1 else "") + ("十" if tens else "") + (digits[ones] if ones else "")


def _day_first(parts: dict[str, str]) -> bool:
    """Whether the day comes before the month: with dots, or if the first number cannot be a month. Else the US order holds."""
    first, second = int(parts["first"]), int(parts["second"])
    return second <= 12 and (first > 12 or parts["sep"].startswith("."))


def _parse_month(name: str) -> int:
    return next(number for number, full in enumerate(MONTHS, 1) if full.startswith(name.lower()[:3]))


def _format_date(match: re.Match[str], moved: date) -> str:
    """Write a date in the form of a match, part by part."""
    parts = match.groupdict()
    numbers = {"day": moved.day, "m": moved.month}
    if "first" in parts:
        numbers = dict(
            zip(("first", "second"), (moved.day, moved.month) if _day_first(parts) else (moved.month, moved.day), strict=True)
        )
    written = match.group()
    fixed = parts.get("sep") is not None
    spans = [(match.span(n), _write_number(number, parts[n], fixed=fixed)) for n, number in numbers.items() if parts.get(n)]
    if parts.get("month"):
        spans.append((match.span("month"), _format_month(moved.month, parts["month"])))
    if parts.get("th"):
        spans.append((match.span("th"), _ordinal_suffix(moved.day)))
    if parts.get("year"):
        spans.append((match.span("year"), _format_year(moved.year, parts["year"])))
    for (start, end), new in sorted(spans, reverse=True):
        written = written[: start - match.start()] + new + written[end - match.start() :]
    return written


def _format_year(year: int, like: str) -> str:
    if like[0] in _HAN:
        return _write_number(year, like)
    return f"{year:04d}" if len(like) == 4 else f"{like.rstrip('0123456789')}{year % 100:02d}"


def _format_month(month: int, like: str) -> str:
    full = MONTHS[month - 1]
    name = full if like.lower() in MONTHS else full[:3]
    return name.upper() if like.isupper() else name.capitalize() if like[0].isupper() else name


def _ordinal_suffix(day: int) -> str:
    return "th" if 10 <= day % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
