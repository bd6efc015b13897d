"""Curves of forecasts in a report."""

from __future__ import annotations

import numpy as np

from vertical_sdk.evaluation.forecasts import forecast_curves, place_channels
from vertical_sdk.evaluation.plots import map_plot
from vertical_sdk.outputs import Outputs
from vertical_sdk.types import Example, SeriesLayout


def test_chain_of_sensors_is_placed_as_a_line() -> None:
    graph = np.zeros((6, 6))
    for i in range(5):
        graph[i, i + 1] = graph[i + 1, i] = 0.5
    along = place_channels(graph)[:, 1]
    assert (np.diff(along) > 0).all() or (np.diff(along) < 0).all()


def test_sensors_without_roads_have_finite_places() -> None:
    assert np.isfinite(place_channels(np.eye(4))).all()


def test_curves_show_errors_by_step_and_by_hour() -> None:
    rows = [Example(id=str(h), time=f"2024-01-01T{h:02}:00:00") for h in range(4)]
    truth = np.zeros((4, 2, 1))
    outputs = {"adapter": Outputs(values=np.stack([np.full((2, 1), h) for h in range(4)]) * np.array([[1.0], [2.0]]))}

    curves = forecast_curves(rows, truth, outputs, "forecasting", SeriesLayout(("a",), 3600.0, 3, 2))

    assert curves["by_step"]["lines"]["specialist"] == [(1.0, 1.5), (2.0, 3.0)]
    assert curves["by_hour"]["lines"]["specialist"] == [(0.0, 0.0), (1.0, 1.5), (2.0, 3.0), (3.0, 4.5)]
    assert "map" not in curves
    assert forecast_curves(rows, truth, outputs, "regression", None) == {}


def test_map_names_its_worst_places_and_escapes_names() -> None:
    plot = map_plot([(0, 0, 1.0, "a"), (1, 1, 2.0, "<b>"), (2, 0, float("nan"), "c")], "error")
    assert plot.count("<circle") == 2
    assert "&lt;b&gt;" in plot
    assert map_plot([(0, 0, 1.0, "a")]) == ""
