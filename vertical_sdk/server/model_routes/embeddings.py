"""POST /v1/embeddings: features of texts by an encoder, with its adapter or as the base, in OpenAI's shape."""

from __future__ import annotations

import base64
from typing import Literal

import numpy as np
from fastapi import APIRouter, Depends, Request
from numpy.typing import NDArray
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from vertical_sdk.server.model_routes.bodies import Answer, Body, Usage, describe_answerer
from vertical_sdk.server.model_routes.problems import Unsupported
from vertical_sdk.server.model_routes.service import ModelService, model_router, write_answer

__all__ = ["routes"]

Format = Literal["float", "base64"]


class EmbeddingRequest(Body):
    """Texts to embed."""

    input: str | list[str]
    encoding_format: Format = "float"
    dimensions: int | None = None


class Embedding(BaseModel):
    """The embedding of one text, of length 1: numbers, or their bytes as float32 (little-endian) in base64."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingList(Answer):
    """The embeddings in the order of the texts."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    usage: Usage


def routes(service: ModelService) -> APIRouter:
    """Build the route of embeddings."""
    router = model_router("specialists")

    @router.post("/v1/embeddings", name="embeddings", dependencies=[Depends(service.may_infer)], response_model=EmbeddingList)
    async def embed(body: EmbeddingRequest, request: Request) -> Response:
        """Embed texts by an encoder base, or by a specialist on one with its adapter."""
        with service.using("/v1/embeddings", body.model, "encoder") as answerer:
            texts = [body.input] if isinstance(body.input, str) else body.input
            future = await run_in_threadpool(service.serving.embed, answerer, texts)
            embeddings = await service.wait(request, future)
            width = embeddings.values.shape[1]
            if body.dimensions not in {None, width}:
                raise Unsupported("dimensions", f"these embeddings have {width} numbers, not {body.dimensions}. Leave it out.")
            service.metrics.count(answerer, rows=len(texts), read=embeddings.tokens)
            answer = EmbeddingList(
                model=body.model,
                data=[
                    Embedding(index=index, embedding=_write(values, body.encoding_format))
                    for index, values in enumerate(embeddings.values)
                ],
                usage=Usage(prompt_tokens=embeddings.tokens, total_tokens=embeddings.tokens),
                vertical=describe_answerer(answerer),
            )
            return write_answer(answer, answerer)

    return router


def _write(values: NDArray[np.float32], form: Format) -> list[float] | str:
    if form == "base64":
        return base64.b64encode(values.astype("<f4").tobytes()).decode()
    numbers: list[float] = values.astype(np.float64).tolist()
    return numbers
