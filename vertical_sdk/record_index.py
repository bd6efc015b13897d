"""Which records an adapter was made from, kept so that a record that is known can be looked up and none can be read off.

`seen.safetensors` in the adapter's folder holds a random salt and, for training, validation and test apart, the sorted first 64 bits of
HMAC-SHA256(salt, kind + "\\0" + id) of each record's own id and of each group, such as a patient. Rows that are known only by their place
in a file have no id, and blocks of time are no groups of records; without any of either there is no file.

This is pseudonymous, not anonymous. To tell whether an adapter saw a record is what it is for, so whoever holds the file can test any id,
and can go through all ids where there are few, such as numbers of seven digits. The salt only keeps the indices of two adapters from
being joined, and from being prepared for. A recipe with `data.remember_ids: false` leaves it out.
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

from vertical_sdk.errors import CorruptAdapter
from vertical_sdk.paths import write_whole
from vertical_sdk.types import Example, Split

__all__ = ["KINDS", "SEEN", "SPLITS", "Kind", "count_records", "find_record", "write_record_index"]

SEEN = "seen.safetensors"
Kind: TypeAlias = Literal["id", "group"]
KINDS: tuple[Kind, ...] = ("id", "group")
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
SALT = 16
"""Bytes."""


def write_record_index(folder: Path, parts: Mapping[Split, Sequence[Example]], *, groups: bool = True) -> bool:
    """Write the index of some rows, with a fresh salt; whether there was anything to write.

    groups  whether the rows' groups are groups of records; those of series are blocks of time
    """
    from safetensors.numpy import save

    salt = os.urandom(SALT)
    tensors: dict[str, NDArray[np.generic]] = {}
    for split, rows in parts.items():
        named: dict[Kind, set[str]] = {
            "id": {row.record_id.strip() for row in rows if row.record_id is not None},
            "group": {row.group.strip() for row in rows if groups and row.group is not None},
        }
        for kind, names in named.items():
            if names:
                tensors[f"{split}.{kind}"] = np.sort(_hashes(salt, kind, names))
    if tensors:
        write_whole(folder / SEEN, save({"salt": np.frombuffer(salt, dtype=np.uint8), **tensors}))
    return bool(tensors)


def find_record(folder: Path, name: str, kind: Kind) -> tuple[Split, ...]:
    """The parts in which an adapter saw a record or a group; none where it did not, or keeps no index.

    Two names have the same 64 bits once in 2^64 times, so that a wrong yes is not to be expected. Raises CorruptAdapter.
    """
    found: list[Split] = []
    if not (folder / SEEN).is_file():
        return ()
    with _opened(folder) as tensors:
        known = set(tensors.keys())
        wanted = _hashes(tensors.get_tensor("salt").tobytes(), kind, [name.strip()])[0]
        for split in SPLITS:
            if f"{split}.{kind}" in known:
                hashes = tensors.get_tensor(f"{split}.{kind}")
                place = int(np.searchsorted(hashes, wanted))
                if place < len(hashes) and hashes[place] == wanted:
                    found.append(split)
    return tuple(found)


def count_records(folder: Path) -> dict[str, dict[str, int]]:
    """How many ids and groups an adapter's index has: part → kind → number; empty where it keeps none. Raises CorruptAdapter."""
    if not (folder / SEEN).is_file():
        return {}
    with _opened(folder) as tensors:
        sizes = {key: tensors.get_slice(key).get_shape()[0] for key in tensors.keys()}  # noqa: SIM118  (no dict)
    told: dict[str, dict[str, int]] = {
        split: {kind: sizes[f"{split}.{kind}"] for kind in KINDS if f"{split}.{kind}" in sizes} for split in SPLITS
    }
    return {split: counts for split, counts in told.items() if counts}


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / SEEN, framework="np") as tensors:
            yield tensors
    except (SafetensorError, OSError) as error:
        raise CorruptAdapter(f"{folder / SEEN}: cannot be read ({error}). Take the adapter anew.") from None


def _hashes(salt: bytes, kind: Kind, names: Iterable[str]) -> NDArray[np.uint64]:
    """(names,) the first 64 bits of each HMAC."""
    digests = b"".join(hmac.digest(salt, f"{kind}\0{name}".encode(), "sha256")[:8] for name in names)
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)
