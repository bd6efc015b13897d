"""GET /files/DIGEST/PATH: download a file of a version."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.responses import FileResponse

from vertical_sdk.server.registry_routes.problems import Problem, error_response
from vertical_sdk.server.registry_routes.service import BYTES, Service, Sha256, registry_router

__all__ = ["routes"]

RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})")


def routes(service: Service) -> APIRouter:
    """Build the route of files."""
    router, store = registry_router(), service.registry.store

    @router.get(
        "/files/{digest}/{path:path}",
        name="file",
        dependencies=[Depends(service.may_read)],
        response_class=FileResponse,
        responses={
            200: {"content": {BYTES: {}}},
            206: {"content": {BYTES: {}}, "description": "The requested part."},
            304: {"description": "The client has this file already."},
            416: {"model": Problem},
        },
    )
    def download_file(
        request: Request,
        digest: Sha256,
        path: str,
        wanted: Annotated[str | None, Header(alias="Range", description="bytes=FIRST-LAST, one range.")] = None,
        if_none_match: Annotated[str | None, Header()] = None,
    ) -> Response:
        """One file of a version, or a part of it; its ETag is its SHA-256."""
        stored = store.manifest(digest).get(path)
        if stored is None:
            return error_response(404, f"sha256:{digest[:12]}… has no file {path!r}.", kind="CorruptAdapter")
        etag = {"ETag": f'"{stored.sha256}"'}
        if if_none_match and stored.sha256 in if_none_match:
            return Response(status_code=304, headers=etag)
        part = RANGE.fullmatch(wanted or "")
        if part and int(part[1]) >= stored.size:
            return error_response(
                416, "the range starts after the end of the file.", headers={"Content-Range": f"bytes */{stored.size}"}
            )
        if part is None or (part[2] and int(part[2]) < int(part[1])):  # ignore a range that is not understood (RFC 9110, 14.2)
            request.scope["headers"] = [pair for pair in request.scope["headers"] if pair[0].lower() != b"range"]
        place = store.folder(digest) / path
        if not place.is_file():
            message = f"{path} is missing from the registry. Publish the adapter again."
            return error_response(404, message, kind="CorruptAdapter")
        return FileResponse(place, media_type=BYTES, headers=etag, filename=place.name)

    return router
