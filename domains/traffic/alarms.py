"""Metrics of alarms: how many incidents are detected, how soon, and how many alarms are false.

A row is one sensor and step; its record has whether it is in an incident (`anomaly`), in which (`incident`), how many minutes after
its start the step ends (`minutes`), which sensor (`series`) and how many hours it represents (`hours`); see `traffic.incidents`. Rows that
a bootstrap draws twice count twice: draw whole days (`evaluate.resample: groups`), so that incidents stay whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.catalog import metrics
from vertical_sdk.errors import DataError
from vertical_sdk.metrics.measure import UNDEFINED
from vertical_sdk.types import Example

__all__ = ["detection_rate", "false_alarms", "time_to_detect"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class AlarmFacts:
    """What the metrics read from rows: each array is (rows,).

    incident  number of the incident; -1 outside incidents
    minutes   since the incident started; 0 outside incidents
    series    number of the sensor
    moment    seconds since 1970
    hours     that the row represents
    """

    incident: Ints
    minutes: Floats
    series: Ints
    moment: Floats
    hours: Floats

    def __getitem__(self, positions: Ints) -> AlarmFacts:
        arrays = (self.incident, self.minutes, self.series, self.moment, self.hours)
        return AlarmFacts(*(array[positions] for array in arrays))


def read_alarm_facts(rows: Sequence[Example]) -> AlarmFacts:
    """Read what the metrics of alarms need from the rows of `traffic.incidents`.

    Raises DataError if a row has no time, or its record lacks a field.
    """
    numbers: dict[str, int] = {}

    def number(name: str) -> int:
        return numbers.setdefault(name, len(numbers))

    def read(row: Example) -> tuple[int, float, int, float, float]:
        record = dict(row.record)
        series, hours = record.get("series"), record.get("hours")
        try:
            moment = datetime.fromisoformat((row.time or "").replace("Z", "+00:00")).replace(tzinfo=None)
        except ValueError:
            moment = None
        if series is None or moment is None or not isinstance(hours, float) or record.get("anomaly") is None:
            raise DataError(f"row {row.id} needs a time, and anomaly, series and hours in its record; see traffic.incidents.")
        seconds = (moment - datetime(1970, 1, 1)).total_seconds()
        if not record["anomaly"]:
            return -1, 0.0, number(f"series {series}"), seconds, hours
        minutes = record.get("minutes")
        if record.get("incident") is None or not isinstance(minutes, float):
            raise DataError(f"row {row.id} is in an incident, so its record needs incident and minutes; see traffic.incidents.")
        return number(f"incident {record['incident']}"), minutes, number(f"series {series}"), seconds, hours

    table = np.array([read(row) for row in rows], dtype=np.float64).reshape(len(rows), 5)
    return AlarmFacts(table[:, 0].astype(np.int64), table[:, 1], table[:, 2].astype(np.int64), table[:, 3], table[:, 4])


@metrics.register("traffic.detection_rate", tasks=("anomaly",), prepare=read_alarm_facts)
def detection_rate(predictions: NDArray[Any], facts: AlarmFacts) -> float:
    """The share of incidents with at least one alarm, at any of their sensors, from their start to their end.

    Undefined without incidents.

    predictions  (rows,) 1 for an alarm, 0 for none
    """
    noticed, weights, _ = _incidents(np.asarray(predictions), facts)
    return float(np.average(noticed, weights=weights)) if len(noticed) else UNDEFINED


@metrics.register("traffic.time_to_detect", tasks=("anomaly",), higher_is_better=False, prepare=read_alarm_facts)
def time_to_detect(predictions: NDArray[Any], facts: AlarmFacts) -> float:
    """Minutes from an incident's start to the end of the first step with an alarm, averaged over the detected incidents.

    Read it beside the detection rate: a system that detects only the easy ones is fast. If none is detected, the longest time of any row
    since its incident's start; undefined without incidents.

    predictions  (rows,) 1 for an alarm, 0 for none
    """
    noticed, weights, first = _incidents(np.asarray(predictions), facts)
    if not len(noticed):
        return UNDEFINED
    if not noticed.any():
        return float(facts.minutes[facts.incident >= 0].max())
    return float(np.average(first[noticed], weights=weights[noticed]))


@metrics.register("traffic.false_alarms", tasks=("anomaly",), higher_is_better=False, prepare=read_alarm_facts)
def false_alarms(predictions: NDArray[Any], facts: AlarmFacts) -> float:
    """Alarms outside incidents, for each sensor and 24 hours outside incidents; alarms in a row of one sensor are one alarm.

    Undefined if all rows are in incidents.

    predictions  (rows,) 1 for an alarm, 0 for none
    """
    alarm = np.asarray(predictions) > 0
    outside = facts.incident < 0
    hours = float(facts.hours[outside].sum())
    wrong = np.flatnonzero(alarm & outside)
    if not hours or not len(wrong):
        return 0.0 if hours else UNDEFINED
    keys = np.stack([facts.series[wrong].astype(np.float64), facts.moment[wrong]], axis=1)
    unique, at, times = np.unique(keys, axis=0, return_index=True, return_counts=True)
    step = facts.hours[wrong[at]] * 3600
    follows = (unique[1:, 0] == unique[:-1, 0]) & (unique[1:, 1] - unique[:-1, 1] <= 1.5 * step[1:])
    begins = np.append(True, ~follows)
    return float(times[begins].sum()) / (hours / 24)


def _incidents(alarm: NDArray[Any], facts: AlarmFacts) -> tuple[NDArray[np.bool_], Floats, Floats]:
    """For each incident: whether it was detected, how often it counts, minutes to its first alarm (infinite without one)."""
    own = np.flatnonzero(facts.incident >= 0)
    names, where = np.unique(facts.incident[own], return_inverse=True)
    first = np.full(len(names), np.inf)
    np.minimum.at(first, where, np.where(alarm[own] > 0, facts.minutes[own], np.inf))
    keys = np.stack([where.astype(np.float64), facts.series[own].astype(np.float64), facts.moment[own]], axis=1)
    different = np.bincount(np.unique(keys, axis=0)[:, 0].astype(np.int64), minlength=len(names)) if len(own) else np.zeros(0)
    weights = np.bincount(where, minlength=len(names)) / np.maximum(1, different)
    return np.isfinite(first), weights, first
