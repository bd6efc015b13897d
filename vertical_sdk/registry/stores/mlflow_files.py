"""The files of a version, as artifacts of a run on an MLflow server: adapter/… is the PEFT folder, manifest.json its manifest."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from vertical_sdk.errors import CorruptAdapter, RegistryError, RunError, SourceError
from vertical_sdk.paths import file_digest
from vertical_sdk.registry.blob_store import copy_checked, parse_manifest
from vertical_sdk.registry.store import Manifest, Stored, canonical_json
from vertical_sdk.registry.stores.mlflow_server import EXISTS, Server
from vertical_sdk.registry.stores.mlflow_tags import DIGEST

__all__ = [
    "EXPERIMENT",
    "FOLDER",
    "MANIFEST",
    "RunFetcher",
    "check_paths",
    "create_run",
    "download_manifest",
    "find_damage",
    "upload_files",
]

EXPERIMENT = "vertical_sdk"
FOLDER, MANIFEST = "adapter", "manifest.json"


def check_paths(manifest: Manifest) -> None:
    """Check that MLflow's addresses can spell the paths. Raises RegistryError if not."""
    odd = sorted(path for path in manifest if "#" in path or "%" in path)
    if odd:
        raise RegistryError(f"{odd[0]!r} cannot be a file on MLflow: its addresses cannot contain '#' or '%'. Rename the file.")


def create_run(server: Server, name: str, digest: str, who: str) -> str:
    """Create a run for an upload and return its id. Raises RunError if its experiment was deleted."""
    server.call("create_experiment", EXPERIMENT, none_for={EXISTS})
    experiment = server.call("get_experiment_by_name", EXPERIMENT)
    if experiment.lifecycle_stage != "active":
        raise RunError(
            f"{server.uri}: the experiment {EXPERIMENT!r}, which has the files, was deleted. Restore it: "
            f"mlflow experiments restore --experiment-id {experiment.experiment_id}."
        )
    run = server.call("create_run", experiment.experiment_id, tags={DIGEST: digest, "mlflow.user": who}, run_name=name)
    return str(run.info.run_id)


def upload_files(server: Server, run: str, files: Mapping[str, Path], manifest: Manifest) -> str:
    """Upload files and their manifest into a run, and return the address of the folder.

    Raises CorruptAdapter if their bytes are not those of the manifest.
    """
    address = server.call("get_run", run).info.artifact_uri
    with tempfile.TemporaryDirectory(prefix="vertical-") as folder:
        staging = Path(folder)
        for path, file in manifest.items():
            draft = staging / FOLDER / path
            draft.parent.mkdir(parents=True, exist_ok=True)
            copy_checked(files[path], draft, file.sha256)
        (staging / MANIFEST).write_bytes(canonical_json(manifest))
        server.call_artifacts(address, "log_artifacts", str(staging))
    server.call("update_run", run, status="FINISHED")
    return f"{address}/{FOLDER}"


def download_manifest(server: Server, run: str) -> bytes:
    """Download the manifest of a run, unchecked. Raises SourceError."""
    with tempfile.TemporaryDirectory(prefix="vertical-") as staging:
        server.download(run, MANIFEST, Path(staging, MANIFEST))
        return Path(staging, MANIFEST).read_bytes()


def find_damage(server: Server, run: str, digest: str) -> list[str]:
    """Download all files of a run and describe what is wrong with them, one sentence a file."""
    try:
        manifest = parse_manifest(download_manifest(server, run), digest, f"run {run}: {MANIFEST}")
    except (SourceError, CorruptAdapter) as error:
        return [str(error)]
    return [line for path, file in manifest.items() if (line := _find_file_damage(server, run, path, file))]


def _find_file_damage(server: Server, run: str, path: str, file: Stored) -> str:
    with tempfile.TemporaryDirectory(prefix="vertical-") as staging:
        draft = Path(staging, "file")
        try:
            server.download(run, f"{FOLDER}/{path}", draft)
        except SourceError as error:
            return str(error)
        if file_digest(draft) != file.sha256:
            return f"run {run}: {path} has changed: its SHA-256 is not {file.sha256[:12]}…"
    return ""


class RunFetcher:
    """Fetch files of a manifest from a run (`blob_store.Fetch`). `path` is the file that was requested last."""

    def __init__(self, server: Server, run: str, manifest: Manifest) -> None:
        self.server = server
        self.run = run
        self.paths = {file.sha256: path for path, file in manifest.items()}
        self.path = ""

    def __call__(self, file: Stored, part: Path) -> None:
        """Download a file, or the rest of it. Raises SourceError."""
        self.path = self.paths[file.sha256]
        if not (file.size and part.exists() and part.stat().st_size == file.size):
            self.server.download(self.run, f"{FOLDER}/{self.path}", part)
