"""The hub's own client for the store on the hub: with the endpoint of the environment, without telemetry, with our errors."""

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
    "list_tags",
    "open_client",
    "parse_repository",
    "put_commit",
    "read_file",
    "spell_repository",
    "translate_errors",
]

MAIN = "main"
STALE_PARENT = {409, 412}
"""Status codes for a commit whose parent is not the newest commit."""
PATIENCE = 30.0
"""Seconds to wait for an answer."""


def spell_repository(name: str) -> str:
    """Spell a name as its repository, without the owner. Raises RegistryError if the hub does not allow that repository."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    repository = re.sub(r"[./]|(?<=-)-", lambda match: {"/": ".", ".": "._", "-": ".-"}[match[0]], name)
    try:
        validate_repo_id(repository)
    except HFValidationError:
        raise RegistryError(
            f"{name}: the hub does not allow a repository called {repository!r}: it has at most 96 characters and does not end in '.git'. "
            "Publish the adapter under another name."
        ) from None
    return repository


def parse_repository(repository: str) -> str | None:
    """Read the name from its repository. None means that the repository does not spell a name."""
    name = re.sub(r"\._|\.-|\.", lambda match: {".": "/", "._": ".", ".-": "-"}[match[0]], repository)
    try:
        return name if spell_repository(check_name(name)) == repository else None
    except RegistryError:
        return None


def put_commit(repository: str, parent: str, files: Mapping[str, Path | bytes | None], message: str) -> str | None:
    """Put or delete (None) files in one commit on top of `parent`, and return its hash. None means that `parent` is not the newest."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete
    from huggingface_hub.errors import HfHubHTTPError

    with translate_errors(repository):
        deleted = {path for path, source in files.items() if source is None}
        if deleted:
            deleted &= set(open_client().list_repo_files(repository, revision=parent))
        operations: list[Any] = [CommitOperationDelete(path, is_folder=False) for path in sorted(deleted)]
        operations += [CommitOperationAdd(path, source) for path, source in files.items() if source is not None]
        try:
            title = " ".join(message.split())[:200]
            commit = open_client().create_commit(
                repository, operations, commit_message=title, revision=MAIN, parent_commit=parent
            )
        except HfHubHTTPError as error:
            if error.response is not None and error.response.status_code in STALE_PARENT:
                return None
            raise
    return commit.oid


def list_tags(repository: str) -> dict[str, str]:
    """List git tag → commit."""
    with translate_errors(repository):
        return {tag.name: tag.target_commit for tag in open_client().list_repo_refs(repository).tags}


def open_client() -> HfApi:
    """Open the hub's client at the endpoint in the environment.

    Turns its telemetry off, so it sends nothing about this machine, unless the user has set $HF_HUB_DISABLE_TELEMETRY.
    """
    from huggingface_hub import HfApi, constants

    if "HF_HUB_DISABLE_TELEMETRY" not in os.environ:
        constants.HF_HUB_DISABLE_TELEMETRY = True
    return HfApi(endpoint=_endpoint(), library_name="vertical_sdk")


def _endpoint() -> str | None:
    return (os.environ.get("HF_ENDPOINT") or "").rstrip("/") or None


def file_url(repository: str, path: str, revision: str) -> str:
    """The address of a file."""
    from huggingface_hub import hf_hub_url

    return hf_hub_url(repository, path, revision=revision, endpoint=_endpoint())


def _headers() -> dict[str, str]:
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    return {**build_hf_headers(library_name="vertical_sdk"), "Accept-Encoding": "identity"}


def read_file(url: str) -> bytes:
    """Read a small file, and retry after a temporary failure."""
    from huggingface_hub.utils import hf_raise_for_status, http_backoff  # type: ignore[attr-defined]

    response = http_backoff("GET", url, headers=_headers(), timeout=PATIENCE)
    hf_raise_for_status(response)
    return bytes(response.content)


def download(repository: str, path: str, commit: str, size: int, part: Path) -> None:
    """Download the rest of a file and append it to `part`. The caller checks size and digest."""
    from huggingface_hub.file_download import http_get

    with translate_errors(repository), part.open("ab") as target:
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
            if type(error) is not OSError or error.errno is not None:  # every error except "not as many bytes as expected"
                raise


@contextlib.contextmanager
def translate_errors(where: str) -> Iterator[None]:
    """Turn the errors of the hub's client into ours. `where` is the repository or the registry's address."""
    if hub_is_off():
        raise _unreachable(where, "HF_HUB_OFFLINE is set")
    try:
        yield
    except VerticalError:
        raise
    except Exception as error:
        translated = _translate_error(where, error)
        if translated is None:
            raise
        raise translated from error


def _translate_error(where: str, error: BaseException) -> VerticalError | None:
    """Translate an error of the hub's client into ours. None means that the hub did not cause it."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, RuntimeError) and error.__cause__ is not None:  # raised by an upload thread
        return _translate_error(where, error.__cause__)
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        return _translate_status(where, error.response.status_code, (error.server_message or reason).splitlines()[0])
    if isinstance(error, OfflineModeIsEnabled | httpx2.TransportError):
        return _unreachable(where, reason)
    if isinstance(error, ValueError) and "README.md" in str(error):
        wrong = " ".join(line.strip("- ") for line in str(error).splitlines()[1:])
        return RegistryError(f"{where}: the hub refuses the metadata at the head of README.md: {wrong} Correct them there.")
    return None


def _translate_status(where: str, status: int, reason: str) -> VerticalError:
    if status in {401, 403}:
        return RegistryError(
            f"{where}: the hub refused access ({status}: {reason}). The repository does not exist, or this token has no access to it: "
            "run 'hf auth login', or set HF_TOKEN to a token with the right to read it, and to write to it if you publish."
        )
    if status in {408, 429} or status >= 500:
        return _unreachable(where, f"it answers {status}: {reason}")
    return RegistryError(f"{where}: the hub refused the request ({status}): {reason}.")


def _unreachable(where: str, reason: str) -> OfflineError:
    return OfflineError(
        f"{where}: the hub cannot be reached ({reason}). Try again with a network and without HF_HUB_OFFLINE; or set HF_ENDPOINT "
        "to a mirror; or copy the registry to a folder on a machine with a network (`vertical registry copy`), and use that folder."
    )
