"""Metrics of alarms (rows,), 1 for an alarm, against (rows,), 1 for an anomaly."""

from __future__ import annotations

from vertical_sdk.catalog import SHARE, metrics
from vertical_sdk.metrics.classification import Ints
from vertical_sdk.metrics.measure import UNDEFINED

__all__ = ["alarm_f1", "alarm_precision", "alarm_recall"]


@metrics.register("alarm_precision", within=SHARE, tasks=("anomaly",))
def alarm_precision(predictions: Ints, references: Ints) -> float:
    """Share of the alarms that are right; undefined without alarms."""
    return _share((predictions * references).sum(), predictions.sum())


@metrics.register("alarm_recall", within=SHARE, tasks=("anomaly",))
def alarm_recall(predictions: Ints, references: Ints) -> float:
    """Share of the anomalous rows that raise an alarm; undefined without anomalies."""
    return _share((predictions * references).sum(), references.sum())


@metrics.register("alarm_f1", within=SHARE, tasks=("anomaly",))
def alarm_f1(predictions: Ints, references: Ints) -> float:
    """Harmonic mean of precision and recall of alarms; undefined without alarms and anomalies."""
    return _share(2 * (predictions * references).sum(), predictions.sum() + references.sum())


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else UNDEFINED
