"""Metrics of alarms (rows,), 1 for an alarm, against (rows,), 1 for an anomaly."""

from __future__ import annotations

from vertical_sdk.catalog import metrics
from vertical_sdk.metrics.classification import Ints

__all__ = ["alarm_f1", "alarm_precision", "alarm_recall"]


@metrics.register("alarm_precision", tasks=("anomaly",))
def alarm_precision(predictions: Ints, references: Ints) -> float:
    """Share of the alarms that are right; 0 without alarms."""
    return float((predictions * references).sum() / max(1, predictions.sum()))


@metrics.register("alarm_recall", tasks=("anomaly",))
def alarm_recall(predictions: Ints, references: Ints) -> float:
    """Share of the anomalous rows that raise an alarm; 0 without anomalies."""
    return float((predictions * references).sum() / max(1, references.sum()))


@metrics.register("alarm_f1", tasks=("anomaly",))
def alarm_f1(predictions: Ints, references: Ints) -> float:
    """Harmonic mean of precision and recall of alarms; 0 without alarms and anomalies."""
    return float(2 * (predictions * references).sum() / max(1, predictions.sum() + references.sum()))
