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

__all__ = ["EXPERIMENT", "FOLDER", "MANIFEST", "FetchFrom", "check_paths", "damage", "manifest_bytes", "new_run", "upload"]

EXPERIMENT = "vertical_sdk"
FOLDER, MANIFEST = "adapter", "manifest.json"


def check_paths(manifest: Manifest) -> None:
    """See that MLflow's addresses can spell the paths. Raises RegistryError."""
    odd = sorted(path for path in manifest if "#" in path or "%" in path)
    if odd:
        raise RegistryError(f"{odd[0]!r} cannot be a file on MLflow, whose addresses may not have '#' or '%'. Rename it.")


def new_run(server: Server, name: str, digest: str, who: str) -> str:
    """A new run to upload into; its id. Raises RunError where its experiment was deleted."""
    server.ask("create_experiment", EXPERIMENT, none_for={EXISTS})
    experiment = server.ask("get_experiment_by_name", EXPERIMENT)
    if experiment.lifecycle_stage != "active":
        raise RunError(
            f"{server.uri}: somebody deleted the experiment {EXPERIMENT!r}, which has the files. Restore it: "
            f"mlflow experiments restore --experiment-id {experiment.experiment_id}."
        )
    made = server.ask("create_run", experiment.experiment_id, tags={DIGEST: digest, "mlflow.user": who}, run_name=name)
    return str(made.info.run_id)


def upload(server: Server, run: str, files: Mapping[str, Path], manifest: Manifest) -> str:
    """Bring files into a run, the manifest too; the address of the folder.

    Raises CorruptAdapter where their bytes are not those of the manifest.
    """
    address = server.ask("get_run", run).info.artifact_uri
    with tempfile.TemporaryDirectory(prefix="vertical-") as made:
        desk = Path(made)
        for path, file in manifest.items():
            draft = desk / FOLDER / path
            draft.parent.mkdir(parents=True, exist_ok=True)
            copy_checked(files[path], draft, file.sha256)
        (desk / MANIFEST).write_bytes(canonical_json(manifest))
        server.artifacts(address, "log_artifacts", str(desk))
    server.ask("update_run", run, status="FINISHED")
    return f"{address}/{FOLDER}"


def manifest_bytes(server: Server, run: str) -> bytes:
    """The manifest of a run as it is now, to be checked. Raises SourceError."""
    with tempfile.TemporaryDirectory(prefix="vertical-") as desk:
        server.download(run, MANIFEST, Path(desk, MANIFEST))
        return Path(desk, MANIFEST).read_bytes()


def damage(server: Server, run: str, digest: str) -> list[str]:
    """What is wrong with the files of a run, a sentence each; all are downloaded anew."""
    try:
        manifest = parse_manifest(manifest_bytes(server, run), digest, f"run {run}: {MANIFEST}")
    except (SourceError, CorruptAdapter) as error:
        return [str(error)]
    return [line for path, file in manifest.items() if (line := _file_damage(server, run, path, file))]


def _file_damage(server: Server, run: str, path: str, file: Stored) -> str:
    with tempfile.TemporaryDirectory(prefix="vertical-") as desk:
        draft = Path(desk, "file")
        try:
            server.download(run, f"{FOLDER}/{path}", draft)
        except SourceError as error:
            return str(error)
        if file_digest(draft) != file.sha256:
            return f"run {run}: {path} has changed: its SHA-256 is not {file.sha256[:12]}…"
    return ""


class FetchFrom:
    """Brings files of a manifest from a run (`blob_store.Fetch`), and remembers which was the last."""

    def __init__(self, server: Server, run: str, manifest: Manifest) -> None:
        self.server = server
        self.run = run
        self.paths = {file.sha256: path for path, file in manifest.items()}
        self.path = ""

    def __call__(self, file: Stored, part: Path) -> None:
        """Go on behind what is there. Raises SourceError."""
        self.path = self.paths[file.sha256]
        if not (file.size and part.exists() and part.stat().st_size == file.size):
            self.server.download(self.run, f"{FOLDER}/{self.path}", part)
