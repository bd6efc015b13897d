"""GET /metrics: what Prometheus reads."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from starlette.responses import Response

from vertical_sdk.server.model_routes.service import ModelService, model_router

__all__ = ["routes"]

TEXT = "text/plain; version=0.0.4; charset=utf-8"


def routes(service: ModelService) -> APIRouter:
    """Build the route of the metrics."""
    router = model_router("server")

    @router.get(
        "/metrics",
        name="metrics",
        dependencies=[Depends(service.may_infer)],
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}},
    )
    def read_metrics() -> Response:
        """Counters for Prometheus, with labels `adapter` and `digest`."""
        return Response(service.metrics.write(), media_type=TEXT)

    return router
