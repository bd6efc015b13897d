"""Metrics of alarms."""

from __future__ import annotations

import numpy as np

from vertical_sdk.metrics.alarms import alarm_f1, alarm_precision, alarm_recall

SAID, SO = np.array([1, 1, 0, 0, 1]), np.array([1, 0, 0, 1, 0])


def test_alarms_are_counted_against_anomalies() -> None:
    assert (alarm_precision(SAID, SO), alarm_recall(SAID, SO), alarm_f1(SAID, SO)) == (1 / 3, 1 / 2, 2 / 5)


def test_alarm_metrics_are_zero_without_alarms_and_anomalies() -> None:
    none = np.zeros(3, dtype=np.int64)
    assert (alarm_precision(none, none), alarm_recall(none, none), alarm_f1(none, none)) == (0.0, 0.0, 0.0)
