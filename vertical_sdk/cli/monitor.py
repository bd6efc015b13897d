"""vertical monitor: find unexpected values in a file or in lines from stdin."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vertical_sdk.cli.forecast import read_series
from vertical_sdk.cli.options import AllowRevoked, RegistryAt, TimeColumn, check_verb
from vertical_sdk.cli.output import emit, say, show, showing
from vertical_sdk.errors import DataError

if TYPE_CHECKING:
    from vertical_sdk.inference.forecast import Alarm

__all__ = ["monitor"]

BATCH = 256


@dataclass(frozen=True)
class _Step:
    """A scored step, with the channel that is furthest from its expected value; `score` is NaN if too few values are known.

    Members without an adapter expect no value; the channel is then "".
    """

    time: str
    score: float
    alarm: bool
    channel: str = ""
    expected: float | None = None
    value: float | None = None
    series: str | None = None


def monitor(
    adapter: Annotated[str, typer.Argument(metavar="ADAPTER", help="NAME@VERSION, or a folder: ./RUN, /path/RUN or runs/RUN.")],
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="One line for each step and one column for each channel.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Read lines of time,value,... from stdin as they arrive, oldest first.")
    ] = False,
    time: TimeColumn = None,
    registry: RegistryAt = None,
    allow_revoked: AllowRevoked = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON document a line, one for each alarm.")] = False,
) -> None:
    """Find unexpected values: print a line for each step that raises an alarm."""
    if follow == (data is not None):
        raise typer.BadParameter("give either --data FILE or --follow.")
    if follow and time is not None:
        raise typer.BadParameter("--time needs --data; with --follow the time is the first field of each line.")
    with showing() as progress:
        progress(f"loading {adapter}", None)
        from vertical_sdk.inference import load
        from vertical_sdk.registry import Registry

        model = load(adapter, Registry(registry), allow_revoked=allow_revoked or ())
        check_verb(model, "monitor", adapter)
        rows = read_series(data, model, time) if data is not None else ()
    steps = alarms = 0
    detector = model.monitor() if follow else None
    for step in _follow(model, detector, sys.stdin) if follow else _score_rows(model, rows):
        steps += not math.isnan(step.score)
        alarms += step.alarm
        if step.alarm:
            _show_alarm(step, as_json=as_json)
    if detector is not None and detector.set_aside:
        say(
            f"Values too large to be measurements: {detector.set_aside}. Each was scored, and is not used by the steps after it."
        )
    threshold = model.card.calibration.threshold
    say(
        f"{alarms} alarms in {steps} steps"
        + (f"; a score of {threshold:.3g} or more is an alarm." if threshold is not None else ".")
    )


def _score_rows(model: Any, rows: Sequence[Any]) -> Iterator[_Step]:
    """Score the steps of a file, each from the steps before it."""
    import numpy as np

    from vertical_sdk.data.windows import add_seconds
    from vertical_sdk.inference.forecast import judge_steps

    layout = model.card.layout
    rows = [row for row in rows if row.target is not None and np.isfinite(row.values).any()]
    for start in range(0, len(rows), BATCH):
        chunk = rows[start : start + BATCH]
        for row, result in zip(chunk, judge_steps(model.answer(chunk)), strict=True):
            worst = _find_worst(result, row.target[0], layout.channels)
            time, series = add_seconds(row.time, layout.seconds), dict(row.record).get("series")
            yield _Step(time, result.score, result.alarm, *worst, series=series)


def _follow(model: Any, detector: Any, lines: Iterable[str]) -> Iterator[_Step]:
    """Score lines of time,value,... as they arrive; a first line of names gives the order of the channels."""
    from vertical_sdk.cells import is_missing
    from vertical_sdk.data.numbers import parse_number
    from vertical_sdk.data.zones import parse_time

    channels: tuple[str, ...] = model.card.layout.channels
    order = tuple(range(len(channels)))
    for number, cells in enumerate(csv.reader(lines), 1):
        where = f"stdin:{number}"
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(channels) + 1:
            raise DataError(
                f"{len(cells)} fields; {len(channels) + 1} are needed: time, {', '.join(channels[:5])}.", where=where
            )
        names = [cell.strip() for cell in cells[1:]]
        if number == 1 and sorted(names) == sorted(channels):
            order = tuple(names.index(channel) for channel in channels)
            continue
        moment = parse_time(cells[0].removeprefix("\ufeff"), where, "time")  # the mark that some programs begin a file with
        values = [math.nan if is_missing(names[k]) else parse_number(names[k], where, channels[n]) for n, k in enumerate(order)]
        try:
            result = detector.update(values, moment)
        except DataError as error:
            raise DataError(str(error), where=where) from None
        worst = _find_worst(result, values, channels)
        yield _Step(moment.isoformat(), result.score, result.alarm, *worst)


def _find_worst(result: Alarm, values: Sequence[float], channels: Sequence[str]) -> tuple[str, float | None, float | None]:
    """The channel that is furthest from its expected value, with that and its actual value; "" if no value is expected."""
    place = max(range(len(channels)), key=lambda k: -1.0 if math.isnan(result.distances[k]) else result.distances[k])
    if math.isnan(result.distances[place]):
        return "", None, None
    return channels[place], float(f"{result.expected[place]:.6g}"), float(f"{values[place]:.6g}")


def _show_alarm(step: _Step, *, as_json: bool) -> None:
    if as_json:
        document = {key: value for key, value in vars(step).items() if key not in {"alarm", "series"}}
        emit({"series": step.series, **document} if step.series else document, indent=None)
        return
    series = f"  {step.series}" if step.series else ""
    worst = f"  {step.channel}: expected {step.expected:g}, was {step.value:g}" if step.channel else ""
    show(f"{step.time}{series}  score {step.score:.2f}{worst}")
    sys.stdout.flush()
