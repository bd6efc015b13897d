"""What jobs compute on an engine: predictions, embeddings and forecasts, each as `VerticalModel` computes them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.inference.forecast import Forecast, forecast
from vertical_sdk.inference.predictions import predict
from vertical_sdk.serving.batching import Job
from vertical_sdk.serving.problems import WrongModel
from vertical_sdk.types import Example, Prediction

__all__ = ["Embeddings", "Texts", "embed_together", "forecast_together", "predict_together"]


@dataclass(frozen=True)
class Texts:
    """Texts to embed.

    by_base  by the base alone, without the adapter
    """

    texts: tuple[str, ...]
    by_base: bool


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Embeddings of texts.

    values  (texts, width) float32, each of length 1
    tokens  of all texts together
    """

    values: NDArray[np.float32]
    tokens: int


def predict_together(jobs: Sequence[Job]) -> list[list[Prediction]]:
    """Predict the rows of many requests in one mixed batch. A job's inputs are rows, as `as_rows` returns them."""
    rows = [row for job in jobs for row in job.inputs]
    names = [job.served.key for job in jobs for _ in job.inputs]
    answers = iter(predict(jobs[0].served.engine, rows, names))
    return [[next(answers) for _ in job.inputs] for job in jobs]


def forecast_together(jobs: Sequence[Job]) -> list[Forecast]:
    """Forecast for each request. A job's inputs are a history and a horizon, as `VerticalModel.forecast` takes them."""
    return [forecast(job.served.engine, job.served.key, *job.inputs) for job in jobs]


def embed_together(jobs: Sequence[Job]) -> list[Embeddings]:
    """Embed the Texts of many requests. Those of one adapter, or of the base, are read together."""
    results: dict[int, Embeddings] = {}
    groups: dict[tuple[str, bool], list[int]] = {}
    for place, job in enumerate(jobs):
        groups.setdefault(("" if job.inputs.by_base else job.served.key, job.inputs.by_base), []).append(place)
    for (_, by_base), places in groups.items():
        served = jobs[places[0]].served
        frozen = served.engine.general(served.key)
        specialist = _read_as_base(frozen.specialist, served.engine.base) if by_base else frozen.specialist
        values, lengths = _embed(specialist, [text for place in places for text in jobs[place].inputs.texts], by_base=by_base)
        start = 0
        for place in places:
            end = start + len(jobs[place].inputs.texts)
            results[place] = Embeddings(values[start:end], sum(lengths[start:end]))
            start = end
    return [results[place] for place in range(len(jobs))]


def _embed(specialist: Any, texts: Sequence[str], *, by_base: bool) -> tuple[NDArray[np.float32], list[int]]:
    """The features of texts, and the tokens of each."""
    from vertical_sdk.families.shared_base import use_base
    from vertical_sdk.families.specialist import run_rows

    encoded = [specialist.encode(Example(id=str(n), text=text), learn=False) for n, text in enumerate(texts)]
    if not by_base:
        features = run_rows(specialist, encoded, specialist.features)
    else:
        with use_base():
            features = run_rows(specialist, encoded, specialist.features)
    return features.float().numpy(), [row.length for row in encoded]


def _read_as_base(specialist: Any, base: Any) -> Any:
    """A specialist without a head whose settings are the default ones: what it reads does not depend on the adapters that are loaded."""
    from vertical_sdk.families.encoder import EncoderSpecialist

    if not isinstance(specialist, EncoderSpecialist):
        raise WrongModel("only a base that reads texts at once (an encoder) has embeddings.")
    return EncoderSpecialist(specialist.backbone, base, _plain_recipe(base.max_length or LONGEST), None)


LONGEST = 512
"""Tokens that a base without a limit of its own reads for an embedding."""


@functools.lru_cache(maxsize=8)
def _plain_recipe(max_length: int) -> Any:
    from vertical_sdk.recipe import Recipe

    return Recipe.model_validate({"name": "base", "task": "contrastive", "data": {"source": "-", "max_length": max_length}})
