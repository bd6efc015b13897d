"""vertical forecast: forecast the series of a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from vertical_sdk.cli.options import AllowRevoked, Json, RegistryAt, TimeColumn, check_verb
from vertical_sdk.cli.output import emit, say, show, showing, table
from vertical_sdk.errors import DataError

__all__ = ["forecast", "read_series"]


@dataclass(frozen=True)
class _Line:
    """One step ahead of one channel; bounds if the specialist has an interval, the series' name if a file has several series."""

    time: str
    channel: str
    forecast: float
    lower: float | None = None
    upper: float | None = None
    series: str | None = field(default=None, kw_only=True)

    def to_dict(self) -> dict[str, Any]:
        """The fields of a document or a CSV file; no series if there is only one."""
        own = {key: value for key, value in vars(self).items() if key != "series"}
        return own if self.series is None else {"series": self.series, **own}


def forecast(
    adapter: Annotated[str, typer.Argument(metavar="ADAPTER", help="NAME@VERSION, or a folder: ./RUN, /path/RUN or runs/RUN.")],
    data: Annotated[
        Path, typer.Option(metavar="FILE", help="One line for each step and one column for each channel, up to now.")
    ],
    time: TimeColumn = None,
    horizon: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Steps ahead; default: as many as it was trained for.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a CSV: time, channel, forecast, lower, upper.")
    ] = None,
    registry: RegistryAt = None,
    allow_revoked: AllowRevoked = None,
    as_json: Json = False,
) -> None:
    """Forecast each channel of a file from its last step on, with an interval if the specialist has one."""
    with showing() as progress:
        progress(f"loading {adapter}", None)
        from vertical_sdk.inference import load
        from vertical_sdk.registry import Registry

        model = load(adapter, Registry(registry), allow_revoked=allow_revoked or ())
        check_verb(model, "forecast", adapter)
        last = {dict(row.record).get("series"): row for row in read_series(data, model, time)}
        lines = [line for row in last.values() for line in _forecast_row(model, row, horizon)]
    level = model.card.calibration.level
    if out is not None:
        from vertical_sdk.paths import write_whole

        write_whole(out, _csv(lines))
    if as_json:
        emit({"adapter": adapter, "level": level, "forecasts": [line.to_dict() for line in lines]})
    elif out is not None:
        show(f"{out}: {len(lines)} lines")
    else:
        show(_table(lines))
    if any(line.lower is not None for line in lines):
        say(
            f"The true value is between lower and upper in {level:.0%} of cases."
            if level
            else "lower and upper are not calibrated."
        )


def read_series(path: Path, model: Any, time: str | None) -> Sequence[Any]:
    """Read the rows of a file as in training, up to the last step of each series.

    time  the column of times; None means the recipe's

    Raises DataError for a file that has other channels or another interval between steps, or cannot be read.
    """
    from vertical_sdk import catalog
    from vertical_sdk.data.prepare import read_rows

    if not path.is_file():
        raise DataError("no such file.", where=path)
    recipe = model.adapter.recipe
    options = catalog.readers.options(recipe.data.reader.use) if recipe.data.reader else {}
    settings: dict[str, Any] = {"data.columns.time": time} if time else {}
    if "stride" in options:
        settings["data.reader.stride"] = 1
    rows, account = read_rows(path, recipe.replace(settings), model.card.contract)
    for note, count in account.notes.items():
        if "too large" in note:
            say(f"{path}: {count} {note}; the specialist reads them as not measured.")
    return rows


def _forecast_row(model: Any, row: Any, horizon: int | None) -> list[_Line]:
    """Forecast what follows the last step of a row."""
    import pandas as pd

    from vertical_sdk.data.zones import find_zone

    layout = model.card.layout
    last, step = datetime.fromisoformat(row.time), timedelta(seconds=layout.seconds)
    index = pd.DatetimeIndex([last - k * step for k in reversed(range(len(row.values)))])
    if index.tz is not None:
        index = index.tz_convert(find_zone(layout.zone))
    forecast = model.forecast(pd.DataFrame(row.values, index=index, columns=list(layout.channels)), horizon)
    bounds = (
        [forecast.quantiles[level] for level in (min(forecast.quantiles), max(forecast.quantiles))]
        if len(forecast.quantiles) > 1
        else []
    )
    lines = []
    for moment in forecast.index:
        for channel in layout.channels:
            numbers = [float(f"{part.at[moment, channel]:.6g}") for part in (forecast.mean, *bounds)]
            lines.append(_Line(moment.isoformat(), channel, *numbers, series=dict(row.record).get("series")))
    return lines


def _csv(lines: Sequence[_Line]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(lines[0].to_dict())
    writer.writerows(line.to_dict().values() for line in lines)
    return text.getvalue()


def _table(lines: Sequence[_Line]) -> Any:
    columns = [key for key in lines[0].to_dict() if lines[0].lower is not None or key not in {"lower", "upper"}]
    return table(columns, [[getattr(line, column) for column in columns] for line in lines])
