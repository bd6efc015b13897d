"""Times with and without a zone: a specialist of series keeps the kind that it was trained on, and refuses the other.

A time without a zone is the clock of wherever it was measured. A time with a zone is an instant; the zone in the card says in whose
clock the specialist reads the time of day.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, available_timezones

from vertical_sdk.errors import DataError, RecipeError, did_you_mean
from vertical_sdk.types import NO_ZONE, Example, SeriesLayout

__all__ = ["choose_zone", "convert_rows", "find_zone", "name_offset", "parse_time", "require_zone", "to_clock"]

OFFSET = re.compile(r"([+-])(\d\d):(\d\d)$")


def parse_time(cell: object, where: str, column: str) -> datetime:
    """Read a cell as a time, with its zone if it has one.

    Raises DataError for a cell that is not ISO 8601.
    """
    if isinstance(cell, date) and not isinstance(cell, datetime):
        return datetime.combine(cell, time())
    try:
        return datetime.fromisoformat(str(cell).strip().replace("Z", "+00:00"))
    except ValueError:
        raise DataError(
            f"column {column!r} contains {str(cell)[:40]!r}, which is not a time. Write it as 2016-10-01 07:00:00.", where=where
        ) from None


def name_offset(moment: datetime) -> str:
    """Name the zone of a time by its offset: "UTC" or "+08:00"; NO_ZONE without one."""
    offset = moment.utcoffset()
    if offset is None:
        return NO_ZONE
    minutes = round(offset.total_seconds() / 60)
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}" if minutes else "UTC"


def find_zone(name: str, where: str = "data.reader.zone") -> tzinfo:
    """Find a zone by its name: "UTC", "+08:00" or "Asia/Shanghai".

    Raises RecipeError for a name that is not known.
    """
    if name == "UTC":
        return timezone.utc
    if offset := OFFSET.match(name):
        size = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
        if size < timedelta(days=1):
            return timezone(-size if offset[1] == "-" else size)
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise RecipeError(
            f"no zone is called {name!r}.{did_you_mean(name, sorted(available_timezones()))} Write Europe/Berlin, UTC or +08:00.",
            where=where,
        ) from None


def choose_zone(moments: Sequence[datetime], places: Sequence[str], named: str | None) -> str:
    """Choose the zone in whose clock the rows of a file keep the time of day; NO_ZONE if the times have no zone.

    moments  the times of the file; places: file and line of each, for messages
    named    the zone of the recipe; None means the offset of the times if they all have the same one, else UTC

    Raises DataError if only some of the times have a zone, or none has while a zone is named.
    """
    with_zone = [moment.tzinfo is not None for moment in moments]
    if any(with_zone) and not all(with_zone):
        odd = next(index for index, has in enumerate(with_zone) if has != with_zone[0])
        kinds = ("without", "with") if with_zone[odd] else ("with", "without")
        raise DataError(
            f"{moments[odd].isoformat()} is a time {kinds[1]} a zone, and the times before it are {kinds[0]} one. Write all times of "
            "a file in the same way.",
            where=places[odd],
        )
    if not any(with_zone):
        if named is not None:
            raise DataError(
                f"{moments[0].isoformat()} is a time without a zone, and data.reader.zone is {named}. Write the times with their zone "
                f"(2024-01-31T08:05:00+01:00), or leave data.reader.zone out.",
                where=places[0],
            )
        return NO_ZONE
    if named is not None:
        find_zone(named)
        return named
    offsets = {name_offset(moment) for moment in moments}
    return offsets.pop() if len(offsets) == 1 else "UTC"


def to_clock(moment: datetime, zone: str) -> datetime:
    """Express an instant in the clock of a zone, with its offset; a time without a zone stays as it is."""
    return (
        moment
        if zone == NO_ZONE
        else moment.astimezone(timezone(moment.astimezone(find_zone(zone)).utcoffset() or timedelta()))
    )


def require_zone(moment: datetime, zone: str | None, where: str = "") -> datetime:
    """Return a time in the clock that a specialist was trained in.

    zone  of the card's layout

    Raises DataError for a time with a zone if the specialist was trained on times without one, and the reverse.
    """
    has = moment.tzinfo is not None
    if has and zone in {None, NO_ZONE}:
        trained = (
            "was trained on times without a zone"
            if zone == NO_ZONE
            else "was trained by an older version, which did not keep the zone of its times"
        )
        raise DataError(
            f"{moment.isoformat()} is a time with a zone ({name_offset(moment)}), and this specialist {trained}. Give times without "
            "a zone, in the clock of the training data; with pandas: tz_convert(<that zone>).tz_localize(None).",
            where=where,
        )
    if not has and zone not in {None, NO_ZONE}:
        raise DataError(
            f"{moment.isoformat()} is a time without a zone, and this specialist was trained on times with one ({zone}). Give times "
            "with their zone: 2024-01-31T08:05:00+01:00; with pandas: tz_localize(<the zone>).",
            where=where,
        )
    return to_clock(moment, zone) if zone is not None else moment


def convert_rows(rows: Sequence[Example], layout: SeriesLayout, zone: str | None, where: str) -> list[Example]:
    """Express the times of rows in the clock that a specialist was trained in.

    layout  of the specialist; zone: of the rows

    Raises DataError as `require_zone` does.
    """
    timed = next((row.time for row in rows if row.time), None)
    if timed is None:
        return list(rows)
    require_zone(datetime.fromisoformat(timed), layout.zone, where)
    if zone == layout.zone or layout.zone in {None, NO_ZONE}:
        return list(rows)
    return [replace(row, time=row.time and to_clock(datetime.fromisoformat(row.time), layout.zone).isoformat()) for row in rows]
