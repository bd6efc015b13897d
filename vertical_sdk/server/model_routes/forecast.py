"""POST /v1/forecast: the next steps of a series of measured values."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from vertical_sdk.errors import DataError
from vertical_sdk.inference.forecast import Forecast
from vertical_sdk.server.model_routes.bodies import Answer, Body, describe_answerer
from vertical_sdk.server.model_routes.service import ModelService, create_id, model_router, now, write_answer

__all__ = ["routes"]

Values = list[float | None]
MOST_CHANNELS = 10_000


class ForecastRequest(Body):
    """What was measured until now.

    history  channel → one value for each step, oldest first; null if it was not measured
    times    the time of each step in ISO 8601, if the specialist uses the time of day
    horizon  steps ahead; as many as it was trained for by default
    """

    history: Annotated[dict[str, Values], Field(min_length=1, max_length=MOST_CHANNELS)]
    times: list[Annotated[str, Field(max_length=64)]] | None = None
    horizon: int | None = None


class ForecastAnswer(Answer):
    """The next steps of each channel.

    index      the times of the steps, or their numbers from 1 if the history had no times
    mean       channel → the central forecast (the median) of each step
    quantiles  level → channel → the value that the truth stays below with that probability
    set_aside  readings that were too large for the specialist, and counted as not measured
    """

    id: str
    object: Literal["forecast"] = "forecast"
    created: int
    index: list[str] | list[int]
    mean: dict[str, list[float]]
    quantiles: dict[str, dict[str, list[float]]]
    set_aside: int


def routes(service: ModelService) -> APIRouter:
    """Build the route of forecasts."""
    router = model_router("specialists")

    @router.post("/v1/forecast", name="forecast", dependencies=[Depends(service.may_infer)], response_model=ForecastAnswer)
    async def forecast(body: ForecastRequest, request: Request) -> Response:
        """Ask a specialist of forecasting."""
        with service.using("/v1/forecast", body.model) as answerer:
            table = await run_in_threadpool(_build_table, body)
            result = await service.wait(request, service.serving.forecast(answerer.served, table, body.horizon))
            service.metrics.count(answerer)
            answer = ForecastAnswer(
                id=create_id("forecast"),
                created=now(),
                model=body.model,
                **_describe(result, timed=body.times is not None),
                vertical=describe_answerer(answerer),
            )
            return write_answer(answer, answerer)

    return router


def _build_table(body: ForecastRequest) -> Any:
    """The history as a DataFrame, as `VerticalModel.forecast` takes it. Raises DataError."""
    import pandas as pd

    from vertical_sdk.data.zones import parse_time

    counts = {len(values) for values in body.history.values()} | ({len(body.times)} if body.times is not None else set())
    if len(counts) > 1:
        raise DataError(f"the channels and times of the history have different numbers of steps: {sorted(counts)[:10]}.")
    table = pd.DataFrame(body.history, dtype=float)
    if body.times is not None:
        moments = [parse_time(text, "", "times") for text in body.times]
        try:
            table.index = pd.DatetimeIndex(moments)
        except (ValueError, TypeError, OverflowError) as error:
            raise DataError(f"the times cannot be used together: {error}. Give all of them in one zone.") from None
    return table


def _describe(result: Forecast, *, timed: bool) -> dict[str, Any]:
    def write(table: Any) -> dict[str, list[float]]:
        return {str(channel): [float(value) for value in table[channel]] for channel in table.columns}

    return {
        "index": [moment.isoformat() for moment in result.index] if timed else [int(step) for step in result.index],
        "mean": write(result.mean),
        "quantiles": {f"{level:g}": write(table) for level, table in result.quantiles.items()},
        "set_aside": result.set_aside,
    }
