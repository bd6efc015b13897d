"""vertical monitor: where the values of a file, or those that come in, are not what was expected."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from vertical_sdk.cli.forecast import read_series
from vertical_sdk.cli.options import AllowRevoked, RegistryAt, TimeColumn
from vertical_sdk.cli.output import emit, say, show, showing
from vertical_sdk.errors import AdapterError, DataError
from vertical_sdk.tasks import get_task

__all__ = ["monitor"]

AT_ONCE = 256


@dataclass(frozen=True)
class _Seen:
    """A step that was judged, with the channel that is furthest from what was expected; `score` is NaN while too little is known."""

    time: str
    score: float
    alarm: bool
    channel: str = ""
    expected: float | None = None
    value: float | None = None
    series: str | None = None


def monitor(
    adapter: Annotated[str, typer.Argument(metavar="ADAPTER", help="A run's folder, an adapter's folder, or NAME@VERSION.")],
    data: Annotated[Path | None, typer.Option(metavar="FILE", help="A line a step and a column a channel.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Read lines of time,value,... from stdin as they come, oldest first.")
    ] = False,
    time: TimeColumn = None,
    registry: RegistryAt = None,
    allow_revoked: AllowRevoked = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON document a line, one for each alarm.")] = False,
) -> None:
    """Where values are not what was expected: a line for each step that raises an alarm."""
    if follow == (data is not None):
        raise typer.BadParameter("give either --data FILE or --follow.")
    if follow and time is not None:
        raise typer.BadParameter("--time is for --data; with --follow the time stands first in each line.")
    with showing() as progress:
        progress(f"loading {adapter}", None)
        from vertical_sdk.inference import load
        from vertical_sdk.registry import Registry

        model = load(adapter, Registry(registry), allow_revoked=allow_revoked or ())
        if get_task(model.card.task).verb != "monitor":
            raise AdapterError(f"{adapter}: is made for {model.card.task}, and watches nothing; use vertical predict.")
        rows = read_series(data, model, time) if data is not None else ()
    steps = alarms = 0
    for seen in _watched(model, sys.stdin) if follow else _judged(model, rows):
        steps += not math.isnan(seen.score)
        alarms += seen.alarm
        if seen.alarm:
            _tell(seen, as_json=as_json)
    threshold = model.card.calibration.threshold
    say(
        f"{alarms} alarms in {steps} steps" + (f"; an alarm is a score from {threshold:.3g}." if threshold is not None else ".")
    )


def _judged(model: Any, rows: Sequence[Any]) -> Iterator[_Seen]:
    """The steps of a file, each by what was before it."""
    import numpy as np

    from vertical_sdk.calibration.alarms import scores
    from vertical_sdk.data.windows import after

    layout, calibration = model.card.layout, model.card.calibration
    rows = [row for row in rows if row.target is not None and np.isfinite(row.values).any()]
    for start in range(0, len(rows), AT_ONCE):
        chunk = rows[start : start + AT_ONCE]
        raw = model.outputs(chunk)
        for row, expected, score in zip(chunk, raw[:, 0, :, 0], scores(raw, chunk, calibration.widths), strict=True):
            alarm = calibration.threshold is not None and score >= calibration.threshold
            worst = _worst(expected, row.target[0], calibration.widths, layout.channels)
            yield _Seen(
                after(row.time, layout.seconds), float(score), bool(alarm), *worst, series=dict(row.record).get("series")
            )


def _watched(model: Any, lines: Iterable[str]) -> Iterator[_Seen]:
    """Lines of time,value,... as they come; a first line of names says in which order channels stand."""
    from vertical_sdk.data.numbers import number_in, says_nothing
    from vertical_sdk.data.windows import moment_in

    channels: tuple[str, ...] = model.card.layout.channels
    order = tuple(range(len(channels)))
    watch = model.monitor()
    for number, cells in enumerate(csv.reader(lines), 1):
        where = f"stdin:{number}"
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(channels) + 1:
            raise DataError(f"{where}: {len(cells)} fields; {len(channels) + 1} are needed: time, {', '.join(channels[:5])}.")
        names = [cell.strip() for cell in cells[1:]]
        if number == 1 and sorted(names) == sorted(channels):
            order = tuple(names.index(channel) for channel in channels)
            continue
        moment = moment_in(cells[0], where, "time")
        values = [math.nan if says_nothing(names[k]) else number_in(names[k], where, channels[n]) for n, k in enumerate(order)]
        try:
            found = watch.update(values, moment)
        except DataError as error:
            raise DataError(f"{where}: {error}") from None
        worst = _worst(found.expected, values, model.card.calibration.widths, channels)
        yield _Seen(moment.isoformat(), found.score, found.alarm, *worst)


def _worst(
    expected: Sequence[float], values: Sequence[float], widths: Sequence[float], channels: Sequence[str]
) -> tuple[str, float | None, float | None]:
    """The channel that is furthest off in units of its usual error, with what was expected there and what came."""
    off = [abs(e - v) / w for e, v, w in zip(expected, values, widths, strict=True)]
    place = max(range(len(off)), key=lambda k: -1.0 if math.isnan(off[k]) else off[k])
    if math.isnan(off[place]):
        return channels[place], None, None
    return channels[place], float(f"{expected[place]:.6g}"), float(f"{values[place]:.6g}")


def _tell(seen: _Seen, *, as_json: bool) -> None:
    if as_json:
        document = {key: value for key, value in vars(seen).items() if key not in {"alarm", "series"}}
        emit({"series": seen.series, **document} if seen.series else document, indent=None)
        return
    of = f"  {seen.series}" if seen.series else ""
    show(f"{seen.time}{of}  score {seen.score:.2f}  {seen.channel}: expected {seen.expected:g}, was {seen.value:g}")
    sys.stdout.flush()
