"""vertical predict: ask a specialist."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from vertical_sdk.cli.options import AllowRevoked, RegistryAt
from vertical_sdk.cli.output import emit, say, show, showing, table
from vertical_sdk.errors import AdapterError, DataError
from vertical_sdk.types import Example, Prediction

__all__ = ["predict"]

AT_ONCE = 256
"""Rows between two writes, so that the first answers come early and memory does not grow with the file."""


def predict(
    adapter: Annotated[str, typer.Argument(metavar="ADAPTER", help="A run's folder, an adapter's folder, or NAME@VERSION.")],
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TEXT]...", help="What to ask, or pictures' paths; put -- before a text like -x."),
    ] = None,
    data: Annotated[Path | None, typer.Option(metavar="FILE", help="A file with a row for each question.")] = None,
    registry: RegistryAt = None,
    allow_revoked: AllowRevoked = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON document a line, one for each row.")] = False,
) -> None:
    """Ask a specialist: texts, records or series (JSON), pictures (paths), or the rows of a file; an answer a row, in their order."""
    if bool(texts) == (data is not None):
        raise typer.BadParameter("give either texts or --data FILE.")
    for number, text in enumerate(texts or (), 1):
        if not text.strip():
            raise DataError(f"text {number} is empty: {text!r}. Give it some words, or leave it out.")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise DataError(f"text {number} is not UTF-8: {text[:60]!a}. Set the terminal to UTF-8, or put it into a file.")
    if data is not None and not data.is_file():
        raise DataError(f"{data}: no such file.")
    with showing() as progress:
        progress(f"loading {adapter}", None)
        from vertical_sdk.inference import load
        from vertical_sdk.registry import Registry

        model = load(adapter, Registry(registry), allow_revoked=allow_revoked or ())
        if model.card.task in {"forecasting", "anomaly"}:
            verb = "forecast" if model.card.task == "forecasting" else "monitor"
            raise AdapterError(f"{adapter}: is made for {model.card.task}; use vertical {verb}.")
        rows = _rows(data, model) if data is not None else _asked(texts or (), model)
        answered = _answers(model, rows)
        first = list(islice(answered, AT_ONCE))
    cut = 0
    for chunk in _chunks(first, answered):
        cut += sum(prediction.truncated > 0 for _, prediction in chunk)
        if as_json:
            for row, prediction in chunk:
                emit(_document(row, prediction, with_id=data is not None), indent=None)
        else:
            show(table(["text", "answer", "probability"], [_line(row, prediction) for row, prediction in chunk]))
    if cut:
        say(f"{cut} of {len(rows)} texts were longer than the specialist reads, and were cut.")


def _asked(texts: Sequence[str], model: Any) -> list[Example]:
    """Texts as rows: for a specialist that reads records or series each is one in JSON, for one that reads pictures a file's path."""
    import numpy as np

    from vertical_sdk.inference.inputs import as_rows
    from vertical_sdk.recipe import Recipe

    given: list[Any] = list(texts)
    modality = Recipe.model_validate(model.card.recipe).data.modality
    for number, text in enumerate(texts):
        if model.card.fields:
            reads = ", ".join(field.name for field in model.card.fields)
            given[number] = _json(text, dict, number, f"no JSON object; this specialist reads records of {reads}")
        elif modality == "series":
            numbers = _json(text, list, number, "no JSON list; this specialist reads series, such as [0.5, null, 0.7]")
            try:
                given[number] = np.array(numbers, dtype=np.float64)
            except (TypeError, ValueError):
                raise DataError(f"text {number}: {text[:60]!r} is no list of numbers, or of as many for each step.") from None
    return as_rows(given, range(len(given)), model.adapter, model.card.name)


def _json(text: str, kind: type, number: int, otherwise: str) -> Any:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, kind):
        raise DataError(f"text {number}: {text[:60]!r} is {otherwise}.")
    return found


def _rows(path: Path, model: Any) -> Sequence[Example]:
    from vertical_sdk.data.prepare import read_rows
    from vertical_sdk.recipe import Recipe

    rows, _ = read_rows(path, Recipe.model_validate(model.card.recipe), model.card.labels)
    blank = [row.id for row in rows if not row.text.strip() and not row.messages and row.values is None]
    if blank:
        shown = ", ".join(blank[:5]) + (", …" if len(blank) > 5 else "")
        raise DataError(f"{path}: {len(blank)} rows have no text: {shown}. Fill them, or take them out.")
    return rows


def _answers(model: Any, rows: Sequence[Example]) -> Iterator[tuple[Example, Prediction]]:
    generates = model.card.task == "generation"
    for start in range(0, len(rows), AT_ONCE):
        chunk = rows[start : start + AT_ONCE]
        if generates:
            for row in chunk:
                asked = row.messages[:-1] if row.messages and row.messages[-1].role == "assistant" else row.messages or row.text
                yield row, Prediction(label=None, text=model.generate([asked])[0], adapter=model.card.name)
        else:
            yield from zip(chunk, model.predict(chunk), strict=True)


def _chunks(
    first: list[tuple[Example, Prediction]], rest: Iterable[tuple[Example, Prediction]]
) -> Iterator[list[tuple[Example, Prediction]]]:
    rest = iter(rest)
    while first:
        yield first
        first = list(islice(rest, AT_ONCE))


def _document(row: Example, prediction: Prediction, *, with_id: bool) -> dict[str, Any]:
    told = row.text or (row.messages[-1].content if row.messages else "")
    wordless = row.values is not None and not told
    document: dict[str, Any] = {"id": row.id} if with_id or wordless else {}
    document |= {} if wordless else {"text": told}
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
    said = (label,) if isinstance(label, str) else label if isinstance(label, tuple) else ()
    sure = ", ".join(f"{prediction.probabilities[name]:.3f}" for name in said if name in prediction.probabilities)
    told = row.text or (row.id if row.values is not None else "")
    shown = told if len(told) <= 200 else told[:199] + "…"
    return [shown, answer, sure or None]
