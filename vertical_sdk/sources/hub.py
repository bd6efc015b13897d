"""Data sets of the Hugging Face hub. The cache holds each split as one parquet file, under its commit."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vertical_sdk.errors import OfflineError, SourceError
from vertical_sdk.json_text import parse_json
from vertical_sdk.paths import cache_home, write_whole
from vertical_sdk.sources.fetched import Fetched, check_digest, content_digest, pick_file
from vertical_sdk.sources.keep import FILES, build_folder, finish_folder, read_record
from vertical_sdk.types import Progress, silent

__all__ = ["fetch", "hub_cache", "hub_is_off", "keep_splits", "parse"]

ADDRESS = re.compile(r"hf:(?P<name>[\w.-]+(?:/[\w.-]+)?)(?::(?P<config>[\w.+-]+))?(?:@(?P<revision>[\w./-]+))?", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")


def parse(source: str) -> tuple[str, str | None, str | None]:
    """Split `hf:OWNER/NAME[:CONFIG][@REVISION]` into name, configuration and revision.

    Raises SourceError.
    """
    match = ADDRESS.fullmatch(source)
    if not match or ".." in source:
        raise SourceError("must be hf:OWNER/NAME, hf:OWNER/NAME:CONFIG or hf:OWNER/NAME@REVISION.", where=source)
    return match["name"], match["config"], match["revision"]


def hub_is_off() -> bool:
    """Whether the environment forbids requests to the hub."""
    return any(
        os.environ.get(name, "").upper() in {"1", "ON", "YES", "TRUE"} for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    )


def hub_cache(name: str | None) -> Path:
    """The folder of a model in the hub's own cache, or that cache."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE) / ("models--" + name.replace("/", "--") if name else "")


def fetch(
    source: str,
    *,
    file: str | None = None,
    sha256: str | None = None,
    revision: str | None = None,
    progress: Progress = silent,
) -> Fetched:
    """Fetch the splits of a data set as `train.parquet`, `test.parquet`, …; `file` selects one of them.

    A commit in the cache is used without a request to the hub. If the hub cannot be reached, the last cached commit of a branch
    is used.

    Raises SourceError, OfflineError, DigestMismatch, RunError.
    """
    name, config, at = parse(source)
    if revision is not None and at is not None and revision != at:
        raise SourceError(f"the revision is given twice: {at} and {revision}. Leave one out.", where=source)
    wanted = revision or at or "main"
    home = cache_home() / "hub" / name.replace("/", "--")
    commit, license_name = _resolve_revision(source, name, wanted, home)
    target = home / f"{commit}-{config or 'default'}"
    record = read_record(target)
    if record is None:
        with build_folder(home, target.name, progress) as temporary:
            record = read_record(target)
            if record is None:
                progress(f"downloading {name}", None)
                splits = _load_splits(source, name, config, commit, temporary / "scratch")
                record = keep_splits(splits, temporary / "built", target, {"commit": commit, "license": license_name})
    path = pick_file(target / FILES, file, source)
    digest = content_digest(path)
    check_digest(source, digest, sha256)
    return Fetched(path, source, digest, record["license"], commit)


def keep_splits(splits: Mapping[str, Any], built: Path, target: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Write each split (a datasets.Dataset) as parquet below `built`, and move all of them to `target` at once."""
    (built / FILES).mkdir(parents=True)
    for split, rows in splits.items():
        rows.to_parquet(built / FILES / f"{split}.parquet")
    return finish_folder(built, target, record)


def _resolve_revision(source: str, name: str, wanted: str, home: Path) -> tuple[str, str | None]:
    """Find the current commit of a revision, and the licence; the last known ones if the hub cannot be reached."""
    known_at = home / "revisions.json"
    try:
        read = parse_json(known_at.read_bytes())
        known = {at: (str(entry[0]), entry[1]) for at, entry in read.items() if len(entry) == 2}
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        known = {}
    if wanted in known and (COMMIT.fullmatch(wanted) or hub_is_off()):
        return known[wanted][0], known[wanted][1]
    if hub_is_off():
        raise _offline_error(source, "HF_HUB_OFFLINE is set")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        info = HfApi(endpoint=os.environ.get("HF_ENDPOINT")).dataset_info(name, revision=wanted, timeout=30)
    except RevisionNotFoundError:
        raise SourceError(f"the data set has no revision {wanted!r}.", where=source) from None
    except RepositoryNotFoundError:
        raise SourceError(
            "the hub has no such data set, or it needs a login (run 'hf auth login', or set HF_TOKEN).", where=source
        ) from None
    except Exception as error:
        refused = isinstance(error, HfHubHTTPError) and error.response is not None and error.response.status_code < 500
        if wanted in known and not refused:
            return known[wanted][0], known[wanted][1]
        raise _offline_error(source, _first_line(error)) from error
    licence = getattr(info.card_data, "license", None)
    entry = [str(info.sha), licence if isinstance(licence, str) else None]
    write_whole(known_at, json.dumps({**known, wanted: entry, str(info.sha): entry}, indent=1) + "\n")
    return entry[0] or wanted, entry[1]


def _load_splits(source: str, name: str, config: str | None, commit: str, scratch: Path) -> Mapping[str, Any]:
    import datasets

    bars = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        splits: Mapping[str, Any] = datasets.load_dataset(name, config, revision=commit, cache_dir=str(scratch))
    except (ConnectionError, TimeoutError) as error:
        raise _offline_error(source, _first_line(error)) from error
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise SourceError(f"the data set cannot be loaded: {_first_line(error)}", where=source) from error
    finally:
        if bars:
            datasets.enable_progress_bars()
    return splits


def _offline_error(source: str, why: str) -> OfflineError:
    return OfflineError(
        f"the hub cannot be reached ({why}). Copy {cache_home() / 'hub'} from a machine that has it; or set HF_ENDPOINT to a "
        "mirror; or download the data elsewhere and name the file or folder as the source.",
        where=source,
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
