"""/v1/admin/adapters: list, load, pin and unload what is served. Adapters are named by references, never by paths or addresses."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from vertical_sdk.errors import AdapterError, BaseModelError
from vertical_sdk.server.model_routes.bodies import Identity, describe_answerer
from vertical_sdk.server.model_routes.problems import LoadFailed
from vertical_sdk.server.model_routes.service import ModelService, model_router
from vertical_sdk.serving.service import Answerer
from vertical_sdk.serving.specialists import Entry

__all__ = ["routes"]


class LoadRequest(BaseModel):
    """A reference to serve: NAME, NAME@3, NAME@ALIAS or NAME@sha256:DIGEST.

    pinned  keep the adapter in memory
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    reference: Annotated[str, Field(max_length=300)]
    pinned: bool = False


class AdapterState(BaseModel):
    """A reference that is served.

    in_use   whether a request uses the version that answers now
    problem  why the version that the reference means now does not answer; "" if it does
    revoked  why nothing answers; None if something does
    """

    reference: str
    task: str
    pinned: bool
    in_use: bool
    problem: str
    revoked: str | None
    vertical: Identity


class AdapterList(BaseModel):
    """All references, in the order in which they were loaded."""

    object: Literal["list"] = "list"
    data: list[AdapterState]


class Unloaded(BaseModel):
    """The reference is served no more."""

    reference: str
    unloaded: bool = True


def routes(service: ModelService) -> APIRouter:
    """Build the routes of what is served."""
    router, specialists = model_router("admin"), service.serving.specialists
    admin = [Depends(service.may_admin)]

    @router.get("/v1/admin/adapters", name="adapters", dependencies=admin)
    def list_adapters() -> AdapterList:
        """What is served, with its problems."""
        return AdapterList(data=[_describe(entry) for entry in specialists.entries])

    @router.post("/v1/admin/adapters", name="load", dependencies=admin)
    def load_adapter(body: LoadRequest) -> AdapterState:
        """Serve a reference, after a check of its files and self-tests; or set whether it is pinned, if it is served already."""
        try:
            return _describe(specialists.add(body.reference, pinned=body.pinned))
        except (AdapterError, BaseModelError) as error:
            raise LoadFailed(error.message, where=error.where) from error

    @router.delete("/v1/admin/adapters/{reference:path}", name="unload", dependencies=admin)
    def unload_adapter(reference: str) -> Unloaded:
        """Serve a reference no more. requests that have started end as usual."""
        specialists.remove(reference)
        return Unloaded(reference=reference)

    return router


def _describe(entry: Entry) -> AdapterState:
    served = entry.served
    return AdapterState(
        reference=entry.reference,
        task=served.adapter.card.task,
        pinned=entry.pinned,
        in_use=served.in_use,
        problem=entry.problem,
        revoked=entry.revoked if entry.revoked is not None else served.revoked,
        vertical=describe_answerer(Answerer(served), labels=True),
    )
