"""POST /classify: labels, probabilities and numbers of specialists, in vLLM's shape."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from vertical_sdk.inference.predictions import label_names
from vertical_sdk.server.model_routes.bodies import Answer, Body, Usage, describe_answerer
from vertical_sdk.server.model_routes.inputs import Given, count_tokens, list_inputs
from vertical_sdk.server.model_routes.service import ModelService, create_id, model_router, now, write_answer
from vertical_sdk.serving.served import Served
from vertical_sdk.types import Prediction

__all__ = ["predict_inputs", "routes"]


class ClassifyRequest(Body):
    """What is to be classified: a text, a record {field: value}, a picture (base64), a series (numbers), or a list of them."""

    input: Given


class Classification(BaseModel):
    """The answer for one input, with what `VerticalModel.predict` says besides.

    label       the label that the specialist's decision rule chooses; a list of labels for multilabel, a number for regression
    probs       the calibrated probability of each label, in the order of `vertical.labels`; [] for regression
    confidence  the probability of the chosen label; None for multilabel and regression
    interval    around a number
    abstained   whether the specialist is not sure enough of the label to keep the promise in its card; None if it promises nothing
    truncated   tokens of the input that did not fit
    unknown     tokens of the input that the base does not know
    control     control tokens that are written in the input, and were read as characters
    """

    index: int
    label: str | list[str] | float | None
    probs: list[float]
    num_classes: int
    confidence: float | None = None
    interval: tuple[float, float] | None = None
    abstained: bool | None = None
    truncated: int = 0
    unknown: int = 0
    control: int = 0


class Classifications(Answer):
    """The answers in the order of the inputs."""

    id: str
    object: Literal["list"] = "list"
    created: int
    data: list[Classification]
    usage: Usage


def routes(service: ModelService) -> APIRouter:
    """Build the route of classifications."""
    router = model_router("specialists")

    @router.post("/classify", name="classify", dependencies=[Depends(service.may_infer)], response_model=Classifications)
    async def classify(body: ClassifyRequest, request: Request) -> Response:
        """Ask a specialist of classification, ordinal, multilabel or regression."""
        with service.using("/classify", body.model) as answerer:
            predictions, tokens = await predict_inputs(service, request, answerer.served, body.input)
            service.metrics.count(answerer, rows=len(predictions), read=tokens)
            labels = label_names(answerer.served.adapter.card)
            answer = Classifications(
                id=create_id("classify"),
                created=now(),
                model=body.model,
                data=[_describe(index, prediction, labels) for index, prediction in enumerate(predictions)],
                usage=Usage(prompt_tokens=tokens, total_tokens=tokens),
                vertical=describe_answerer(answerer, labels=True),
            )
            return write_answer(answer, answerer)

    return router


async def predict_inputs(service: ModelService, request: Request, served: Served, given: Given) -> tuple[list[Prediction], int]:
    """Predict the inputs of a request, and count their tokens."""

    def submit() -> tuple[Any, int]:
        inputs = list_inputs(served, given)
        return service.serving.predict(served, inputs), count_tokens(served, inputs)

    future, tokens = await run_in_threadpool(submit)
    return await service.wait(request, future), tokens


def _describe(index: int, prediction: Prediction, labels: tuple[str, ...]) -> Classification:
    label: Any = prediction.label
    return Classification(
        index=index,
        label=list(label) if isinstance(label, tuple) else label,
        probs=[prediction.probabilities[name] for name in labels],
        num_classes=len(labels),
        confidence=prediction.confidence,
        interval=prediction.interval,
        abstained=prediction.abstained,
        truncated=prediction.truncated,
        unknown=prediction.unknown,
        control=prediction.control,
    )
