"""What a run began with, in `start.json` in its folder: a stopped run is resumed only with the same rows, labels, base and parent.

The file is written before the first checkpoint and never changed, so a run that was killed at any moment either has it or has
nothing to resume from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from vertical_sdk.card import Parent, SourceRecord, library_versions
from vertical_sdk.errors import RunError
from vertical_sdk.paths import write_whole
from vertical_sdk.training.compute import Compute
from vertical_sdk.training.job import Job
from vertical_sdk.types import Example

__all__ = ["StartRecord", "check_resumed_job", "read_start", "record_start", "rows_digest", "save_start"]

START = "start.json"


class StartRecord(BaseModel):
    """What a run began with.

    sources   of the rows, with their digests, in the order of the recipe
    rows      split → number of rows and digest of everything in them, augmented copies included
    labels    in the order of the outputs; None for a task without labels
    base      digest of the base's weights
    compute   precision, library and threads; None in the runs of earlier versions
    parent    the adapter of a warm start; None without one
    versions  of the libraries
    """

    model_config = ConfigDict(frozen=True)
    sources: tuple[SourceRecord, ...]
    rows: dict[str, tuple[int, str]]
    labels: tuple[str, ...] | None
    base: str
    parent: Parent | None
    compute: Compute | None = None
    versions: dict[str, str]


def record_start(job: Job) -> StartRecord:
    """Describe what a job begins with."""
    prepared = job.prepared
    splits = {"train": prepared.train, "validation": prepared.validation, "test": prepared.test}
    return StartRecord(
        sources=prepared.sources,
        rows={split: (len(rows), rows_digest(rows)) for split, rows in splits.items()},
        labels=prepared.labels.labels if prepared.labels else None,
        base=job.base.fingerprint.weights,
        parent=job.start.parent if job.start is not None else None,
        compute=job.compute,
        versions=library_versions(),
    )


def save_start(folder: Path, record: StartRecord) -> None:
    """Write the record into the run's folder."""
    write_whole(folder / START, record.model_dump_json(indent=1) + "\n")


def read_start(folder: Path) -> StartRecord | None:
    """Read the record of a run; None for a run that was stopped before it was written.

    Raises RunError if it is missing or malformed in a run that has checkpoints: nothing shows then that its rows are the same.
    """
    try:
        return StartRecord.model_validate_json((folder / START).read_bytes())
    except FileNotFoundError:
        if not any((folder / "checkpoints").glob("checkpoint-*")):
            return None
        problem = "is missing"
    except (OSError, ValidationError):
        problem = "cannot be read"
    raise RunError(
        f"{START} {problem}, so it is unknown whether the rows are those that this run began with. Train again in another folder.",
        where=folder,
    )


def check_resumed_job(job: Job, recorded: StartRecord) -> None:
    """Check that a resumed job works on what its run began with. Other versions of the libraries are reported, not refused.

    Raises RunError, which names what differs.
    """
    now = record_start(job)
    if differences := [*_list_differences(recorded, now)]:
        raise RunError(
            f"{'; '.join(differences)}. A run is resumed only with what it began with: restore it, or train again in another folder.",
            where=job.folder,
        )
    changed = [f"{name} {now.versions.get(name)} instead of {version}" for name, version in recorded.versions.items()
               if now.versions.get(name) != version]  # fmt: skip
    if changed:
        job.progress(f"resuming with {', '.join(changed)}: the weights may differ from those of a run that never stopped", None)


def _list_differences(then: StartRecord, now: StartRecord) -> Iterator[str]:
    """A clause for each difference that would continue another training."""
    before = [source.sha256 for source in then.sources]
    after = [source.sha256 for source in now.sources]
    if before != after:
        changed = [new.source for old, new in zip(then.sources, now.sources, strict=False) if old.sha256 != new.sha256]
        names = ", ".join(changed or [source.source for source in now.sources])
        yield f"the data has changed since this run began: {names} now has other bytes"
    if then.labels != now.labels:
        yield f"the labels were {_join(then.labels)}, and are now {_join(now.labels)}"
    if then.rows != now.rows:
        parts = [
            f"{split} has {now.rows[split][0]} rows instead of {count}"
            if now.rows[split][0] != count
            else f"the rows of {split} differ"
            for split, (count, digest) in then.rows.items()
            if now.rows[split] != (count, digest)
        ]
        yield ", ".join(parts)
    if then.base != now.base:
        yield "the base model has other weights than when this run began"


def _join(labels: Sequence[str] | None) -> str:
    return "none" if labels is None else ", ".join(map(repr, labels[:10])) + (", …" if len(labels) > 10 else "")


def rows_digest(rows: Sequence[Example]) -> str:
    """Compute the SHA-256 of rows in their order, with targets, groups, times, records and numbers."""
    digest = hashlib.sha256()
    for row in rows:
        target = row.target if isinstance(row.target, str | float | int | tuple | None) else row.target.tobytes()
        turns = [(turn.role, turn.content) for turn in row.messages]
        parts = (row.id, row.text, target, turns, row.group, row.time, row.only, row.split, row.record, row.copy_of)
        digest.update(repr(parts).encode("utf-8", "surrogatepass"))
        if row.values is not None:
            digest.update(repr((row.values.shape, str(row.values.dtype))).encode() + row.values.tobytes())
    return digest.hexdigest()
