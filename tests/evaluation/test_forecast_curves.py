"""What a report draws of forecasts."""

from __future__ import annotations

import numpy as np

from vertical_sdk.evaluation.forecasts import forecast_curves, place_channels
from vertical_sdk.evaluation.plots import map_plot
from vertical_sdk.outputs import Outputs
from vertical_sdk.types import Example, SeriesLayout


def test_a_chain_of_sensors_is_laid_out_as_a_line() -> None:
    graph = np.zeros((6, 6))
    for i in range(5):
        graph[i, i + 1] = graph[i + 1, i] = 0.5
    along = place_channels(graph)[:, 1]
    assert (np.diff(along) > 0).all() or (np.diff(along) < 0).all()


def test_sensors_without_any_road_between_them_have_places_too() -> None:
    assert np.isfinite(place_channels(np.eye(4))).all()


def test_errors_are_drawn_by_step_and_by_hour() -> None:
    rows = [Example(id=str(h), time=f"2024-01-01T{h:02}:00:00") for h in range(4)]
    truth = np.zeros((4, 2, 1))
    said = {"adapter": Outputs(values=np.stack([np.full((2, 1), h) for h in range(4)]) * np.array([[1.0], [2.0]]))}

    drawn = forecast_curves(rows, truth, said, "forecasting", SeriesLayout(("a",), 3600.0, 3, 2))

    assert drawn["by_step"]["lines"]["specialist"] == [(1.0, 1.5), (2.0, 3.0)]
    assert drawn["by_hour"]["lines"]["specialist"] == [(0.0, 0.0), (1.0, 1.5), (2.0, 3.0), (3.0, 4.5)]
    assert "map" not in drawn
    assert forecast_curves(rows, truth, said, "regression", None) == {}


def test_a_map_names_its_worst_places_and_escapes_them() -> None:
    drawn = map_plot([(0, 0, 1.0, "a"), (1, 1, 2.0, "<b>"), (2, 0, float("nan"), "c")], "error")
    assert drawn.count("<circle") == 2
    assert "&lt;b&gt;" in drawn
    assert map_plot([(0, 0, 1.0, "a")]) == ""
