"""Find absolute dates in a text, and move them all by the same number of days.

A date is a day with its month ("2021-03-04", "3/4/2021", "4.3.2021", "March 4, 2021", "4 Mar 2021", "March 4") and a month with
its year ("March 2021"). A bare year, a weekday or "two weeks ago" says too little about a person, and stays.
"""

from __future__ import annotations

import re
from datetime import date, timedelta

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
_AFTER = r"(?![\w/-]|\.\d)"
PATTERNS = tuple(
    re.compile(rf"(?<![\w./-]){pattern}", flags)
    for pattern, flags in (
        (rf"{_YEAR}(?P<sep>[-/.])(?P<m>0?[1-9]|1[0-2])(?P=sep)(?P<day>0?[1-9]|[12]\d|3[01])(?:(?=T\d\d)|{_AFTER})", 0),
        (
            rf"(?P<first>0?[1-9]|[12]\d|3[01])(?P<sep>[-/.])(?P<second>0?[1-9]|[12]\d|3[01])(?P=sep)(?P<year>(?:19|20)\d\d|(?<!\.)\d\d){_AFTER}",
            0,
        ),
        (rf"{_NAME}(?P<dot>\.?) {_DAY}(?:(?P<comma>,? ){_YEAR})?{_AFTER}", re.IGNORECASE),
        (rf"{_DAY} (?:of )?{_NAME}(?P<dot>\.?)(?:(?P<comma>,? ){_YEAR})?{_AFTER}", re.IGNORECASE),
        (rf"{_NAME}(?P<dot>\.?)(?P<comma>,? ){_YEAR}{_AFTER}", re.IGNORECASE),
    )
)
WITHOUT_YEAR = 2001
"""The year of a date that has none. It is not a leap year."""


def find_dates(text: str) -> list[tuple[int, int]]:
    """Find the (start, end) of each date, in order and without overlaps."""
    return [(match.start(), match.end()) for match, _ in _match_dates(text)]


def shift_dates(text: str, days: int) -> str:
    """Move each date and keep its format. The intervals between dates stay the same."""
    parts, end = [], 0
    for match, moment in _match_dates(text):
        try:
            moved = moment + timedelta(days=days)
        except OverflowError:
            continue
        parts += [text[end : match.start()], _format_date(match, moved)]
        end = match.end()
    return "".join([*parts, text[end:]])


def _match_dates(text: str) -> list[tuple[re.Match[str], date]]:
    taken: list[tuple[re.Match[str], date]] = []
    if not any(c.isdigit() for c in text):
        return taken
    for pattern in PATTERNS:
        for match in pattern.finditer(text):
            clash = any(match.start() < other.end() and other.start() < match.end() for other, _ in taken)
            moment = None if clash else _parse_date(match)
            if moment:
                taken.append((match, moment))
    return sorted(taken, key=lambda found: found[0].start())


def _parse_date(match: re.Match[str]) -> date | None:
    parts = match.groupdict()
    if "first" in parts:
        month, day = int(parts["first"]), int(parts["second"])
        if _day_first(parts):
            month, day = day, month
    elif "m" in parts:
        month, day = int(parts["m"]), int(parts["day"])
    else:
        month, day = _parse_month(parts["month"]), int(parts.get("day") or 1)
        if parts["month"] in {"may", "march", "mar"} and not parts.get("year"):
            return None  # the verbs: "you may 2 or 3 times"
    year = int(parts["year"]) if parts.get("year") else WITHOUT_YEAR
    if year < 100:
        year += 2000 if year < 50 else 1900
    try:
        return date(year, month, day)
    except ValueError:
        return None


def _day_first(parts: dict[str, str]) -> bool:
    """Whether the day comes before the month: with dots, or if the first number cannot be a month. Else the US order holds."""
    first, second = int(parts["first"]), int(parts["second"])
    return second <= 12 and (first > 12 or parts["sep"] == ".")


def _parse_month(name: str) -> int:
    return next(number for number, full in enumerate(MONTHS, 1) if full.startswith(name.lower()[:3]))


def _format_date(match: re.Match[str], moved: date) -> str:
    parts = match.groupdict()
    if "first" in parts:
        year = f"{moved.year:04d}" if len(parts["year"]) == 4 else f"{moved.year % 100:02d}"
        first, second = (moved.day, moved.month) if _day_first(parts) else (moved.month, moved.day)
        return parts["sep"].join([_pad_number(first, parts["first"]), _pad_number(second, parts["second"]), year])
    if "m" in parts:
        return parts["sep"].join(
            [f"{moved.year:04d}", _pad_number(moved.month, parts["m"]), _pad_number(moved.day, parts["day"])]
        )
    written = match.group()
    spans = [(match.span("month"), _format_month(moved.month, parts["month"]))]
    if parts.get("day"):
        spans.append((match.span("day"), f"{moved.day:02d}" if parts["day"].startswith("0") else str(moved.day)))
    if parts.get("th"):
        spans.append((match.span("th"), _ordinal_suffix(moved.day)))
    if parts.get("year"):
        spans.append((match.span("year"), f"{moved.year:04d}"))
    for (start, end), new in sorted(spans, reverse=True):
        written = written[: start - match.start()] + new + written[end - match.start() :]
    return written


def _pad_number(number: int, like: str) -> str:
    return f"{number:02d}" if like.startswith("0") or (len(like) == 2 and number < 10) else str(number)


def _format_month(month: int, like: str) -> str:
    full = MONTHS[month - 1]
    name = full if like.lower() in MONTHS else full[:3]
    return name.upper() if like.isupper() else name.capitalize() if like[0].isupper() else name


def _ordinal_suffix(day: int) -> str:
    return "th" if 10 <= day % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
