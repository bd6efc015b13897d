"""Series, pictures and forecasts over HTTP, compared with the specialist alone."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inference.conftest import beats, pictures, striped  # noqa: F401  (fixtures)
from inference.test_forecast import forecaster, table  # noqa: F401  (a fixture)
from PIL import Image
from server.test_model_api import Client, build
from servers.http_server import serving as serving_http
from serving.conftest import Published

from vertical_sdk.inference import VerticalModel
from vertical_sdk.registry import Registry


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, beats: Path, pictures: Path, forecaster: Path) -> dict[str, Path]:  # noqa: F811
    return {"a/beats": beats, "a/stripes": pictures, "a/speeds": forecaster}


@pytest.fixture(scope="module")
def client(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("served")
    registry = Registry(folder / "registry")
    bases = []
    for name, run in runs.items():
        registry.publish(run, name, force=True, reason="test")
        bases.append(VerticalModel.from_pretrained(run).base.name)
    app, serving, secrets, log = build(Published(registry, tuple(bases)), folder, *runs)
    with serving_http(app) as address, Client(address, secrets, log) as one:
        yield one
    serving.close()


def test_series_are_classified(client: Client, runs: dict[str, Path]) -> None:
    rising, gap = [float(n) for n in range(8)], [1.0, None, 0.5, 0.2, 0.0, -0.3, None, -1.0]
    alone = VerticalModel.from_pretrained(runs["a/beats"]).predict([rising, gap])

    rows = client.post("/classify", {"model": "a/beats", "input": [rising, gap]})["data"]

    assert [row["label"] for row in rows] == [one.label for one in alone]
    assert [row["confidence"] for row in rows] == pytest.approx([one.confidence for one in alone], abs=1e-5)
    assert client.post("/classify", {"model": "a/beats", "input": rising})["data"] == [
        rows[0] | {"probs": pytest.approx(rows[0]["probs"]), "confidence": pytest.approx(rows[0]["confidence"])}
    ]


def test_pictures_are_classified(client: Client, runs: dict[str, Path], tmp_path: Path) -> None:
    images = [striped(standing, 7) for standing in (True, False)]
    alone = VerticalModel.from_pretrained(runs["a/stripes"]).predict(images)
    coded = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        coded.append(base64.b64encode(file.getvalue()).decode())

    rows = client.post("/classify", {"model": "a/stripes", "input": coded})["data"]

    assert [row["label"] for row in rows] == [one.label for one in alone]
    assert [row["confidence"] for row in rows] == pytest.approx([one.confidence for one in alone], abs=1e-5)
    file = tmp_path / "a.png"
    file.write_bytes(base64.b64decode(coded[0]))
    refused = client.ask("POST", "/classify", {"model": "a/stripes", "input": str(file)})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_value")


def test_a_forecast_is_that_of_the_specialist_alone(client: Client, runs: dict[str, Path]) -> None:
    history = table(2)
    alone = VerticalModel.from_pretrained(runs["a/speeds"]).forecast(history, 2)
    body: dict[str, Any] = {
        "model": "a/speeds",
        "history": {channel: history[channel].tolist() for channel in history},
        "times": [moment.isoformat() for moment in history.index],
        "horizon": 2,
    }

    answer = client.post("/v1/forecast", body)

    assert answer["index"] == [moment.isoformat() for moment in alone.index]
    assert set(answer["quantiles"]) == {f"{level:g}" for level in alone.quantiles}
    for channel in history:
        np.testing.assert_allclose(answer["mean"][channel], alone.mean[channel], rtol=1e-5)
        for level, expected in alone.quantiles.items():
            np.testing.assert_allclose(answer["quantiles"][f"{level:g}"][channel], expected[channel], rtol=1e-5)
    assert answer["vertical"]["adapter"] == "a/speeds"
    for wrong in ({"horizon": 9}, {"history": {"north": [1.0]}, "times": None}, {"times": body["times"][::-1]}):
        refused = client.ask("POST", "/v1/forecast", {**body, **wrong})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_value"), wrong
