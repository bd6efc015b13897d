"""Read the tensors of a model folder from its safetensors files, without torch and without pickle.

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
from vertical_sdk.json_text import parse_json

__all__ = ["Tensor", "count_parameters", "read_json", "read_tensors", "weight_files", "weights_digest"]

BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16}
BITS |= {"U8": 8, "BOOL": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "C64": 64}
LONGEST_HEADER = 100_000_000
LARGEST_JSON = 256 << 20
"""Bytes of a JSON file of a base: the tokenizer of a vocabulary of 260,000 words has 35 MB."""
UNSAFE = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")


@dataclass(frozen=True)
class Tensor:
    """The place of a tensor in its file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    begin: int
    end: int


def weight_files(folder: Path) -> list[Path]:
    """List the safetensors files of a model folder.

    Raises BaseModelError if there are none, or if a file that the index names is missing.
    """
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if single.is_file():
        return [single]
    if index.is_file():
        table = read_json(index).get("weight_map")
        if not isinstance(table, dict) or not table:
            raise BaseModelError("has no weight_map: it was cut or changed. Download the model again.", where=index)
        names = sorted({str(name) for name in table.values()})
        for name in names:
            if Path(name).name != name or not (folder / name).is_file():
                raise BaseModelError(f"is missing, but {index.name} names it. Download the model again.", where=folder / name)
        return [folder / name for name in names]
    if (folder / "adapter_config.json").is_file():
        raise BaseModelError("is an adapter, not a base model. Name the base that it was trained on.", where=folder)
    unsafe = sorted(p.name for p in folder.iterdir() if p.suffix in UNSAFE)
    if unsafe:
        raise BaseModelError(
            f"has only {', '.join(unsafe[:4])}. Loading such a file can run hidden code, so only safetensors are read. Convert it "
            "on a machine that you can risk: AutoModel.from_pretrained(folder).save_pretrained(new_folder), or look for the "
            "safetensors of the model on the hub.",
            where=folder,
        )
    others = sorted(p.name for p in folder.glob("*.safetensors"))
    hint = f" It has {', '.join(others[:4])}: rename the right one to model.safetensors." if others else ""
    raise BaseModelError(f"has no model.safetensors.{hint}", where=folder)


def read_tensors(folder: Path) -> list[Tensor]:
    """List all tensors of a model folder, sorted by name. Only the headers are read.

    Raises BaseModelError that names a file that is cut, changed or not safetensors.
    """
    tensors: dict[str, Tensor] = {}
    for file in weight_files(folder):
        for tensor in _read_header(file):
            if tensor.name in tensors:
                raise BaseModelError(
                    f"contains {tensor.name}, and so does {tensors[tensor.name].file.name}. Download the model again.",
                    where=file,
                )
            tensors[tensor.name] = tensor
    return [tensors[name] for name in sorted(tensors)]


def count_parameters(tensors: list[Tensor]) -> int:
    """Count the weights. Tables of integers, such as positions, do not count."""
    return sum(math.prod(t.shape) for t in tensors if t.dtype[0] not in "IUB" or t.dtype == "BF16")


def weights_digest(tensors: list[Tensor]) -> str:
    """Compute the SHA-256 over one JSON line [name, dtype, shape, SHA-256 of the bytes] for each tensor, sorted by name.

    The digest does not depend on how the tensors are spread over files, nor on other entries of the headers.
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
    """Read a JSON file with an object.

    Raises BaseModelError.
    """
    try:
        loaded = parse_json(path.read_bytes(), largest=LARGEST_JSON)
    except FileNotFoundError:
        raise BaseModelError(f"is missing; {path.parent} is not the folder of a transformers model.", where=path) from None
    except (OSError, ValueError) as error:
        raise BaseModelError(f"cannot be read as JSON: {error}. Download the model again.", where=path) from None
    if not isinstance(loaded, dict):
        raise BaseModelError(f"must contain a JSON object, not {type(loaded).__name__}.", where=path)
    return loaded


def _read_header(file: Path) -> list[Tensor]:
    size = file.stat().st_size
    try:
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            if length > min(LONGEST_HEADER, size - 8):
                raise ValueError("its header is longer than the file")
            header = parse_json(opened.read(length), largest=LONGEST_HEADER)
        header.pop("__metadata__", None)
        tensors = [_tensor(file, name, entry, 8 + length) for name, entry in header.items()]
        ends = [8 + length, *(t.end for t in sorted(tensors, key=lambda t: (t.begin, t.end)))]
        begins = [*sorted(t.begin for t in tensors), size]
        if begins != ends:
            raise ValueError(f"its tensors need {max(ends)} bytes and the file has {size}")
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BaseModelError(f"is cut, changed or not safetensors ({error}). Download the model again.", where=file) from None
    return tensors


def _tensor(file: Path, name: str, entry: Mapping[str, Any], start: int) -> Tensor:
    dtype, shape = str(entry["dtype"]), tuple(int(n) for n in entry["shape"])
    begin, end = (int(n) for n in entry["data_offsets"])
    if min((*shape, begin)) < 0 or end < begin or (dtype in BITS and (end - begin) * 8 != math.prod(shape) * BITS[dtype]):
        raise ValueError(f"{name} has {end - begin} bytes for {dtype} of shape {list(shape)}")
    return Tensor(name, dtype, shape, file, start + begin, start + end)
