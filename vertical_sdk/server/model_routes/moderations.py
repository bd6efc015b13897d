"""POST /v1/moderations: the answers of a specialist with labels, in the shape of OpenAI's moderations."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from vertical_sdk.errors import find_similar
from vertical_sdk.inference.predictions import label_names
from vertical_sdk.server.model_routes.bodies import Answer, Body, describe_answerer
from vertical_sdk.server.model_routes.classify import predict_inputs
from vertical_sdk.server.model_routes.problems import Unsupported
from vertical_sdk.server.model_routes.service import ModelService, create_id, model_router, write_answer
from vertical_sdk.serving.problems import WrongModel
from vertical_sdk.serving.served import Served
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Prediction

__all__ = ["routes"]


class ModerationRequest(Body):
    """Texts to judge.

    flag  the labels that flag a text. A multilabel specialist may leave it out: each of its labels does
    """

    input: str | list[str]
    flag: list[str] | None = Field(None, max_length=10_000)


class Moderation(BaseModel):
    """The answer for one text.

    flagged          whether a label that flags was chosen
    categories       label → whether it was chosen
    category_scores  label → its calibrated probability
    """

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]
    category_applied_input_types: dict[str, list[str]]


class Moderations(Answer):
    """The answers in the order of the texts."""

    id: str
    results: list[Moderation]


def routes(service: ModelService) -> APIRouter:
    """Build the route of moderations."""
    router = model_router("specialists")

    @router.post("/v1/moderations", name="moderations", dependencies=[Depends(service.may_infer)], response_model=Moderations)
    async def moderate(body: ModerationRequest, request: Request) -> Response:
        """Ask a specialist of multilabel, classification or ordinal whether texts are to be flagged."""
        with service.using("/v1/moderations", body.model) as answerer:
            labels = label_names(answerer.served.adapter.card)
            flag = _find_flags(answerer.served, body.flag, labels)
            given = body.input if isinstance(body.input, str) else list(body.input)
            predictions, tokens = await predict_inputs(service, request, answerer.served, given)
            service.metrics.count(answerer, rows=len(predictions), read=tokens)
            answer = Moderations(
                id=create_id("modr"),
                model=body.model,
                results=[_describe(prediction, labels, flag) for prediction in predictions],
                vertical=describe_answerer(answerer, labels=True),
            )
            return write_answer(answer, answerer)

    return router


def _find_flags(served: Served, flag: list[str] | None, labels: tuple[str, ...]) -> frozenset[str]:
    """The labels that flag a text. Raises WrongModel for a specialist without labels, Unsupported for a label that it does not have."""
    if not labels or served.adapter.recipe.data.modality != "text":
        raise WrongModel(f"{served.version} does not choose labels for texts, so it cannot moderate.")
    if flag is None:
        if get_task(served.adapter.card.task).single_label:
            raise Unsupported("flag", f"name the labels that flag a text in `flag`. Labels: {', '.join(labels)[:1000]}.")
        return frozenset(labels)
    for label in flag:
        if label not in labels:
            near = find_similar(label, labels, most=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise Unsupported("flag", f"{label!r:.200} is not a label of {served.version}.{hint}")
    return frozenset(flag)


def _describe(prediction: Prediction, labels: tuple[str, ...], flag: frozenset[str]) -> Moderation:
    chosen = set(prediction.label) if isinstance(prediction.label, tuple) else {prediction.label}
    return Moderation(
        flagged=not flag.isdisjoint(chosen),
        categories={label: label in chosen for label in labels},
        category_scores={label: prediction.probabilities[label] for label in labels},
        category_applied_input_types={label: ["text"] for label in labels},
    )
