"""Curves of forecasts for a report: errors by step, by hour and by channel, and some forecasts with the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.outputs import Outputs
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, SeriesLayout, TaskName

__all__ = ["forecast_curves", "place_channels"]

Curve = dict[str, Any]
SHOWN = 3
"""The number of channels that are drawn over a period of time."""
FEW = 8
"""Up to this many channels, no map is drawn."""
STRETCH = 96
"""The number of successive forecasts of one channel in a drawing."""


def forecast_curves(
    rows: Sequence[Example], truth: NDArray[Any], outputs: Mapping[str, Outputs], task: TaskName, layout: SeriesLayout | None
) -> dict[str, Curve]:
    """Compute curves by name, each {"title", "x", "y", "lines": {name: [(x, y), …]}}; {} for other tasks than forecasting.

    outputs  of each system, by its name

    A map has "points" instead of lines: (x, y, error, channel). Channels near each other in the graph have near points.
    """
    if get_task(task).verb != "forecast" or layout is None:
        return {}
    errors = {name: np.abs(system.values - truth) for name, system in outputs.items() if system.values is not None}
    minutes = layout.seconds / 60
    unit, per = ("hours", 60.0) if minutes >= 30 else ("minutes", 1.0)
    by_step = {
        _line(name): [((k + 1) * minutes / per, float(np.nanmean(error[:, k]))) for k in range(error.shape[1])]
        for name, error in errors.items()
    }
    curves: dict[str, Curve] = {
        "by_step": {"title": "Error by steps ahead", "x": f"{unit} ahead", "y": "mean absolute error", "lines": by_step}
    }
    hours = np.array([int(row.time[11:13]) if row.time and len(row.time) >= 13 else -1 for row in rows])
    if (hours >= 0).all() and len(set(hours.tolist())) > 2:
        by_hour = {
            _line(name): [(float(hour), float(np.nanmean(error[hours == hour]))) for hour in sorted(set(hours.tolist()))]
            for name, error in errors.items()
        }
        curves["by_hour"] = {"title": "Error by hour of the day", "x": "hour", "y": "mean absolute error", "lines": by_hour}
    own = outputs["adapter"]
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
            "title": f"{layout.channels[place]}: forecast {(last + 1) * minutes / per:g} {unit} ahead, and truth",
            "x": "step",
            "y": "value",
            "lines": {
                name: [(float(i), float(v)) for i, v in enumerate(line) if np.isfinite(v)] for name, line in lines.items()
            },
        }
    if layout.graph is not None and len(layout.channels) > FEW:
        places = place_channels(layout.graph)
        at = np.nanmean(errors["adapter"], axis=(0, 1))
        curves["map"] = {
            "title": "Error by channel, placed by the graph (not by geography)",
            "x": "",
            "y": "mean absolute error",
            "lines": {},
            "points": [
                (float(x), float(y), float(e), name) for (x, y), e, name in zip(places, at, layout.channels, strict=True)
            ],
        }
    return curves


def place_channels(graph: NDArray[Any]) -> NDArray[np.float64]:
    """Compute places (channels, 2) with distances like those along the graph (classical scaling: Torgerson, 1952).

    graph  (channels, channels) nearness, from 0
    """
    from scipy.sparse.csgraph import shortest_path

    near = np.maximum(graph, graph.T).astype(np.float64)
    np.fill_diagonal(near, 0)
    length = np.where(near > 0, 1 - np.log(np.maximum(near, 1e-12) / near.max()) if near.any() else 1.0, 0)
    far = shortest_path(length, directed=False)
    finite = far[np.isfinite(far)]
    far[~np.isfinite(far)] = 1.2 * finite.max() if finite.any() else 1.0
    squared = far**2
    centred = -0.5 * (squared - squared.mean(0) - squared.mean(1)[:, None] + squared.mean())
    values, vectors = np.linalg.eigh(centred)
    places: NDArray[np.float64] = vectors[:, -2:] * np.sqrt(np.maximum(values[-2:], 0))
    return places


def _line(system: str) -> str:
    return {"adapter": "specialist", "alone": "its adapter alone"}.get(system, system.replace("_", " "))


def _channels(errors: NDArray[Any]) -> list[int]:
    """The best, the middle and the worst channel by their errors."""
    order = np.argsort(np.nanmean(errors, axis=(0, 1))).tolist()
    return list(dict.fromkeys([order[0], order[len(order) // 2], order[-1]]))[:SHOWN]
