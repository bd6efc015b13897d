"""Predictions: mixed batches of inputs to labels, numbers and probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.adapters.folder import Adapter
from vertical_sdk.card import Card
from vertical_sdk.engines import Engine
from vertical_sdk.engines.engine import check_batch_size
from vertical_sdk.errors import AdapterError, DataError
from vertical_sdk.inference.answer import Answer, answer
from vertical_sdk.inference.batches import check_count, iterate_inputs, list_names
from vertical_sdk.inference.inputs import Input, as_rows, find_reads
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, Prediction, Progress, silent

__all__ = ["label_names", "predict", "predict_iter", "predict_proba"]

CHUNK = 1024
"""Rows that `predict_iter` reads before it answers them: enough for batches of rows of similar length."""


def predict(
    engine: Engine,
    inputs: Iterable[Input],
    adapters: str | Iterable[str],
    *,
    top_k: int | None = None,
    batch_size: int | None = None,
    progress: Progress = silent,
) -> list[Prediction]:
    """Predict each input by one specialist, or by one for each; see `VerticalModel.predict`."""
    check_count("top_k", top_k, "keep at least one label")
    given = list_names(adapters)
    loaded = {name: engine.adapter(name) for name in ([given] if isinstance(given, str) else dict.fromkeys(given))}
    items = list(_iterate_items(inputs, loaded.values(), "predict"))
    names = [given] * len(items) if isinstance(given, str) else given
    if len(names) != len(items):
        raise DataError(f"{len(items)} texts but {len(names)} adapters: give one adapter for each text, or one name for all.")
    for name, adapter in loaded.items():
        _require_predict(adapter.card, name)
    return _predict_items(engine, items, names, top_k=top_k, batch_size=batch_size, progress=progress)


def predict_iter(
    engine: Engine,
    inputs: Iterable[Input],
    adapter: str,
    *,
    top_k: int | None = None,
    batch_size: int | None = None,
    progress: Progress = silent,
) -> Iterator[Prediction]:
    """Predict inputs by one specialist as they are read, CHUNK at a time; see `VerticalModel.predict_iter`."""
    check_count("top_k", top_k, "keep at least one label")
    check_batch_size(batch_size)
    _require_predict(engine.adapter(adapter).card, adapter)
    items = _iterate_items(inputs, [engine.adapter(adapter)], "predict_iter")
    total = len(inputs) if isinstance(inputs, Sized) else None
    return _predict_chunks(engine, items, adapter, total, top_k=top_k, batch_size=batch_size, progress=progress)


def _predict_chunks(
    engine: Engine, items: Iterator[Any], adapter: str, total: int | None, *, progress: Progress, **options: int | None
) -> Iterator[Prediction]:
    """Predict a chunk, then read the next. `total` is the number of items, None if it is not known."""
    done = 0
    while chunk := list(islice(items, CHUNK)):
        progress("predicting" if total else f"predicting from row {done}", done / total if total else None)
        yield from _predict_items(engine, chunk, [adapter] * len(chunk), start=done, progress=silent, **options)
        done += len(chunk)


def _predict_items(
    engine: Engine,
    items: Sequence[Any],
    names: Sequence[str],
    *,
    top_k: int | None,
    batch_size: int | None,
    progress: Progress,
    start: int = 0,
) -> list[Prediction]:
    """Predict each item by its specialist.

    start  the number of the first item among those that the user gave, for messages
    """
    rows: dict[int, Example] = {}
    for name in dict.fromkeys(names):
        places = [place for place, owner in enumerate(names) if owner == name]
        numbers = [start + place for place in places]
        rows |= zip(places, as_rows([items[n] for n in places], numbers, engine.adapter(name), name), strict=True)
    ordered = [rows[place] for place in range(len(items))]
    predictions: dict[int, Prediction] = {}
    for name, result in answer(engine, ordered, names, batch_size=batch_size, progress=progress).items():
        predictions |= zip(result.positions, _to_predictions(result, name), strict=True)
    return [_keep_likeliest(predictions[place], top_k) for place in range(len(items))]


def predict_proba(
    engine: Engine,
    inputs: Iterable[Input],
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
    items = list(_iterate_items(inputs, [engine.adapter(adapter)], "predict_proba"))
    predictions = predict(engine, items, adapter, batch_size=batch_size, progress=progress)
    table = [[prediction.probabilities[label] for label in labels] for prediction in predictions]
    return np.array(table, dtype=np.float64).reshape(len(predictions), len(labels))


def label_names(card: Card) -> tuple[str, ...]:
    """The labels in the order of the outputs; () if the task has none."""
    return card.labels.labels if card.labels else ()


def _iterate_items(inputs: object, adapters: Iterable[Adapter], call: str) -> Iterator[Any]:
    """Iterate over the inputs of a call for some specialists; a table is for those that read its columns."""
    chosen = list(adapters)
    reads = dict(find_reads(adapter.card, adapter.recipe) for adapter in chosen)
    many = "records" if "records" in reads else next(iter(reads), "texts")
    tables = any(adapter.card.fields or adapter.card.values for adapter in chosen)
    return iterate_inputs(inputs, call, reads=many, one=reads.get(many, "text"), tables=tables)


def _require_predict(card: Card, name: str) -> None:
    """Raise AdapterError for a specialist whose task needs another method."""
    if get_task(card.task).unlabelled:
        raise AdapterError(
            f"{name} learned from texts without labels and answers nothing. Train a specialist from it: set start in its recipe, or give "
            "it with --from."
        )
    verb = get_task(card.task).verb
    if verb != "predict":
        raise AdapterError(f"{name} is a {card.task} specialist. Call {verb}() instead of predict().")


def _to_predictions(result: Answer, name: str) -> list[Prediction]:
    card = result.adapter.card
    predictions = get_task(card.task).to_predictions(result.outputs, card.labels, result.cut, name)
    counts = zip(predictions, result.unknown, result.control, strict=True)
    return [replace(prediction, unknown=unknown, control=control) for prediction, unknown, control in counts]


def _keep_likeliest(prediction: Prediction, most: int | None) -> Prediction:
    """The prediction with only its `most` likeliest labels, the likeliest first, and the chosen label if it is not among them."""
    if most is None:
        return prediction
    labels = [label for label, _ in prediction.top_k(most)]
    chosen = prediction.label
    labels += [chosen] if isinstance(chosen, str) and chosen in prediction.probabilities and chosen not in labels else []
    return replace(prediction, probabilities={label: prediction.probabilities[label] for label in labels})
