"""The hub's own client, as the store on the hub uses it: the endpoint of the environment, no telemetry, and our errors."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertical_sdk.errors import OfflineError, RegistryError, VerticalError
from vertical_sdk.registry.references import check_name
from vertical_sdk.sources.hub import hub_is_off

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = [
    "MAIN",
    "PATIENCE",
    "download",
    "file_url",
    "get",
    "hub",
    "name_of",
    "put_commit",
    "repository_of",
    "tags_of",
    "telling",
]

MAIN = "main"
MOVED_ON = {409, 412}
"""What a commit is refused with where its parent is not the newest."""
PATIENCE = 30.0
"""Seconds to wait for an answer."""


def repository_of(name: str) -> str:
    """The repository of a name, without its owner. Raises RegistryError where the hub takes no such name."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    spelled = re.sub(r"[./]|(?<=-)-", lambda found: {"/": ".", ".": "._", "-": ".-"}[found[0]], name)
    try:
        validate_repo_id(spelled)
    except HFValidationError:
        raise RegistryError(
            f"{name}: the hub has no repositories called {spelled!r}: at most 96 characters, and no '.git' at the end. "
            "Publish it under another name."
        ) from None
    return spelled


def name_of(repository: str) -> str | None:
    """The name whose repository this is; None where it is none of ours."""
    name = re.sub(r"\._|\.-|\.", lambda found: {".": "/", "._": ".", ".-": "-"}[found[0]], repository)
    try:
        return name if repository_of(check_name(name)) == repository else None
    except RegistryError:
        return None


def put_commit(repository: str, parent: str, files: Mapping[str, Path | bytes | None], message: str) -> str | None:
    """Put files, or take them away (None), in one commit on the newest one. None where `parent` is not the newest any more."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete
    from huggingface_hub.errors import HfHubHTTPError

    with telling(repository):
        gone = {path for path, source in files.items() if source is None}
        if gone:
            gone &= set(hub().list_repo_files(repository, revision=parent))
        operations: list[Any] = [CommitOperationDelete(path, is_folder=False) for path in sorted(gone)]
        operations += [CommitOperationAdd(path, source) for path, source in files.items() if source is not None]
        try:
            title = " ".join(message.split())[:200]
            made = hub().create_commit(repository, operations, commit_message=title, revision=MAIN, parent_commit=parent)
        except HfHubHTTPError as error:
            if error.response is not None and error.response.status_code in MOVED_ON:
                return None
            raise
    return made.oid


def tags_of(repository: str) -> dict[str, str]:
    """Git tag → commit."""
    with telling(repository):
        return {tag.name: tag.target_commit for tag in hub().list_repo_refs(repository).tags}


def hub() -> HfApi:
    """The hub's client, at the endpoint that the environment names now.

    It is told to say nothing of this machine and to ask for nothing besides, unless the user has set $HF_HUB_DISABLE_TELEMETRY.
    """
    from huggingface_hub import HfApi, constants

    if "HF_HUB_DISABLE_TELEMETRY" not in os.environ:
        constants.HF_HUB_DISABLE_TELEMETRY = True
    return HfApi(endpoint=_endpoint(), library_name="vertical_sdk")


def _endpoint() -> str | None:
    return (os.environ.get("HF_ENDPOINT") or "").rstrip("/") or None


def file_url(repository: str, path: str, revision: str) -> str:
    """Where a file can be had."""
    from huggingface_hub import hf_hub_url

    return hf_hub_url(repository, path, revision=revision, endpoint=_endpoint())


def _headers() -> dict[str, str]:
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    return {**build_hf_headers(library_name="vertical_sdk"), "Accept-Encoding": "identity"}


def get(url: str) -> bytes:
    """The bytes of a small file; what fails for a moment is tried again."""
    from huggingface_hub.utils import hf_raise_for_status, http_backoff  # type: ignore[attr-defined]

    answer = http_backoff("GET", url, headers=_headers(), timeout=PATIENCE)
    hf_raise_for_status(answer)
    return bytes(answer.content)


def download(repository: str, path: str, commit: str, size: int, part: Path) -> None:
    """Bring what is missing of a file behind what is there already; the caller counts and checks the bytes."""
    from huggingface_hub.file_download import http_get

    with telling(repository), part.open("ab") as target:
        try:
            http_get(
                file_url(repository, path, commit),
                target,
                resume_size=target.tell(),
                headers=_headers(),
                expected_size=size,
                displayed_filename=path,
            )
        except OSError as error:
            if type(error) is not OSError or error.errno is not None:  # anything but "not as many bytes as expected"
                raise


@contextlib.contextmanager
def telling(what: str) -> Iterator[None]:
    """Turn what the hub's client raises into our errors."""
    if hub_is_off():
        raise _unreachable(what, "HF_HUB_OFFLINE is set")
    try:
        yield
    except VerticalError:
        raise
    except Exception as error:
        told = _told(what, error)
        if told is None:
            raise
        raise told from error


def _told(what: str, error: BaseException) -> VerticalError | None:
    """Our error for one of the client's; None where it is not the hub's doing."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, RuntimeError) and error.__cause__ is not None:  # an upload in a thread of its own
        return _told(what, error.__cause__)
    said = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        code = error.response.status_code
        said = (error.server_message or said).splitlines()[0]
        if code in {401, 403}:
            return RegistryError(
                f"{what}: the hub refuses it ({code}: {said}). There is no such repository, or it is not open to this token: run "
                "'hf auth login', or set HF_TOKEN to one that may read it, and write to it to publish."
            )
        if code in {408, 429} or code >= 500:
            return _unreachable(what, f"it answers {code}: {said}")
        return RegistryError(f"{what}: the hub answers {code}: {said}.")
    if isinstance(error, OfflineModeIsEnabled | httpx2.TransportError):
        return _unreachable(what, said)
    if isinstance(error, ValueError) and "README.md" in str(error):
        wrong = " ".join(line.strip("- ") for line in str(error).splitlines()[1:])
        return RegistryError(f"{what}: the hub does not take the metadata at the head of README.md: {wrong} Mend it there.")
    return None


def _unreachable(what: str, why: str) -> OfflineError:
    return OfflineError(
        f"{what}: the hub cannot be reached ({why}). Ways out: try again with a network and without HF_HUB_OFFLINE; set HF_ENDPOINT "
        "to a mirror; or copy the registry to a folder where there is one (`vertical registry copy`), and use that."
    )
