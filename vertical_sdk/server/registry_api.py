"""The registry's methods as routes: what `registry.store.Store` has, read page by page, and what changes a registry.

Nothing that a client says of a version is believed: the server lays out the files that were uploaded, reads the card in them and
publishes the folder itself, with every check that publishing has. Who did it, in the log, is the token's name.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from typing import Annotated

import anyio
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import FileResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict, Field

from vertical_sdk.errors import RegistryError
from vertical_sdk.registry import Registry
from vertical_sdk.registry.query import parse_condition
from vertical_sdk.registry.references import Reference, check_alias, check_name, parse_reference
from vertical_sdk.registry.store import Entry, Event, Stored, manifest_digest
from vertical_sdk.registry.tree import check_path, tree_problems
from vertical_sdk.server.access import API, needs
from vertical_sdk.server.answers import Problem, refusal
from vertical_sdk.server.limits import Limits
from vertical_sdk.server.tokens import Token
from vertical_sdk.server.uploads import Uploads, check_sizes

__all__ = ["registry_api"]

PAGE = 1000
BYTES = "application/octet-stream"
LARGEST = 10**18 - 1
RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})")

Name = Annotated[str, Query(max_length=129, description="Such as medical/icd-chapter.")]
Prefix = Annotated[str, Query(max_length=129, description="Only names that begin so.")]
After = Annotated[str, Query(max_length=129, description="Only names behind this one.")]
Number = Annotated[int, Field(ge=1, le=LARGEST)]
Limit = Annotated[int, Query(ge=1, le=PAGE)]
Sha256 = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Why = Annotated[str, Field(max_length=10_000)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class File(_Body):
    """A file of a version."""

    sha256: Digest
    size: int = Field(ge=0, le=LARGEST)


class Publication(_Body):
    """A version that is to be."""

    name: str = Field(max_length=129)
    files: dict[str, File] = Field(description="Path in the adapter's folder → the file.")
    tags: dict[str, str] = {}
    reason: Why = ""
    force: bool = False


class Move(_Body):
    """An alias, and where it is to stand."""

    name: str = Field(max_length=129)
    alias: str = Field(max_length=64)
    version: Number | None = Field(description="None takes the alias away.")
    expected: int | None = Field(None, ge=0, le=LARGEST, description="Where it must stand now; 0: nowhere; none: anywhere.")
    why: Why = ""
    evidence: str = Field("", max_length=100_000, description="JSON: what it is moved on.")


class Tags(_Body):
    """Tags to set, or (None) to take away."""

    name: str = Field(max_length=129)
    version: Number
    tags: dict[str, str | None]
    why: Why = ""


class Signature(_Body):
    """A signature, as `model-signing` writes it, and the SHA-256 of its public key."""

    name: str = Field(max_length=129)
    version: Number
    fingerprint: Digest
    signature: str = Field(min_length=1, max_length=32_768)


class Revocation(_Body):
    """A version that nobody is to load from now on, and why."""

    name: str = Field(max_length=129)
    version: Number
    reason: Annotated[str, Field(min_length=1, max_length=1000)]


class Newest(BaseModel):
    """The newest version of a name, and where the name's aliases stand."""

    entry: Entry
    aliases: Mapping[str, int]


class Freed(BaseModel):
    """Bytes that were freed."""

    bytes: int


class Done(BaseModel):
    """It was done."""

    done: bool = True


