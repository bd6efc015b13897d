"""POST /publish: publish uploaded files as a new version."""

from __future__ import annotations

from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Depends
from pydantic import BeforeValidator, Field
from starlette.responses import Response

from vertical_sdk.registry.checks import LONGEST_PATH, check_text_sizes
from vertical_sdk.registry.references import Reference, check_name
from vertical_sdk.registry.store import Entry, Stored, check_not_purged, manifest_digest
from vertical_sdk.registry.tree import check_path, tree_problems
from vertical_sdk.server.errors import TooLarge
from vertical_sdk.server.registry_files.uploads import check_sizes
from vertical_sdk.server.registry_routes.problems import error_response
from vertical_sdk.server.registry_routes.service import (
    LARGEST,
    MOST_TAGS,
    Body,
    Digest,
    Key,
    Named,
    Service,
    Tag,
    Why,
    registry_router,
)
from vertical_sdk.server.security.tokens import Token
from vertical_sdk.server.settings import Limits

__all__ = ["routes"]

AT_ONCE = 4
"""Versions that are published at the same time: reading cards takes memory, and other requests need the threads."""

MOST_FILES = Limits.files
"""Files of a request, before the limit of this server is compared."""


class File(Body):
    """A file of a version."""

    sha256: Digest
    size: int = Field(ge=0, le=LARGEST)


def _check_number(files: Any) -> Any:
    """Refuse too many files before each is read. Raises TooLarge."""
    if isinstance(files, dict) and len(files) > MOST_FILES:
        raise TooLarge(f"the version has {len(files)} files; a server accepts at most {MOST_FILES}.")
    return files


class Publication(Body):
    """A new version."""

    name: Named
    files: Annotated[
        dict[Annotated[str, Field(max_length=LONGEST_PATH)], File],
        BeforeValidator(_check_number),
        Field(description="Path in the adapter's folder → the file."),
    ]
    tags: dict[Key, Tag] = Field({}, max_length=MOST_TAGS)
    reason: Why = ""
    force: bool = False


def routes(service: Service) -> APIRouter:
    """Build the route of publishing."""
    router, registry, uploads = registry_router(), service.registry, service.uploads

    few = anyio.CapacityLimiter(AT_ONCE)

    @router.post("/publish", name="publish", response_model=Entry)
    async def publish_version(body: Publication, token: Token = Depends(service.may_publish)) -> Entry | Response:  # noqa: B008
        """Publish uploaded files as the next version of a name.

        409 with `missing` if files must be uploaded first. Content that the name has already needs no upload and gets no new version.
        """
        return await anyio.to_thread.run_sync(publish_uploaded, body, token, limiter=few)

    def publish_uploaded(body: Publication, token: Token) -> Entry | Response:
        manifest = {check_path(path): Stored(file.sha256, file.size) for path, file in body.files.items()}
        check_sizes(manifest, service.limits)
        check_text_sizes(manifest)
        digest = manifest_digest(manifest)
        check_name(body.name)
        with uploads.publishing(token.name, digest):
            published = registry.store.find(Reference(body.name, digest=digest))
            for entry in published:
                check_not_purged(entry)
            if published and not tree_problems(registry.store.folder(digest), manifest):
                uploads.drop(token.name, digest)
                return published[0]
            missing = uploads.missing(token.name, digest, manifest)
            if missing:
                return error_response(409, f"{len(missing)} files must be uploaded first.", missing=missing)
            size = 0 if published else sum(file.size for file in manifest.values())
            with service.counting(token, size), uploads.stage(token.name, digest, manifest) as folder:
                acting = registry.acting_for(token.name)
                version = acting.publish(folder, body.name, force=body.force, reason=body.reason, tags=body.tags)
            uploads.drop(token.name, digest)
            return registry.store.find(Reference(body.name, version=version.number))[0]

    return router
