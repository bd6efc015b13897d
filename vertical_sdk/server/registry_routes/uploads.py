"""HEAD and PUT /uploads/DIGEST/SHA256: upload the files of a version before it is published."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

import anyio
from fastapi import APIRouter, Depends, Header, Request, Response

from vertical_sdk.server.registry_routes.problems import error_response
from vertical_sdk.server.registry_routes.service import API, BYTES, Done, Service, Sha256, registry_router
from vertical_sdk.server.security.tokens import Token

__all__ = ["PREFIX", "routes"]

PREFIX = f"{API}/uploads/"
"""Bodies below this path are files: the route reads them piece by piece."""


def routes(service: Service) -> APIRouter:
    """Build the routes of uploads."""
    router, uploads, silence = registry_router(), service.uploads, service.limits.silence
    publishing = Depends(service.may_publish)

    @router.head(
        "/uploads/{digest}/{sha256}",
        name="uploaded",
        responses={200: {"description": "The file was uploaded."}},
        response_class=Response,
    )
    def find_upload(digest: Sha256, sha256: Sha256, token: Token = publishing) -> Response:
        """Whether a file of an unpublished version was uploaded already; 404 if not."""
        if uploads.path_of(token.name, digest, sha256).is_file():
            return Response()
        return error_response(404, f"{sha256[:12]}… was not uploaded.")

    @router.put(
        "/uploads/{digest}/{sha256}",
        name="upload",
        openapi_extra={
            "requestBody": {"required": True, "content": {BYTES: {"schema": {"type": "string", "format": "binary"}}}}
        },
    )
    async def upload_file(
        request: Request,
        digest: Sha256,
        sha256: Sha256,
        content_length: Annotated[str | None, Header(include_in_schema=False)] = None,
        token: Token = publishing,
    ) -> Done:
        """Upload one file of a new version. `digest` is the digest of its manifest, `sha256` that of the file."""
        length = int(content_length) if content_length and content_length.isdigit() else None
        await uploads.receive(token.name, digest, sha256, _read_pieces(request, silence), length)
        return Done()

    return router


async def _read_pieces(request: Request, silence: float) -> AsyncIterator[bytes]:
    """Read the body of a request piece by piece. Raises TimeoutError if no data arrives for too long, ClientDisconnect."""
    pieces = request.stream()
    while True:
        with anyio.fail_after(silence):
            piece = await anext(pieces, None)
        if piece is None:
            return
        yield piece
