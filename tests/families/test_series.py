"""Series through a text backbone."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import save_causal, save_encoder

from vertical_sdk.bases.base import pull_base
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.families.series import Course, SeriesSpecialist, seconds_of_week
from vertical_sdk.families.specialist import create_specialist, run_rows
from vertical_sdk.recipe import Recipe
from vertical_sdk.types import Example, LabelSpace, SeriesLayout

HOUR = 3600.0


def recipe(task: str, base: Path, **series: object) -> Recipe:
    return Recipe.model_validate(
        {"name": "t", "task": task, "base": str(base), "data": {"source": "x", "modality": "series"}, "series": series}
    )


def hourly(days: int, channels: int = 2, seed: int = 0) -> np.ndarray:
    """Waves of a day, each channel by its own height, with a little noise."""
    hours = np.arange(24 * days)[:, None]
    waves = np.sin(hours / 24 * 2 * np.pi + np.arange(channels)) * (5 + np.arange(channels)) + 50
    return (waves + np.random.default_rng(seed).normal(0, 0.1, waves.shape)).astype(np.float32)


def rows_of(values: np.ndarray, history: int, horizon: int, start: datetime = datetime(2024, 1, 1)) -> list[Example]:
    return [
        Example(
            id=str(i),
            values=values[i - history : i],
            target=values[i : i + horizon],
            time=(start + timedelta(hours=i - 1)).isoformat(),
        )
        for i in range(history, len(values) - horizon + 1)
    ]


def batch_of(specialist: SeriesSpecialist, rows: list[Example]) -> dict[str, torch.Tensor]:
    return specialist.collate([specialist.encode(row, learn=True) for row in rows])


def test_a_time_is_known_as_seconds_since_monday() -> None:
    assert seconds_of_week("2024-01-01T00:00:00") == 0.0
    assert seconds_of_week("2024-01-03T08:05:10") == 2 * 86_400 + 8 * 3600 + 5 * 60 + 10
    assert seconds_of_week("2024-01-01T02:00:00+02:00") == 2 * 3600  # by its own clock
    assert seconds_of_week(None) == 0.0
    with pytest.raises(DataError, match="'Tuesday' is not a time"):
        seconds_of_week("Tuesday")


def test_the_linear_start_learns_a_daily_wave_better_than_the_last_value() -> None:
    values = hourly(10)
    rows = rows_of(values, 6, 3)
    layout = SeriesLayout(("a", "b"), HOUR, 6, 3)
    course = Course(layout, 1)
    stacked = torch.from_numpy(np.stack([row.values for row in rows]))
    targets = torch.from_numpy(np.stack([row.target for row in rows]))
    at = torch.tensor([seconds_of_week(row.time) for row in rows])

    course.fit(stacked[:150], at[:150], targets[:150], (0.5,))

    forecast = course(*course.features(stacked[150:], at[150:]))[..., 0]
    error, naive = (forecast - targets[150:]).abs().mean(), (stacked[150:, -1:] - targets[150:]).abs().mean()
    assert error < 0.2 < naive


def test_the_linear_start_has_quantiles_that_hold_their_share() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, (2000, 1)).astype(np.float32)
    rows = rows_of(noise, 4, 1)
    course = Course(SeriesLayout(("a",), HOUR, 4, 1), 3)
    stacked = torch.from_numpy(np.stack([row.values for row in rows]))
    targets = torch.from_numpy(np.stack([row.target for row in rows]))
    at = torch.zeros(len(rows))

    course.fit(stacked, at, targets, (0.5, 0.05, 0.95))

    middle, low, high = course(*course.features(stacked, at)).unbind(-1)
    assert abs(float((targets < low).float().mean()) - 0.05) < 0.02
    assert abs(float((targets < high).float().mean()) - 0.95) < 0.02
    assert abs(float((targets < middle).float().mean()) - 0.5) < 0.03


def test_gaps_count_as_the_last_value_and_dark_channels_as_usual() -> None:
    layout = SeriesLayout(("a", "b"), HOUR, 3, 1)
    course = Course(layout, 1)
    course.usual[:] = 7.0
    values = torch.tensor([[[1.0, float("nan")], [float("nan"), float("nan")], [3.0, float("nan")]]])

    features, last = course.features(values, torch.zeros(1))

    assert last.tolist() == [[3.0, 7.0]]
    assert features[0, 0, :3].tolist() == [-2.0, -2.0, 0.0]  # 1, 1 carried on, 3, from the last value 3
    assert features[0, 0, 3:6].tolist() == [1.0, 0.0, 1.0]
    assert features[0, 1, 3:6].tolist() == [0.0, 0.0, 0.0]


def test_neighbours_of_the_graph_are_read_and_a_channel_is_not_its_own() -> None:
    graph = np.array([[1.0, 1.0, 3.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    course = Course(SeriesLayout(("a", "b", "c"), HOUR, 1, 1, graph), 1)
    features, _ = course.features(torch.tensor([[[0.0, 4.0, 8.0]]]), torch.zeros(1))

    assert features[0, :, 2].tolist() == [7.0, -4.0, -8.0]  # (1·4 + 3·8) / 4; a's 0 − 4; c has no neighbour


@pytest.mark.parametrize("tokens", ["patches", "channels"])
@pytest.mark.parametrize("kind", ["encoder", "causal"])
def test_a_fresh_forecaster_says_what_its_linear_start_says(kind: str, tokens: str, tmp_path: Path) -> None:
    base = (save_encoder if kind == "encoder" else save_causal)(tmp_path / kind)
    rows = rows_of(hourly(8), 6, 3)
    specialist = create_specialist(
        pull_base(str(base)), recipe("forecasting", base, tokens=tokens, patch=4), None, SeriesLayout(("a", "b"), HOUR, 6, 3)
    )
    assert isinstance(specialist, SeriesSpecialist)
    specialist.fit_to_rows([specialist.encode(row, learn=True) for row in rows])
    batch = batch_of(specialist, rows)

    out, targets = specialist(batch)

    assert specialist.course is not None
    linear = specialist.course(*specialist.course.features(batch["values"], batch["at"]))
    assert targets is not None
    assert out.shape == (len(rows), 3, 2, 1)
    torch.testing.assert_close(out, linear)


def test_the_backbone_changes_the_forecast_and_gets_gradients(tmp_path: Path) -> None:
    base = save_encoder(tmp_path / "base")
    specialist = create_specialist(
        pull_base(str(base)), recipe("forecasting", base), None, SeriesLayout(("a", "b"), HOUR, 6, 3)
    )
    assert isinstance(specialist, SeriesSpecialist)
    torch.nn.init.normal_(specialist.own["outlet"].weight)  # type: ignore[arg-type]
    out, _ = specialist(batch_of(specialist, rows_of(hourly(3), 6, 3)))
    out.sum().backward()

    trained = {name for name, p in specialist.named_parameters() if p.requires_grad and p.grad is not None and p.grad.any()}
    assert any("lora_B" in name for name in trained)
    assert {"own.embed.weight", "own.outlet.weight", "own.course.linear.weight"} <= trained


def test_only_the_first_layers_run_where_the_recipe_says_so(tmp_path: Path) -> None:
    base = save_causal(tmp_path / "base")
    specialist = create_specialist(
        pull_base(str(base)), recipe("forecasting", base, layers=1), None, SeriesLayout(("a",), HOUR, 4, 1)
    )
    ran: list[int] = []
    layers = specialist.backbone.get_base_model().model.layers
    for number, layer in enumerate(layers):
        layer.register_forward_hook(lambda *_, number=number: ran.append(number))

    specialist(batch_of(specialist, rows_of(hourly(2, 1), 4, 1)))

    assert ran == [0]
    assert len(specialist.backbone.get_base_model().model.layers) == 1  # the layers above it are dropped
    assert not any("layers.1" in name for name, p in specialist.named_parameters() if p.requires_grad)


def test_series_of_two_lengths_learn_their_labels(tmp_path: Path) -> None:
    base = save_encoder(tmp_path / "base")
    labels = LabelSpace(("flat", "wild"))
    specialist = create_specialist(pull_base(str(base)), recipe("classification", base, patch=5), labels)
    rng = np.random.default_rng(0)
    rows = [Example(id=str(n), values=rng.normal(size=20 + n).astype(np.float32), target="wild") for n in range(3)]
    encoded = [specialist.encode(row, learn=True) for row in rows]

    features = run_rows(specialist, encoded, specialist.features)
    alone = torch.cat([run_rows(specialist, [row], specialist.features) for row in encoded[2:]])

    assert features.shape == (3, 32)
    torch.testing.assert_close(features[2:], alone, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(3))


def test_wrong_shapes_and_empty_series_are_refused(tmp_path: Path) -> None:
    base = pull_base(str(save_encoder(tmp_path / "base")))
    specialist = create_specialist(base, recipe("forecasting", base.path), None, SeriesLayout(("a", "b"), HOUR, 6, 3))
    with pytest.raises(DataError, match="6 steps of 2 channels"):
        specialist.encode(Example(id="1", values=np.zeros((5, 2))), learn=False)
    with pytest.raises(DataError, match="has no measured value"):
        specialist.encode(Example(id="1", values=np.full((6, 2), np.nan)), learn=False)
    with pytest.raises(DataError, match="no series"):
        specialist.encode(Example(id="1", text="hello"), learn=False)
    with pytest.raises(RecipeError, match=r"series\.layers = 9"):
        create_specialist(base, recipe("forecasting", base.path, layers=9), None, SeriesLayout(("a",), HOUR, 6, 3))
    with pytest.raises(RecipeError, match="needs a reader"):
        create_specialist(base, recipe("forecasting", base.path), None, None)
    with pytest.raises(RecipeError, match="for forecasting"):
        create_specialist(base, recipe("classification", base.path, tokens="channels"), LabelSpace(("a", "b")))
    with pytest.raises(RecipeError, match="at most 64 tokens"):
        create_specialist(base, recipe("forecasting", base.path, patch=1), None, SeriesLayout(("a",), HOUR, 70, 3))
