"""The record index: which records an adapter was trained on, stored so that a known id can be looked up but no id can be read.

`seen.safetensors` in the adapter's folder contains a random salt and, separately for training, validation and test, the sorted first
64 bits of HMAC-SHA256(salt, kind + "\\0" + id) of each record's id and of each group, such as a patient. Rows that are known only by
their position in a file have no id, and blocks of time are not groups of records; without ids and groups there is no file.

The index is pseudonymous, not anonymous. Its purpose is to test whether an adapter saw a record, so anyone with the file can test any
id, and can try all ids if there are few, such as numbers of seven digits. The salt only prevents joining the indices of two adapters,
and precomputed tables. A recipe with `data.remember_ids: false` leaves it out.
"""

from __future__ import annotations

import contextlib
import hmac
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.cells import normalize_key
from vertical_sdk.errors import CorruptAdapter
from vertical_sdk.paths import write_whole
from vertical_sdk.types import Example, Split

__all__ = ["KINDS", "RECORD_INDEX", "SPLITS", "Kind", "count_records", "find_known", "find_record", "write_record_index"]

RECORD_INDEX = "seen.safetensors"
Kind: TypeAlias = Literal["id", "group"]
KINDS: tuple[Kind, ...] = ("id", "group")
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
SALT = 16
"""Bytes."""


def write_record_index(folder: Path, parts: Mapping[Split, Sequence[Example]], *, groups: bool = True) -> bool:
    """Write the record index of some rows with a new salt; return False if they have no ids and groups, and nothing was written.

    groups  whether the rows' groups are groups of records; the groups of series are blocks of time
    """
    from safetensors.numpy import save

    salt = os.urandom(SALT)
    tensors: dict[str, NDArray[np.generic]] = {}
    for split, rows in parts.items():
        named: dict[Kind, set[str]] = {
            "id": {key for row in rows if (key := normalize_key(row.record_id, ())) is not None},
            "group": {key for row in rows if groups and (key := normalize_key(row.group, ())) is not None},
        }
        for kind, names in named.items():
            if names:
                tensors[f"{split}.{kind}"] = np.sort(_hashes(salt, kind, names))
    if tensors:
        write_whole(folder / RECORD_INDEX, save({"salt": np.frombuffer(salt, dtype=np.uint8), **tensors}))
    return bool(tensors)


def find_record(folder: Path, name: str, kind: Kind) -> tuple[Split, ...]:
    """Find the parts of the data in which an adapter saw a record or a group; empty if it did not, or has no index.

    Two names share their 64 bits with probability 2^-64, so a false positive is not expected. Raises CorruptAdapter.
    """
    splits: list[Split] = []
    if not (folder / RECORD_INDEX).is_file():
        return ()
    with _open_index(folder) as tensors:
        known = set(tensors.keys())
        names = {name.strip(), normalize_key(name, ()) or ""}  # version 0.1 stored names as the source wrote them
        wanted = _hashes(tensors.get_tensor("salt").tobytes(), kind, names)
        searched = [split for split in SPLITS if f"{split}.{kind}" in known]
        splits += [split for split in searched if np.isin(wanted, tensors.get_tensor(f"{split}.{kind}")).any()]
    return tuple(splits)


def find_known(folder: Path, ids: Iterable[str]) -> set[str]:
    """Find those of many ids that an adapter saw in training or validation; empty if it has no index. Raises CorruptAdapter."""
    names = sorted({name.strip() for name in ids})
    if not names or not (folder / RECORD_INDEX).is_file():
        return set()
    with _open_index(folder) as tensors:
        known = set(tensors.keys())
        wanted = _hashes(tensors.get_tensor("salt").tobytes(), "id", names)
        parts = [tensors.get_tensor(f"{split}.id") for split in ("train", "validation") if f"{split}.id" in known]
    return {name for name, seen in zip(names, np.isin(wanted, np.concatenate(parts)), strict=True) if seen} if parts else set()


def count_records(folder: Path) -> dict[str, dict[str, int]]:
    """Count the ids and groups in an adapter's index: part → kind → number; empty if it has no index. Raises CorruptAdapter."""
    if not (folder / RECORD_INDEX).is_file():
        return {}
    with _open_index(folder) as tensors:
        sizes = {key: tensors.get_slice(key).get_shape()[0] for key in tensors.keys()}  # noqa: SIM118  (not a dict)
    counts: dict[str, dict[str, int]] = {
        split: {kind: sizes[f"{split}.{kind}"] for kind in KINDS if f"{split}.{kind}" in sizes} for split in SPLITS
    }
    return {split: numbers for split, numbers in counts.items() if numbers}


@contextlib.contextmanager
def _open_index(folder: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / RECORD_INDEX, framework="np") as tensors:
            yield tensors
    except (SafetensorError, OSError) as error:
        message = f"{RECORD_INDEX} cannot be read ({error}). Download or train the adapter again."
        raise CorruptAdapter(message, where=folder) from None


def _hashes(salt: bytes, kind: Kind, names: Iterable[str]) -> NDArray[np.uint64]:
    """Compute the first 64 bits of each HMAC; shape (names,)."""
    digests = b"".join(hmac.digest(salt, f"{kind}\0{name}".encode(), "sha256")[:8] for name in names)
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)