def registry_api(registry: Registry, uploads: Uploads, limits: Limits, *, anonymous: bool) -> APIRouter:
    """The routes of a registry, below /api/v1."""
    store = registry.store
    refusals = {
        status: {"model": Problem} for status in (400, 401, 403, 404, 405, 408, 409, 413, 422, 429, 431, 500, 502, 503, 507)
    }
    known = HTTPBearer(auto_error=False, description="A token, from `vertical registry token add`.")
    routes = APIRouter(prefix=API, responses=refusals, dependencies=[Depends(known)])  # type: ignore[arg-type]
    reading = [Depends(needs("read", anonymous=anonymous))]
    publishing = Depends(needs("publish", anonymous=anonymous))
    promoting = Depends(needs("promote", anonymous=anonymous))

    @routes.get("/names", dependencies=reading)
    def names(prefix: Prefix = "", after: After = "", limit: Limit = PAGE) -> list[str]:
        """The names that begin so, sorted; those behind `after`."""
        return list(store.names(prefix, after=after, limit=limit))

    @routes.get("/newest", dependencies=reading)
    def newest(prefix: Prefix = "", after: After = "", limit: Limit = PAGE) -> list[Newest]:
        """The newest version of each of these names."""
        return [Newest(entry=entry, aliases=aliases) for entry, aliases in store.newest(prefix, after=after, limit=limit)]

    @routes.get("/versions", dependencies=reading)
    def versions(name: Name, before: Annotated[int | None, Query(ge=1, le=LARGEST)] = None, limit: Limit = PAGE) -> list[Entry]:
        """The `limit` newest versions of a name below number `before`, oldest first."""
        return list(store.versions(check_name(name), before=before, limit=limit))

    @routes.get("/find", dependencies=reading)
    def find(
        reference: Annotated[str, Query(max_length=300, description="NAME, NAME@3, NAME@ALIAS or NAME@sha256:DIGEST.")],
    ) -> list[Entry]:
        """The versions that a reference may mean: none, one, or several where a digest's first digits are shared."""
        return list(store.find(parse_reference(reference)))

    @routes.get("/search", dependencies=reading)
    def search(
        condition: Annotated[
            list[str] | None, Query(max_length=20, description="Such as domain=medical, macro_f1>0.8.")
        ] = None,
        after_name: After = "",
        after_number: Annotated[int, Query(ge=0, le=LARGEST)] = 0,
        limit: Limit = PAGE,
    ) -> list[Entry]:
        """The versions that meet all conditions, by name and number; those behind (after_name, after_number)."""
        asked = [parse_condition(text) for text in condition or ()]
        return list(store.search(asked, after=(after_name, after_number) if after_name else None, limit=limit))

    @routes.get("/history", dependencies=reading)
    def history(
        name: Name, skip: Annotated[int, Query(ge=0, le=LARGEST)] = 0, limit: Limit = PAGE, newest_first: bool = False
    ) -> list[Event]:
        """The log of a name. It only grows: oldest first, `skip` always means the same lines."""
        return list(store.history(check_name(name), skip=skip, limit=limit, newest_first=newest_first))

    @routes.get("/manifests/{digest}", dependencies=reading)
    def manifest(digest: Sha256) -> dict[str, Stored]:
        """Path → SHA-256 and size of every file of a version."""
        return dict(store.manifest(digest))

    @routes.get(
        "/files/{digest}/{path:path}",
        dependencies=reading,
        response_class=FileResponse,
        responses={
            200: {"content": {BYTES: {}}},
            206: {"content": {BYTES: {}}, "description": "The part that was asked for."},
            304: {"description": "It is the file that the client has."},
            416: {"model": Problem},
        },
    )
    def file(
        request: Request,
        digest: Sha256,
        path: str,
        wanted: Annotated[str | None, Header(alias="Range", description="bytes=FIRST-LAST, one range.")] = None,
        if_none_match: Annotated[str | None, Header()] = None,
    ) -> Response:
        """One file of a version, or a part of it; its ETag is its SHA-256."""
        stored = store.manifest(digest).get(path)
        if stored is None:
            return refusal(404, f"sha256:{digest[:12]}… has no file {path!r}.", kind="CorruptAdapter")
        etag = {"ETag": f'"{stored.sha256}"'}
        if if_none_match and stored.sha256 in if_none_match:
            return Response(status_code=304, headers=etag)
        part = RANGE.fullmatch(wanted or "")
        if part and int(part[1]) >= stored.size:
            return refusal(416, "the file ends before.", headers={"Content-Range": f"bytes */{stored.size}"})
        if part is None or (part[2] and int(part[2]) < int(part[1])):  # what is not understood is not heeded (RFC 9110, 14.2)
            request.scope["headers"] = [pair for pair in request.scope["headers"] if pair[0].lower() != b"range"]
        place = store.folder(digest) / path
        if not place.is_file():
            return refusal(404, f"{path} is missing from the registry. Publish the adapter again.", kind="CorruptAdapter")
        return FileResponse(place, media_type=BYTES, headers=etag, filename=place.name)

    @routes.head("/uploads/{digest}/{sha256}", responses={200: {"description": "It is there."}}, response_class=Response)
    def uploaded(digest: Sha256, sha256: Sha256, token: Token = publishing) -> Response:
        """Whether a file of a version that is to be was uploaded already; 404 where it was not."""
        if uploads.file(token.name, digest, sha256).is_file():
            return Response()
        return refusal(404, f"{sha256[:12]}… was not uploaded.")

    @routes.put(
        "/uploads/{digest}/{sha256}",
        openapi_extra={
            "requestBody": {"required": True, "content": {BYTES: {"schema": {"type": "string", "format": "binary"}}}}
        },
    )
    async def upload(
        request: Request,
        digest: Sha256,
        sha256: Sha256,
        content_length: Annotated[str | None, Header(include_in_schema=False)] = None,
        token: Token = publishing,
    ) -> Done:
        """Upload one file of a version that is to be. `digest` is that of its manifest, `sha256` the file's."""
        length = int(content_length) if content_length and content_length.isdigit() else None
        await uploads.receive(token.name, digest, sha256, _pieces(request, limits.silence), length)
        return Done()

    @routes.post("/publish", response_model=Entry)
    def publish(body: Publication, token: Token = publishing) -> Entry | Response:
        """Publish files that were uploaded as the next version of a name.

        409 with `missing` where files are to be uploaded first; content that the name has already needs none, and gets no new version.
        """
        asked = {check_path(path): Stored(file.sha256, file.size) for path, file in body.files.items()}
        check_sizes(asked, limits)
        digest = manifest_digest(asked)
        known = store.find(Reference(check_name(body.name), digest=digest))
        if known and not tree_problems(store.folder(digest), asked):
            return known[0]
        missing = uploads.missing(token.name, digest, asked)
        if missing:
            return refusal(409, f"{len(missing)} files are to be uploaded first.", missing=missing)
        with uploads.laid_out(token.name, digest, asked) as folder:
            acting = registry.acting_for(token.name)
            version = acting.publish(folder, body.name, force=body.force, reason=body.reason, tags=body.tags)
        uploads.drop(token.name, digest)
        return store.find(Reference(body.name, version=version.number))[0]

    @routes.post("/aliases", response_model=Done)
    def alias(body: Move, token: Token = promoting) -> Done | Response:
        """Move an alias, if it stands where it is expected; 409 where it does not."""
        check_alias(body.alias, check_name(body.name))
        acting = registry.acting_for(token.name)
        try:
            if body.version is None:
                acting.delete_alias(body.name, body.alias, expected=body.expected, why=body.why)
            else:
                acting.set_alias(
                    body.name, body.alias, body.version, expected=body.expected, why=body.why, evidence=body.evidence
                )
        except RegistryError as error:
            return refusal(409, str(error))
        return Done()

    @routes.post("/tags")
    def tag(body: Tags, token: Token = promoting) -> Done:
        """Set tags of a version, or take them away."""
        registry.acting_for(token.name).tag(body.name, body.version, body.tags, why=body.why)
        return Done()

    @routes.post("/signatures", response_model=Done)
    def sign(body: Signature, token: Token = publishing) -> Done | Response:
        """Keep a signature of a version. One that is there already is replaced only by who may promote."""
        acting = registry.acting_for(token.name)
        version = acting.resolve(f"{body.name}@{body.version}", check=False)
        kept = version.signatures.get(body.fingerprint)
        if kept == body.signature:
            return Done()
        if kept is not None and not token.may("promote"):
            return refusal(409, f"{version} is signed with the key {body.fingerprint[:12]}… already.")
        acting.add_signature(version, body.fingerprint, body.signature)
        return Done()

    @routes.post("/revocations")
    def revoke(body: Revocation, token: Token = promoting) -> Done:
        """Refuse to load a version from now on."""
        registry.acting_for(token.name).revoke(f"{body.name}@{body.version}", body.reason)
        return Done()

    @routes.get("/problems", dependencies=[promoting])
    def problems() -> list[str]:
        """What is wrong with the store itself; reads every file, which takes its time."""
        return list(store.problems())

    @routes.post("/gc", dependencies=[promoting])
    def gc() -> Freed:
        """Remove what no version uses."""
        uploads.sweep()
        return Freed(bytes=store.gc())

    return routes


async def _pieces(request: Request, silence: float) -> AsyncIterator[bytes]:
    """The body of a request as it comes. Raises TimeoutError where nothing comes for too long, ClientDisconnect."""
    pieces = request.stream()
    while True:
        with anyio.fail_after(silence):
            piece = await anext(pieces, None)
        if piece is None:
            return
        yield piece
