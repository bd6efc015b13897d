from __future__ import annotations

import math
import time
from datetime import datetime, timedelta

import numpy as np
import pytest
from vertical_sdk.domains.traffic.alarms import detection_rate, false_alarms, read_alarm_facts, time_to_detect

from vertical_sdk.errors import DataError
from vertical_sdk.types import Cell, Example

START = datetime(2024, 1, 1, 6)


def row(series: str, minute: int, incident: str | None = None, since: float | None = None) -> Example:
    record: tuple[tuple[str, Cell], ...] = (
        ("anomaly", float(incident is not None)),
        ("series", series),
        ("incident", incident),
        ("minutes", since),
        ("hours", 1 / 60),
    )
    moment = (START + timedelta(minutes=minute)).isoformat()
    return Example(id=f"{series}/{minute}", time=moment, record=record, group=f"day {incident}")


def day(name: str, offset: int) -> list[Example]:
    """Two sensors for ten minutes, with an incident at both in minutes 5 to 7."""
    return [
        row(series, offset + minute, name if 5 <= minute < 8 else None, minute - 4.0 if 5 <= minute < 8 else None)
        for series in ("up", "down")
        for minute in range(10)
    ]


def alarms(rows: list[Example], *at: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array([one.id in at for one in rows], dtype=np.int64)


def test_the_share_of_incidents_and_the_minutes_until_they_are_noticed() -> None:
    rows = [*day("first", 0), *day("second", 100), *day("third", 200)]
    said = alarms(rows, "up/6", "down/7", "down/105")

    assert detection_rate(said, read_alarm_facts(rows)) == pytest.approx(2 / 3)
    assert time_to_detect(said, read_alarm_facts(rows)) == pytest.approx((2.0 + 1.0) / 2)


def test_alarms_in_a_row_are_one_false_alarm() -> None:
    rows = day("first", 0)
    said = alarms(rows, "up/1", "up/2", "up/4", "down/2", "up/6", "down/9")

    # 14 minutes of two sensors outside the incident: up has alarms at 1-2 and 4, down at 2 and 9.
    assert false_alarms(said, read_alarm_facts(rows)) == pytest.approx(4 / (14 / 60 / 24))


def test_no_alarms_detect_nothing_and_a_day_without_incidents_has_no_rate() -> None:
    rows = day("first", 0)
    said = np.zeros(len(rows), dtype=np.int64)

    assert (detection_rate(said, read_alarm_facts(rows)), false_alarms(said, read_alarm_facts(rows))) == (0, 0)
    assert time_to_detect(said, read_alarm_facts(rows)) == 3
    quiet = rows[:3]
    assert math.isnan(detection_rate(said[:3], read_alarm_facts(quiet)))
    assert math.isnan(time_to_detect(said[:3], read_alarm_facts(quiet)))
    incident = [row for row in rows if dict(row.record)["anomaly"]]
    assert math.isnan(false_alarms(said[: len(incident)], read_alarm_facts(incident)))


def test_a_day_drawn_twice_counts_twice() -> None:
    first, second = day("first", 0), day("second", 100)
    rows = [*first, *second, *first]
    said = alarms(rows, "up/6", "up/1")

    assert detection_rate(said, read_alarm_facts(rows)) == pytest.approx(2 / 3)
    assert time_to_detect(said, read_alarm_facts(rows)) == 2
    assert false_alarms(said, read_alarm_facts(rows)) == pytest.approx(2 / (42 / 60 / 24))


def test_the_order_of_rows_does_not_matter() -> None:
    rows = [*day("first", 0), *day("second", 100)]
    said = alarms(rows, "up/6", "up/1", "up/2", "down/106")
    order, facts = np.random.default_rng(0).permutation(len(rows)), read_alarm_facts(rows)

    for metric in (detection_rate, time_to_detect, false_alarms):
        assert metric(said[order], read_alarm_facts([rows[i] for i in order])) == pytest.approx(metric(said, facts))
        assert metric(said[order], facts[order]) == pytest.approx(metric(said, facts))


def test_rows_without_their_facts_are_refused() -> None:
    with pytest.raises(DataError, match="row x needs a time, and anomaly, series and hours"):
        read_alarm_facts([Example(id="x", time="2024-01-01", record=(("anomaly", 0.0),))])
    record: tuple[tuple[str, Cell], ...] = (("anomaly", 1.0), ("series", "s"), ("hours", 0.1))
    with pytest.raises(DataError, match="row y is in an incident"):
        read_alarm_facts([Example(id="y", time="2024-01-01T00:00", record=record)])


def test_a_bootstrap_of_ten_thousand_rows_takes_seconds() -> None:
    rows = [one for n in range(500) for one in day(f"day {n}", 100 * n)]
    said = (np.random.default_rng(0).random(len(rows)) < 0.1).astype(np.int64)
    facts = read_alarm_facts(rows)

    begun = time.perf_counter()
    for _ in range(5):
        for metric in (detection_rate, time_to_detect, false_alarms):
            metric(said, facts[np.arange(len(rows))])

    assert (time.perf_counter() - begun) / 5 < 0.25
