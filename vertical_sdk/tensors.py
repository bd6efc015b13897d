"""Read safetensors files that somebody else wrote: each number in them must be finite."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertical_sdk.errors import CorruptAdapter
from vertical_sdk.json_text import parse_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["check_tensors", "load_arrays", "load_tensors"]

EXPONENTS = {"F64": ("<u8", 0x7FF << 52), "F32": ("<u4", 0xFF << 23), "F16": ("<u2", 0x1F << 10), "BF16": ("<u2", 0xFF << 7)}
"""Types of floats: how their bits are read, and the bits of the exponent, which are all set in NaN and infinity."""
WHOLE = {"BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64"}
POSITIVE = {
    "head.safetensors": {"std"},
    "probe.safetensors": {"std"},
    "records.safetensors": {"scale"},
    "series.safetensors": {"course.spread", "course.period"},
}
"""Tensors whose numbers must be larger than 0, by the file."""
AT_ONCE = 1 << 22
"""Numbers that are checked at once."""


def check_tensors(content: bytes, path: Path) -> dict[str, tuple[int, ...]]:
    """Check a safetensors file, and return the shape of each tensor.

    path  where the content is from; its name says which tensors must be larger than 0

    Raises CorruptAdapter that names the file, and the tensor with a number that is not finite or of a type that is not read.
    """
    from safetensors import deserialize

    entries = _load(content, path, lambda content: dict(deserialize(content)))  # type: ignore[no-untyped-call]
    return {name: tuple(entry["shape"]) for name, entry in entries.items()}


def load_arrays(content: bytes, path: Path) -> dict[str, NDArray[Any]]:
    """Read a safetensors file as numpy arrays; raises as `check_tensors` does."""
    from safetensors.numpy import load

    return _load(content, path, load)


def load_tensors(content: bytes, path: Path) -> dict[str, Any]:
    """Read a safetensors file as torch tensors; raises as `check_tensors` does."""
    from safetensors.torch import load

    return _load(content, path, load)


def _load(content: bytes, path: Path, load: Callable[[bytes], dict[str, Any]]) -> dict[str, Any]:
    """Load content by a function of safetensors, which checks its header, and check its numbers."""
    from safetensors import SafetensorError

    try:
        tensors = load(content)
        length = int.from_bytes(content[:8], "little")
        header = parse_json(content[8 : 8 + length])
    except (SafetensorError, OverflowError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise CorruptAdapter(
            f"this file is cut or not a safetensors file ({error}). Train or download the adapter again.", where=path
        ) from None
    for name in tensors:
        positive = name in POSITIVE.get(path.name, ())
        if problem := _find_problem(content, 8 + length, header[name], positive=positive):
            raise CorruptAdapter(f"the tensor {name!r} {problem}. Train or download the adapter again.", where=path)
    return tensors


def _find_problem(content: bytes, start: int, entry: Mapping[str, Any], *, positive: bool) -> str | None:
    """What is wrong with a tensor; None if nothing is."""
    import numpy as np

    kind, (first, end) = entry["dtype"], entry["data_offsets"]
    if kind in WHOLE:
        return None
    if kind not in EXPONENTS:
        return f"has the type {kind}, which is not read"
    read, exponent = EXPONENTS[kind]
    bits = np.frombuffer(content, dtype=read, count=(end - first) // np.dtype(read).itemsize, offset=start + first)
    for at in range(0, len(bits), AT_ONCE):
        part = bits[at : at + AT_ONCE]
        if ((part & part.dtype.type(exponent)) == exponent).any():
            return "contains a number that is not finite (NaN or infinite)"
        if positive and (part.view(f"i{part.itemsize}") <= 0).any():  # the first bit is the sign, in floats too
            return "contains a number that is not more than 0"
    return None
