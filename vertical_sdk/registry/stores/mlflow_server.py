"""A connection to one MLflow server through MLflow's own client: translates its errors and reads all pages of a search."""

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
"""MLflow's error code for an alias that a registered model does not have."""
PAGE = 500
"""Results of one request."""
PATIENCE = 10.0
"""Seconds to wait for the first answer; later requests have MLflow's own timeouts and retries (MLFLOW_HTTP_REQUEST_…)."""
TELEMETRY = "MLFLOW_DISABLE_TELEMETRY"
BLOCK = 1 << 20

_importing = threading.Lock()


class Server:
    """An MLflow tracking server. The first call imports MLflow and connects.

    Credentials come from MLflow's own variables: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")

    def call(self, method: str, *arguments: Any, none_for: Collection[str] = (), **options: Any) -> Any:
        """Call a method of MLflow's client. Return None for an MLflow error whose code is in `none_for`.

        Raises RunError if the server cannot be reached, refuses the credentials or fails; RegistryError if it refuses the request.
        """
        return self._run(getattr(self.client, method), *arguments, none_for=none_for, **options)

    def call_artifacts(self, uri: str, method: str, *arguments: Any) -> Any:
        """Call a method of MLflow's artifact repository at an address. Raises what `call` raises.

        The methods for artifacts in MLflow 3.5's client use the process's tracking server, which may be a different server.
        """
        _import_mlflow()
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return self._run(lambda: getattr(get_artifact_repository(uri, tracking_uri=self.uri), method)(*arguments))

    def search(self, method: str, *arguments: Any, **options: Any) -> Iterator[Any]:
        """Yield all results of a search, page after page. Raises what `call` raises."""
        token = None
        while True:
            page = self.call(method, *arguments, max_results=PAGE, page_token=token, **options)
            yield from page
            token = page.token
            if not token:
                return

    def download(self, run: str, path: str, target: Path) -> None:
        """Download an artifact of a run into a file. If the file exists, it is the beginning, and only the rest is requested.

        Raises SourceError if the server refuses, or if the connection breaks.
        """
        _import_mlflow()
        from mlflow.exceptions import MlflowException
        from requests import RequestException

        size = target.stat().st_size if target.exists() else 0
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={size}-"} if size else {})}
        try:
            with self._get("/get-artifact", headers, path=path, run_uuid=run) as response:
                if response.status_code not in {200, 206}:
                    raise SourceError(f"{self.uri}: run {run}: {path}: {_describe_response(response)}")
                with target.open("ab" if response.status_code == 206 else "wb") as file:
                    for block in response.iter_content(BLOCK):
                        file.write(block)
        except (RequestException, MlflowException) as error:
            raise SourceError(
                f"{self.uri}: run {run}: {path}: the download was interrupted ({_find_cause(error)}). Run it again."
            ) from error

    def delete_run(self, run: Any) -> int:
        """Delete a run and its artifacts. Return the freed bytes: 0 if only MLflow's own gc may remove the artifacts."""
        uri = run.info.artifact_uri
        freed = sum(self._list_sizes(uri))
        self.call("delete_run", run.info.run_id)
        try:
            self.call_artifacts(uri, "delete_artifacts")
        except (RunError, RegistryError):
            return 0
        return freed

    def delete_folder(self, run: Any, folder: str) -> int | None:
        """Delete a folder of a run's artifacts. Return the freed bytes; None if the server does not let its clients delete."""
        uri = run.info.artifact_uri
        freed = sum(self._list_sizes(uri, folder))
        try:
            if freed:
                self.call_artifacts(uri, "delete_artifacts", folder)
        except (RunError, RegistryError):
            return None
        return freed

    def _list_sizes(self, uri: str, folder: str | None = None) -> Iterator[int]:
        for file in self.call_artifacts(uri, "list_artifacts", folder):
            if file.is_dir:
                yield from self._list_sizes(uri, file.path)
            else:
                yield file.file_size or 0

    @cached_property
    def client(self) -> Any:
        """MLflow's client. Raises MissingExtra, and RunError if no server answers."""
        client = _import_mlflow().MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        from mlflow.exceptions import MlflowException

        try:
            self._get("/health", {}, max_retries=0, timeout=PATIENCE, raise_on_status=False).close()
        except MlflowException as error:
            raise RunError(
                f"{self.uri}: no MLflow server answers ({_find_cause(error)}). Check that it is running and that the address is right."
            ) from error
        return client

    def _run(self, function: Callable[..., Any], *arguments: Any, none_for: Collection[str] = (), **options: Any) -> Any:
        from mlflow.exceptions import MlflowException
        from requests import RequestException

        try:
            return function(*arguments, **options)
        except MlflowException as error:
            if error.error_code in none_for:
                return None
            status_of: Any = error.get_http_status_code
            raise self._translate_error(status_of(), str(error)) from error
        except (RequestException, ImportError, NotImplementedError) as error:  # artifacts outside the server may need a package
            status = error.response.status_code if isinstance(error, RequestException) and error.response is not None else 500
            raise self._translate_error(status, str(error)) from error

    def _get(self, endpoint: str, headers: dict[str, str], **options: Any) -> Any:
        from mlflow.utils import credentials, rest_utils

        query = {key: options.pop(key) for key in ("path", "run_uuid") if key in options}
        typeless: tuple[Any, Any] = (credentials.get_default_host_creds, rest_utils.http_request)
        credentials_of, request = typeless
        return request(credentials_of(self.uri), endpoint, "GET", extra_headers=headers, params=query, stream=True, **options)

    def _translate_error(self, status: int, message: str) -> VerticalError:
        if status in {401, 403} or "error code 401" in message or "error code 403" in message:
            return RunError(
                f"{self.uri}: MLflow refused access ({_shorten(message)}). Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, "
                "or MLFLOW_TRACKING_TOKEN, or ask for the permission."
            )
        if 400 <= status < 500:
            return RegistryError(f"{self.uri}: MLflow refused the request: {_shorten(message)}")
        return RunError(f"{self.uri}: MLflow failed or cannot be reached: {_shorten(message)}")


def _import_mlflow() -> ModuleType:
    """Import MLflow without its telemetry, unless the environment sets the variable. Raises MissingExtra."""
    with _importing:
        chosen = TELEMETRY in os.environ
        if "mlflow" not in sys.modules and not chosen:
            os.environ[TELEMETRY] = "true"
        try:
            import mlflow
        except ImportError:
            raise MissingExtra("mlflow", "a registry at mlflow://") from None
        finally:
            if not chosen:
                os.environ.pop(TELEMETRY, None)
    return mlflow


def _describe_response(response: Any) -> str:
    """Describe the server's answer that is not the requested file."""
    try:
        return f"{response.status_code}, {_shorten(response.json()['message'])}"
    except (ValueError, KeyError, TypeError):
        return f"the server answered {response.status_code}"


def _find_cause(error: BaseException) -> str:
    """The innermost cause of a failed connection, without the address."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return _shorten(str(error)) or type(error).__name__


def _shorten(message: str) -> str:
    line = message.strip().partition("\n")[0]
    return line if len(line) <= 300 else line[:300] + "…"
