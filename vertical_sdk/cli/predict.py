"""vertical predict: predict with a specialist."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vertical_sdk.cli.options import AllowRevoked, RegistryAt, check_verb
from vertical_sdk.cli.output import emit, say, show, showing, table
from vertical_sdk.errors import DataError

if TYPE_CHECKING:
    from vertical_sdk.types import Example, Prediction

__all__ = ["predict"]

BATCH = 256
"""Rows between two writes, so that the first answers appear early and memory use does not grow with the file."""


def predict(
    adapter: Annotated[str, typer.Argument(metavar="ADAPTER", help="A run's folder, an adapter's folder, or NAME@VERSION.")],
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TEXT]...", help="Texts, or paths of images; put -- before a text like -x."),
    ] = None,
    data: Annotated[Path | None, typer.Option(metavar="FILE", help="A file with one input in each row.")] = None,
    registry: RegistryAt = None,
    allow_revoked: AllowRevoked = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON document a line, one for each row.")] = False,
) -> None:
    """Predict for texts, records or series (JSON), images (paths), or the rows of a file: one answer for each, in order."""
    if bool(texts) == (data is not None):
        raise typer.BadParameter("give either texts or --data FILE.")
    for number, text in enumerate(texts or (), 1):
        if not text.strip():
            raise DataError(f"text {number} is empty: {text!r}. Write a text, or leave it out.")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise DataError(
                f"text {number} is not UTF-8: {text[:60]!a}. Set the terminal to UTF-8, or write the text to a file."
            )
    if data is not None and not data.is_file():
        raise DataError("no such file.", where=data)
    with showing() as progress:
        progress(f"loading {adapter}", None)
        from vertical_sdk.inference import load
        from vertical_sdk.registry import Registry

        model = load(adapter, Registry(registry), allow_revoked=allow_revoked or ())
        check_verb(model, "predict", adapter)
        rows = _read_rows(data, model) if data is not None else _parse_texts(texts or (), model)
        answers = _predict(model, rows)
        first = list(islice(answers, BATCH))
    truncated = 0
    for chunk in _chunks(first, answers):
        truncated += sum(prediction.truncated > 0 for _, prediction in chunk)
        if as_json:
            for row, prediction in chunk:
                emit(_document(row, prediction, with_id=data is not None), indent=None)
        else:
            show(table(["text", "answer", "probability"], [_line(row, prediction) for row, prediction in chunk]))
    if truncated:
        say(f"{truncated} of {len(rows)} texts were longer than the specialist can read, and were cut.")


def _parse_texts(texts: Sequence[str], model: Any) -> list[Example]:
    """Turn texts into rows. Each is JSON for a specialist that reads records or series, and a path for one that reads images."""
    import numpy as np

    from vertical_sdk.inference.inputs import as_rows

    inputs: list[Any] = list(texts)
    modality = model.adapter.recipe.data.modality
    for number, text in enumerate(texts):
        if model.card.fields:
            reads = ", ".join(field.name for field in model.card.fields)
            inputs[number] = _parse_json(text, dict, number, f"not a JSON object; this specialist reads records of {reads}")
        elif modality == "series":
            numbers = _parse_json(text, list, number, "not a JSON list; this specialist reads series, such as [0.5, null, 0.7]")
            try:
                inputs[number] = np.array(numbers, dtype=np.float64)
            except (TypeError, ValueError):
                raise DataError(
                    f"text {number}: {text[:60]!r} is not a list of numbers, or its steps differ in length."
                ) from None
    return as_rows(inputs, range(len(inputs)), model.adapter, model.card.name)


def _parse_json(text: str, kind: type, number: int, problem: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, kind):
        raise DataError(f"text {number}: {text[:60]!r} is {problem}.")
    return value


def _read_rows(path: Path, model: Any) -> Sequence[Example]:
    from vertical_sdk.data.prepare import read_rows
    from vertical_sdk.data.read import find_missing_part

    rows, account = read_rows(path, model.adapter.recipe, model.card.contract)
    lacking: dict[str, list[str]] = {}
    for row in rows:
        if problem := find_missing_part(row, model.card.task, need_label=False):
            lacking.setdefault(problem, []).append(row.id)
    for problem, ids in lacking.items():
        shown = ", ".join(ids[:5]) + (", …" if len(ids) > 5 else "")
        raise DataError(f"{len(ids)} rows have {problem}: {shown}. Complete them, or remove them.", where=path)
    for note, count in account.notes.items():
        say(f"{path}: {note}: {count}")
    return rows


def _predict(model: Any, rows: Sequence[Example]) -> Iterator[tuple[Example, Prediction]]:
    from vertical_sdk.tasks import get_task
    from vertical_sdk.types import Prediction

    generates = get_task(model.card.task).verb == "generate"
    for start in range(0, len(rows), BATCH):
        chunk = rows[start : start + BATCH]
        if generates:
            for row in chunk:
                prompt = (
                    row.messages[:-1] if row.messages and row.messages[-1].role == "assistant" else row.messages or row.text
                )
                yield row, Prediction(label=None, text=model.generate([prompt])[0], adapter=model.card.name)
        else:
            yield from zip(chunk, model.predict(chunk), strict=True)


def _chunks(
    first: list[tuple[Example, Prediction]], rest: Iterable[tuple[Example, Prediction]]
) -> Iterator[list[tuple[Example, Prediction]]]:
    rest = iter(rest)
    while first:
        yield first
        first = list(islice(rest, BATCH))


def _document(row: Example, prediction: Prediction, *, with_id: bool) -> dict[str, Any]:
    text = row.text or (row.messages[-1].content if row.messages else "")
    wordless = row.values is not None and not text
    document: dict[str, Any] = {"id": row.id} if with_id or wordless else {}
    document |= {} if wordless else {"text": text}
    document |= {"label": prediction.label, "probabilities": prediction.probabilities}
    if prediction.interval is not None:
        document["interval"] = prediction.interval
    if prediction.text is not None:
        document["answer"] = prediction.text
    return document | {"truncated": prediction.truncated, "adapter": prediction.adapter}


def _line(row: Example, prediction: Prediction) -> list[Any]:
    label = prediction.label
    answer = prediction.text if prediction.text is not None else ", ".join(label) if isinstance(label, tuple) else label
    if prediction.interval is not None:
        answer = f"{label:.4g}, {prediction.interval[0]:.4g} to {prediction.interval[1]:.4g}"
    labels = (label,) if isinstance(label, str) else label if isinstance(label, tuple) else ()
    probabilities = ", ".join(f"{prediction.probabilities[name]:.3f}" for name in labels if name in prediction.probabilities)
    text = row.text or (row.id if row.values is not None else "")
    shown = text if len(text) <= 200 else text[:199] + "…"
    return [shown, answer, probabilities or None]
