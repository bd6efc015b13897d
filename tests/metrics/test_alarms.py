"""Metrics of alarms."""

from __future__ import annotations

import numpy as np

from vertical_sdk.metrics.alarms import alarm_f1, alarm_precision, alarm_recall

SAID, SO = np.array([1, 1, 0, 0, 1]), np.array([1, 0, 0, 1, 0])


def test_alarms_are_counted_against_anomalies() -> None:
    assert (alarm_precision(SAID, SO), alarm_recall(SAID, SO), alarm_f1(SAID, SO)) == (1 / 3, 1 / 2, 2 / 5)


def test_alarm_metrics_are_undefined_without_alarms_and_anomalies() -> None:
    none, some = np.zeros(3, dtype=np.int64), np.array([0, 1, 0])
    assert np.isnan([alarm_precision(none, none), alarm_recall(none, none), alarm_f1(none, none)]).all()
    assert np.isnan(alarm_precision(none, some))
    assert np.isnan(alarm_recall(some, none))
    assert (alarm_recall(none, some), alarm_precision(some, none)) == (0.0, 0.0)
    assert (alarm_f1(none, some), alarm_f1(some, none)) == (0.0, 0.0)
