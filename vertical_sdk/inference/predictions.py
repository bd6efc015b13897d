"""Predictions: mixed batches of inputs to labels, numbers and probabilities."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.card import Card
from vertical_sdk.engines import Engine
from vertical_sdk.errors import AdapterError, DataError
from vertical_sdk.inference.answer import Answer, answer
from vertical_sdk.inference.inputs import Input, as_rows
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, Prediction, Progress, silent

__all__ = ["label_names", "predict", "predict_proba"]


def predict(
    engine: Engine,
    inputs: Sequence[Input],
    adapters: str | Sequence[str],
    *,
    top_k: int | None = None,
    batch_size: int | None = None,
    progress: Progress = silent,
) -> list[Prediction]:
    """Predict each input by one specialist, or by one for each; see `VerticalModel.predict`."""
    if isinstance(inputs, str | Path | Mapping | np.ndarray):
        raise DataError("predict takes a list of texts, records, series or pictures; for one text write predict([text]).")
    names = [adapters] * len(inputs) if isinstance(adapters, str) else list(adapters)
    if len(names) != len(inputs):
        raise DataError(f"{len(inputs)} texts but {len(names)} adapters: give one adapter for each text.")
    if top_k is not None and top_k < 1:
        raise DataError(f"top_k = {top_k} is wrong: keep at least one label.")
    loaded = {name: engine.adapter(name) for name in dict.fromkeys(names)}
    rows: dict[int, Example] = {}
    for name, adapter in loaded.items():
        _require_predict(adapter.card, name)
        positions = [number for number, owner in enumerate(names) if owner == name]
        rows |= zip(positions, as_rows([inputs[n] for n in positions], positions, adapter, name), strict=True)
    ordered = [rows[number] for number in range(len(inputs))]
    predictions: dict[int, Prediction] = {}
    for name, result in answer(engine, ordered, names, batch_size=batch_size, progress=progress).items():
        predictions |= zip(result.positions, _to_predictions(result, name), strict=True)
    return [_keep_likeliest(predictions[number], top_k) for number in range(len(inputs))]


def predict_proba(
    engine: Engine,
    inputs: Sequence[Input],
    adapter: str,
    *,
    batch_size: int | None = None,
    progress: Progress = silent,
) -> NDArray[np.float64]:
    """Predict the probability of every label of one specialist, (rows, labels); see `VerticalModel.predict_proba`."""
    card = engine.adapter(adapter).card
    labels = label_names(card)
    if not labels:
        raise AdapterError(f"{adapter} has no labels. Call {get_task(card.task).verb}() instead of predict_proba().")
    predictions = predict(engine, inputs, adapter, batch_size=batch_size, progress=progress)
    table = [[prediction.probabilities[label] for label in labels] for prediction in predictions]
    return np.array(table, dtype=np.float64).reshape(len(predictions), len(labels))


def label_names(card: Card) -> tuple[str, ...]:
    """The labels in the order of the outputs; () if the task has none."""
    return card.labels.labels if card.labels else ()


def _require_predict(card: Card, name: str) -> None:
    """Raise AdapterError for a specialist whose task needs another method."""
    verb = get_task(card.task).verb
    if verb != "predict":
        raise AdapterError(f"{name} is a {card.task} specialist. Call {verb}() instead of predict().")


def _to_predictions(result: Answer, name: str) -> list[Prediction]:
    card = result.adapter.card
    predictions = get_task(card.task).to_predictions(result.outputs, card.labels, result.cut, name)
    counts = zip(predictions, result.unknown, result.control, strict=True)
    return [replace(prediction, unknown=unknown, control=control) for prediction, unknown, control in counts]


def _keep_likeliest(prediction: Prediction, most: int | None) -> Prediction:
    """The prediction with only its `most` likeliest labels, the likeliest first."""
    if most is None:
        return prediction
    labels = heapq.nlargest(most, prediction.probabilities, key=lambda label: prediction.probabilities[label])
    return replace(prediction, probabilities={label: prediction.probabilities[label] for label in labels})
