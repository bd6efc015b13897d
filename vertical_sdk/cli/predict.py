"""vertical predict: predict with a specialist."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from enum import Enum
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vertical_sdk.cli.options import AllowRevoked, ReadIn, RegistryAt, check_verb
from vertical_sdk.cli.output import emit, say, show, showing
from vertical_sdk.errors import DataError

if TYPE_CHECKING:
    from vertical_sdk.cli.answers import Answered
    from vertical_sdk.cli.given_rows import GivenRows
    from vertical_sdk.types import Example, Prediction

__all__ = ["predict"]

BATCH = 256
"""Rows between two writes, so that the first answers appear early."""


class OnError(str, Enum):
    """What happens to a row of a file that cannot be answered."""

    skip = "skip"
    fail = "fail"


def predict(
    adapter: Annotated[str, typer.Argument(metavar="ADAPTER", help="NAME@VERSION, or a folder: ./RUN, /path/RUN or runs/RUN.")],
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TEXT]...", help="Texts, or paths of images; put -- before a text like -x."),
    ] = None,
    data: Annotated[Path | None, typer.Option(metavar="FILE", help="A file with one input in each row.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the answers to a .csv or .jsonl file.")] = None,
    on_error: Annotated[
        OnError,
        typer.Option(
            help="A row of a file that cannot be answered, such as an empty text: skip writes the reason in the place of its "
            "answer and goes on; fail stops before the first answer is written."
        ),
    ] = OnError.skip,
    top_k: Annotated[int | None, typer.Option(metavar="N", min=1, help="Show only the N likeliest labels.")] = None,
    dtype: ReadIn = None,
    registry: RegistryAt = None,
    allow_revoked: AllowRevoked = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON document a line, one for each row.")] = False,
) -> None:
    """Predict for texts, records or series (JSON), images (paths), or the rows of a file: one answer for each, in order."""
    if bool(texts) == (data is not None):
        raise typer.BadParameter("give either texts or --data FILE.")
    if data is not None and not data.is_file():
        raise DataError("no such file.", where=data)
    from vertical_sdk.cli.answers import Counts, check_out, write_answers

    if out is not None:
        check_out(out, data)
    _check_texts(texts or ())
    with showing() as progress:
        progress(f"loading {adapter}", None)
        from vertical_sdk.inference import load
        from vertical_sdk.registry import Registry

        model = load(adapter, Registry(registry), allow_revoked=allow_revoked or (), dtype=dtype.value if dtype else "float32")
        check_verb(model, "predict", adapter)
        rows = _read_rows(data, model) if data is not None else _parse_texts(texts or (), model)
        skip = data is not None and on_error is OnError.skip
        chunks = _answer(model, rows, top_k, where=data or "", skip=skip)
        counts, with_id = Counts(), data is not None
        if out is None:  # the first chunk is computed before progress is hidden and answers are shown
            chunks = chain([next(chunks, [])], chunks) if skip else iter([list(chain.from_iterable(chunks))])
        else:
            with write_answers(out, model.card, with_id=with_id, top_k=top_k) as write:
                for chunk in chunks:
                    counts.add(chunk)
                    write(chunk)
                    progress("predicting", counts.rows / rows.count)
                counts.require_answers(data or "")
    if out is None:
        for chunk in chunks:
            counts.add(chunk)
            _show_answers(chunk, model, as_json=as_json, with_id=with_id, top_k=top_k)
        counts.require_answers(data or "")
    elif as_json:
        emit({"out": out, "rows": counts.rows, "not_answered": counts.failed}, indent=None)
    else:
        show(f"{out}: {counts.rows} rows")
    counts.report("" if model.card.members_only else model.base.name)


def _show_answers(answers: Sequence[Answered], model: Any, *, as_json: bool, with_id: bool, top_k: int | None) -> None:
    from vertical_sdk.cli.answers import list_answers, to_document

    if as_json:
        for answered in answers:
            emit(to_document(answered, with_id=with_id), indent=None)
    elif answers:
        show(list_answers(answers, model.card, top_k=top_k))


def _check_texts(texts: Sequence[str]) -> None:
    """Check what was typed, before a model is loaded. Raises DataError."""
    for number, text in enumerate(texts, 1):
        if not text.strip():
            raise DataError(f"text {number} is empty: {text!r}. Write a text, or leave it out.")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise DataError(
                f"text {number} is not UTF-8: {text[:60]!a}. Set the terminal to UTF-8, or write the text to a file."
            )


def _parse_texts(texts: Sequence[str], model: Any) -> GivenRows:
    """Turn texts into rows. Each is JSON for a specialist that reads records or series, and a path for one that reads images."""
    from vertical_sdk.cli.given_rows import GivenRows
    from vertical_sdk.inference.inputs import as_rows

    inputs: list[Any] = list(texts)
    modality = model.adapter.recipe.data.modality
    for number, text in enumerate(texts):
        if model.card.fields:
            reads = ", ".join(field.name for field in model.card.fields)
            inputs[number] = _parse_json(text, dict, number, f"not a JSON object; this specialist reads records of {reads}")
        elif modality == "series":
            inputs[number] = _parse_json(
                text, list, number, "not a JSON list; this specialist reads series, such as [0.5, null, 0.7]"
            )
    rows = as_rows(inputs, range(len(inputs)), model.adapter, model.card.name)
    return GivenRows(lambda: [(rows, {})], model.card.task)


def _parse_json(text: str, kind: type, number: int, problem: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, kind):
        raise DataError(f"text {number}: {text[:60]!r} is {problem}.")
    return value


def _read_rows(path: Path, model: Any) -> GivenRows:
    from vertical_sdk.cli.given_rows import GivenRows, iterate_file

    rows = GivenRows(lambda: iterate_file(path, model), model.card.task)
    for note, count in rows.notes.items():
        say(f"{path}: {note}: {count}")
    return rows


def _answer(model: Any, rows: GivenRows, top_k: int | None, *, where: str | Path, skip: bool) -> Iterator[list[Answered]]:
    """Answer rows chunk by chunk.

    skip  give the reason of a row that cannot be answered in the place of its answer; else raise DataError before the first answer
    """
    from vertical_sdk.cli.answers import Answered
    from vertical_sdk.cli.given_rows import find_problem

    wrong = sum(problem.count for problem in rows.problems.values())
    if wrong and (not skip or wrong == rows.count):
        name, problem = next(iter(rows.problems.items()))
        shown = ", ".join(problem.ids) + (", …" if problem.count > len(problem.ids) else "")
        raise DataError(
            f"{problem.count} rows have {name}: {shown}. Complete them, or remove them; --on-error skip answers the others.",
            where=where,
        )
    for part in rows:
        for start in range(0, len(part), BATCH):
            chunk = [(row, find_problem(row, model.card.task)) for row in part[start : start + BATCH]]
            answers = iter(_predict_or_explain(model, [row for row, problem in chunk if not problem], top_k, skip=skip))
            yield [Answered(row, None, problem) if problem else next(answers) for row, problem in chunk]


def _predict_or_explain(model: Any, rows: Sequence[Example], top_k: int | None, *, skip: bool) -> list[Answered]:
    """Answer rows together; if one of them is refused and `skip` is set, each by itself."""
    from vertical_sdk.cli.answers import Answered

    try:
        return [Answered(row, answer) for row, answer in zip(rows, _predict(model, rows, top_k), strict=True)]
    except DataError:
        if not skip:
            raise
    return [_explain(model, row, top_k) for row in rows]


def _explain(model: Any, row: Example, top_k: int | None) -> Answered:
    """Answer one row, or say why it is refused."""
    from vertical_sdk.cli.answers import Answered

    try:
        return Answered(row, _predict(model, [row], top_k)[0])
    except DataError as error:
        return Answered(row, None, error.message.removeprefix(f"row {row.id}: ").removesuffix("."))


def _predict(model: Any, rows: Sequence[Example], top_k: int | None) -> list[Prediction]:
    from vertical_sdk.tasks import get_task
    from vertical_sdk.types import Prediction

    if get_task(model.card.task).verb != "generate":
        predictions: list[Prediction] = model.predict(rows, top_k=top_k)
        return predictions
    prompts = [
        row.messages[:-1] if row.messages and row.messages[-1].role == "assistant" else row.messages or row.text for row in rows
    ]
    texts = [model.generate([prompt])[0].text for prompt in prompts]
    return [Prediction(label=None, text=text, adapter=model.card.name) for text in texts]
