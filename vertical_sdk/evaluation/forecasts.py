"""What a report shows of forecasts: errors by step and by hour, some forecasts with the truth, and where the errors are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.card import Card
from vertical_sdk.models.outputs import Outputs
from vertical_sdk.types import Example

__all__ = ["forecast_curves"]

Curve = dict[str, Any]
SHOWN = 3
"""So many channels are drawn over a stretch of time."""
STRETCH = 96
"""So many forecasts of one channel follow each other in a drawing."""


def forecast_curves(rows: Sequence[Example], truth: NDArray[Any], said: Mapping[str, Outputs], card: Card) -> dict[str, Curve]:
    """Drawings by name, each {"title", "x", "y", "lines": {name: [(x, y), …]}}; none for other tasks than forecasting."""
    if card.task != "forecasting" or card.steps is None:
        return {}
    errors = {name: np.abs(outputs.values - truth) for name, outputs in said.items() if outputs.values is not None}
    minutes = card.steps.seconds / 60
    unit, per = ("hours", 60.0) if minutes >= 30 else ("minutes", 1.0)
    by_step = {
        _line(name): [((k + 1) * minutes / per, float(np.nanmean(one[:, k]))) for k in range(one.shape[1])]
        for name, one in errors.items()
    }
    curves: dict[str, Curve] = {
        "by_step": {"title": "Error by how far ahead", "x": f"{unit} ahead", "y": "mean absolute error", "lines": by_step}
    }
    hours = np.array([int(row.time[11:13]) if row.time and len(row.time) >= 13 else -1 for row in rows])
    if (hours >= 0).all() and len(set(hours.tolist())) > 2:
        by_hour = {
            _line(name): [(float(hour), float(np.nanmean(one[hours == hour]))) for hour in sorted(set(hours.tolist()))]
            for name, one in errors.items()
        }
        curves["by_hour"] = {"title": "Error by hour of the day", "x": "hour", "y": "mean absolute error", "lines": by_hour}
    own = said["adapter"]
    last = truth.shape[1] - 1
    for place in _channels(errors["adapter"]):
        stretch = slice(max(0, len(rows) // 2 - STRETCH // 2), len(rows) // 2 + STRETCH // 2)
        assert own.values is not None
        lines = {"truth": truth[stretch, last, place], "forecast": own.values[stretch, last, place]}
        if own.quantiles is not None:
            lines |= {
                "lower bound": own.quantiles[stretch, last, place, 1],
                "upper bound": own.quantiles[stretch, last, place, -1],
            }
        curves[f"channel {place}"] = {
            "title": f"{card.steps.channels[place]}: what was foreseen {(last + 1) * minutes / per:g} {unit} before, and what came",
            "x": "step",
            "y": "value",
            "lines": {name: [(float(i), float(v)) for i, v in enumerate(one) if np.isfinite(v)] for name, one in lines.items()},
        }
    return curves


def _line(system: str) -> str:
    return {"adapter": "specialist", "alone": "its adapter alone"}.get(system, system.replace("_", " "))


def _channels(errors: NDArray[Any]) -> list[int]:
    """The best, the middle and the worst channel by their errors."""
    order = np.argsort(np.nanmean(errors, axis=(0, 1))).tolist()
    return list(dict.fromkeys([order[0], order[len(order) // 2], order[-1]]))[:SHOWN]
