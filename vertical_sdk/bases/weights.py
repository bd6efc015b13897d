"""The tensors of a model folder, read straight from its safetensors files: no torch, no pickle.

The format (https://huggingface.co/docs/safetensors): 8 bytes with the header's length N, little-endian; N bytes of JSON that
give each tensor's dtype, shape and [begin, end) among the bytes that follow.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import struct
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vertical_sdk.errors import BaseModelError

__all__ = ["Tensor", "count_parameters", "read_json", "read_tensors", "weight_files", "weights_digest"]

BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16}
BITS |= {"U8": 8, "BOOL": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "C64": 64}
LONGEST_HEADER = 100_000_000
UNSAFE = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")


@dataclass(frozen=True)
class Tensor:
    """Where a tensor stands in its file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    begin: int
    end: int


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder, whether one or many.

    Raises BaseModelError where there are none, or where one that the index names is missing.
    """
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if single.is_file():
        return [single]
    if index.is_file():
        table = read_json(index).get("weight_map")
        if not isinstance(table, dict) or not table:
            raise BaseModelError(f"{index}: has no weight_map; it was cut or changed. Take the model anew.")
        names = sorted({str(name) for name in table.values()})
        for name in names:
            if Path(name).name != name or not (folder / name).is_file():
                raise BaseModelError(f"{folder / name}: is missing, though {index.name} names it. Take the model anew.")
        return [folder / name for name in names]
    if (folder / "adapter_config.json").is_file():
        raise BaseModelError(f"{folder}: is an adapter, not a base model. Name the base that it was made for.")
    unsafe = sorted(p.name for p in folder.iterdir() if p.suffix in UNSAFE)
    if unsafe:
        raise BaseModelError(
            f"{folder}: has only {', '.join(unsafe[:4])}, and loading such a file can run code that is hidden in it; only "
            "safetensors are read. Convert it on a machine where you trust it: "
            "AutoModel.from_pretrained(folder).save_pretrained(new_folder), or look for the model's safetensors on the hub."
        )
    others = sorted(p.name for p in folder.glob("*.safetensors"))
    there = f" It has {', '.join(others[:4])}; rename the one you mean to model.safetensors." if others else ""
    raise BaseModelError(f"{folder}: has no model.safetensors.{there}")


def read_tensors(folder: Path) -> list[Tensor]:
    """All tensors of a model folder, sorted by name; reads the headers alone.

    Raises BaseModelError that names the file which is cut, changed or not safetensors.
    """
    tensors: dict[str, Tensor] = {}
    for file in weight_files(folder):
        for tensor in _read_header(file):
            if tensor.name in tensors:
                raise BaseModelError(f"{file}: holds {tensor.name}, which {tensors[tensor.name].file.name} has as well.")
            tensors[tensor.name] = tensor
    return [tensors[name] for name in sorted(tensors)]


def count_parameters(tensors: list[Tensor]) -> int:
    """Numbers that are weights; tables of integers, such as positions, are not."""
    return sum(math.prod(t.shape) for t in tensors if t.dtype[0] not in "IUB" or t.dtype == "BF16")


def weights_digest(tensors: list[Tensor]) -> str:
    """SHA-256 over one JSON line [name, dtype, shape, SHA-256 of the bytes] a tensor, sorted by name.

    However the tensors are spread over files, and whatever else stands in the headers, the digest is the same.
    """
    views: dict[Path, memoryview] = {}
    for file in {t.file for t in tensors}:
        with file.open("rb") as opened:
            views[file] = memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
    with ThreadPoolExecutor(4) as pool:  # hashlib lets other threads run
        digests = list(pool.map(lambda t: hashlib.sha256(views[t.file][t.begin : t.end]).hexdigest(), tensors))
    lines = (json.dumps([t.name, t.dtype, list(t.shape), d]) + "\n" for t, d in zip(tensors, digests, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises BaseModelError.
    """
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BaseModelError(f"{path}: is missing; {path.parent} is not the folder of a transformers model.") from None
    except (OSError, ValueError) as error:
        raise BaseModelError(f"{path}: cannot be read as JSON: {error}. Take the model anew.") from None
    if not isinstance(loaded, dict):
        raise BaseModelError(f"{path}: must hold a JSON object, not {type(loaded).__name__}.")
    return loaded


def _read_header(file: Path) -> list[Tensor]:
    size = file.stat().st_size
    try:
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            if length > min(LONGEST_HEADER, size - 8):
                raise ValueError("its header is longer than the file")
            header = json.loads(opened.read(length))
        header.pop("__metadata__", None)
        tensors = [_tensor(file, name, entry, 8 + length) for name, entry in header.items()]
        ends = [8 + length, *(t.end for t in sorted(tensors, key=lambda t: (t.begin, t.end)))]
        begins = [*sorted(t.begin for t in tensors), size]
        if begins != ends:
            raise ValueError(f"its tensors need {max(ends)} bytes and the file has {size}")
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BaseModelError(f"{file}: is cut, changed or not safetensors ({error}). Take the model anew.") from None
    return tensors


def _tensor(file: Path, name: str, entry: Mapping[str, Any], start: int) -> Tensor:
    dtype, shape = str(entry["dtype"]), tuple(int(n) for n in entry["shape"])
    begin, end = (int(n) for n in entry["data_offsets"])
    if min((*shape, begin)) < 0 or end < begin or (dtype in BITS and (end - begin) * 8 != math.prod(shape) * BITS[dtype]):
        raise ValueError(f"{name} has {end - begin} bytes for {dtype} of shape {list(shape)}")
    return Tensor(name, dtype, shape, file, start + begin, start + end)
