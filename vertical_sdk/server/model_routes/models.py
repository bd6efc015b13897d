"""GET /v1/models: the bases and the specialists that answer, in OpenAI's and vLLM's shape."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from vertical_sdk.server.model_routes.bodies import Identity, describe_answerer
from vertical_sdk.server.model_routes.service import ModelService, model_router
from vertical_sdk.serving.problems import UnknownModel
from vertical_sdk.serving.service import Answerer
from vertical_sdk.serving.specialists import Entry

__all__ = ["routes"]

OWNER = "vertical"


class Model(BaseModel):
    """What may be named as `model`.

    root    the version that a reference means now, by its digest; of a base, its name
    parent  the base of a specialist; None for a base, and for members that answer without one
    """

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = OWNER
    root: str
    parent: str | None = None
    vertical: Identity
    task: str | None = None


class ModelList(BaseModel):
    """All models."""

    object: Literal["list"] = "list"
    data: list[Model]


def routes(service: ModelService) -> APIRouter:
    """Build the routes of models."""
    router = model_router("models")
    serving = service.serving

    def list_all() -> list[Model]:
        bases = {base.fingerprint.weights: name for name, base in serving.bases.items()}
        own = [
            Model(id=name, created=0, root=name, vertical=Identity(base=base.fingerprint.weights))
            for name, base in serving.bases.items()
        ]
        return own + [_describe(entry, bases) for entry in serving.specialists.entries]

    @router.get("/v1/models", name="models", dependencies=[Depends(service.may_infer)])
    def list_models() -> ModelList:
        """The bases, and the references that are served."""
        return ModelList(data=list_all())

    @router.get("/v1/models/{model:path}", name="model", dependencies=[Depends(service.may_infer)])
    def read_model(model: str) -> Model:
        """One of them."""
        for known in list_all():
            if known.id == model:
                return known
        raise UnknownModel(f"no model is called {model!r:.200} here. /v1/models lists them.")

    return router


def _describe(entry: Entry, bases: dict[str, str]) -> Model:
    served = entry.served
    card = served.adapter.card
    return Model(
        id=entry.reference,
        created=int(datetime.fromisoformat(served.version.created).timestamp()),
        root=served.key,
        parent=None if card.members_only else bases.get(card.base.weights),
        vertical=describe_answerer(Answerer(served), labels=True),
        task=card.task,
    )
