"""One MLflow server, spoken to through MLflow's own client: its errors become ours, and its pages are followed to the end."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from vertical_sdk.errors import MissingExtra, RegistryError, RunError, SourceError, VerticalError

__all__ = ["EXISTS", "MISSING", "UNKNOWN_ALIAS", "Server"]

MISSING = "RESOURCE_DOES_NOT_EXIST"
EXISTS = "RESOURCE_ALREADY_EXISTS"
UNKNOWN_ALIAS = "INVALID_PARAMETER_VALUE"
"""What MLflow says of an alias that a registered model does not have."""
PAGE = 500
"""Things that are asked for at once."""
PATIENCE = 10.0
"""Seconds for the first sign of life; later requests have MLflow's own timeouts and retries (MLFLOW_HTTP_REQUEST_…)."""
TELEMETRY = "MLFLOW_DISABLE_TELEMETRY"
BLOCK = 1 << 20

_importing = threading.Lock()


class Server:
    """An MLflow tracking server. Nothing is imported or asked before the first call.

    Who asks is what MLflow's own variables say: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")

    def ask(self, call: str, *arguments: Any, none_for: Collection[str] = (), **options: Any) -> Any:
        """What a method of MLflow's client answers, or None for the errors of MLflow that are named in `none_for`.

        Raises RunError where the server cannot be reached, refuses who asks or fails; RegistryError where it refuses the request.
        """
        return self._told(getattr(self.client, call), *arguments, none_for=none_for, **options)

    def artifacts(self, uri: str, call: str, *arguments: Any) -> Any:
        """What a method of MLflow's artifact repository at an address answers. Raises what `ask` raises.

        The client's own methods for artifacts of MLflow 3.5 go to the process's tracking server, whichever that is.
        """
        _mlflow()
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return self._told(lambda: getattr(get_artifact_repository(uri, tracking_uri=self.uri), call)(*arguments))

    def pages(self, call: str, *arguments: Any, **options: Any) -> Iterator[Any]:
        """All that a search finds, page after page. Raises what `ask` raises."""
        token = None
        while True:
            page = self.ask(call, *arguments, max_results=PAGE, page_token=token, **options)
            yield from page
            token = page.token
            if not token:
                return

    def download(self, run: str, path: str, target: Path) -> None:
        """Bring an artifact of a run into a file; what stands there already is its beginning, and only the rest is asked for.

        Raises SourceError where the server does not give it, or stops in the middle of it.
        """
        _mlflow()
        from mlflow.exceptions import MlflowException
        from requests import RequestException

        here = target.stat().st_size if target.exists() else 0
        wanted = {"Accept-Encoding": "identity", **({"Range": f"bytes={here}-"} if here else {})}
        try:
            with self._get("/get-artifact", wanted, path=path, run_uuid=run) as response:
                if response.status_code not in {200, 206}:
                    raise SourceError(f"{self.uri}: run {run}: {path}: {_said(response)}")
                with target.open("ab" if response.status_code == 206 else "wb") as file:
                    for block in response.iter_content(BLOCK):
                        file.write(block)
        except (RequestException, MlflowException) as error:
            raise SourceError(
                f"{self.uri}: run {run}: {path}: the download was cut ({_cause(error)}). Run it again."
            ) from error

    def drop(self, run: Any) -> int:
        """Delete a run and its artifacts; the bytes that were freed, none where only MLflow's own gc may remove them."""
        uri = run.info.artifact_uri
        freed = sum(self._sizes(uri))
        self.ask("delete_run", run.info.run_id)
        try:
            self.artifacts(uri, "delete_artifacts")
        except (RunError, RegistryError):
            return 0
        return freed

    def _sizes(self, uri: str, folder: str | None = None) -> Iterator[int]:
        for found in self.artifacts(uri, "list_artifacts", folder):
            if found.is_dir:
                yield from self._sizes(uri, found.path)
            else:
                yield found.file_size or 0

    @cached_property
    def client(self) -> Any:
        """MLflow's client. Raises MissingExtra, and RunError where no server answers."""
        made = _mlflow().MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        from mlflow.exceptions import MlflowException

        try:
            self._get("/health", {}, max_retries=0, timeout=PATIENCE, raise_on_status=False).close()
        except MlflowException as error:
            raise RunError(
                f"{self.uri}: no MLflow server answers ({_cause(error)}). See that it runs and that the address is right."
            ) from error
        return made

    def _told(self, function: Callable[..., Any], *arguments: Any, none_for: Collection[str] = (), **options: Any) -> Any:
        from mlflow.exceptions import MlflowException
        from requests import RequestException

        try:
            return function(*arguments, **options)
        except MlflowException as error:
            if error.error_code in none_for:
                return None
            status_of: Any = error.get_http_status_code
            raise self._ours(status_of(), str(error)) from error
        except (RequestException, ImportError, NotImplementedError) as error:  # artifacts beside the server may need a package
            status = error.response.status_code if isinstance(error, RequestException) and error.response is not None else 500
            raise self._ours(status, str(error)) from error

    def _get(self, endpoint: str, headers: dict[str, str], **options: Any) -> Any:
        from mlflow.utils import credentials, rest_utils

        asked = {key: options.pop(key) for key in ("path", "run_uuid") if key in options}
        typeless: tuple[Any, Any] = (credentials.get_default_host_creds, rest_utils.http_request)
        credentials_of, request = typeless
        return request(credentials_of(self.uri), endpoint, "GET", extra_headers=headers, params=asked, stream=True, **options)

    def _ours(self, status: int, said: str) -> VerticalError:
        if status in {401, 403} or "error code 401" in said or "error code 403" in said:
            return RunError(
                f"{self.uri}: MLflow does not let you do this. It knows you by MLFLOW_TRACKING_USERNAME and "
                f"MLFLOW_TRACKING_PASSWORD, or by MLFLOW_TRACKING_TOKEN: set them, or ask for the permission. ({_short(said)})"
            )
        if 400 <= status < 500:
            return RegistryError(f"{self.uri}: MLflow refused: {_short(said)}")
        return RunError(f"{self.uri}: MLflow failed or cannot be reached: {_short(said)}")


def _mlflow() -> ModuleType:
    """MLflow, imported without its telemetry, unless the environment says otherwise. Raises MissingExtra."""
    with _importing:
        told = TELEMETRY in os.environ
        if "mlflow" not in sys.modules and not told:
            os.environ[TELEMETRY] = "true"
        try:
            import mlflow
        except ImportError:
            raise MissingExtra("mlflow", "a registry at mlflow://") from None
        finally:
            if not told:
                os.environ.pop(TELEMETRY, None)
    return mlflow


def _said(response: Any) -> str:
    """What the server said instead of giving a file."""
    try:
        return f"{response.status_code}, {_short(response.json()['message'])}"
    except (ValueError, KeyError, TypeError):
        return f"the server answered {response.status_code}"


def _cause(error: BaseException) -> str:
    """The innermost reason of a failed connection, without the address."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return _short(str(error)) or type(error).__name__


def _short(said: str) -> str:
    line = said.strip().partition("\n")[0]
    return line if len(line) <= 300 else line[:300] + "…"
