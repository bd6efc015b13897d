"""The file of an ensemble's members: its names, numbers and trees are checked before anything is built from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from vertical_sdk.card import Calibration
from vertical_sdk.errors import CorruptAdapter, DataError
from vertical_sdk.json_text import parse_json
from vertical_sdk.recipe import Part
from vertical_sdk.tensors import load_arrays
from vertical_sdk.trees import has_trees, parse_trees, read_trees

__all__ = [
    "ENSEMBLE",
    "Arrays",
    "Members",
    "WithoutAdapter",
    "check_members",
    "decode_json",
    "encode_json",
    "read_members",
    "take_array",
]

ENSEMBLE = "ensemble.safetensors"
LARGEST_SETTINGS = 128 << 20
"""Bytes of a member's plain data: the words of a large tfidf, or the text of trees that an earlier version stored."""
MOST_WEIGHT = 5.0
"""The largest weight of a system that is ever fitted (`calibration.stacking`)."""
POSITIVE = {
    "tfidf": "idf",
    "linear": "spread",
    "boosted_forecast": "spread",
    "probe": "std",
    "pixels": "std",
    "knn": "temperature",
}
"""The array of a member whose numbers must be larger than 0."""
POOLED = ("weights", "bias")
"""The arrays of a stacker."""
ALONE = "members_"
"""Begins the names of the same arrays for the members without the adapter."""
Arrays = dict[str, NDArray[Any]]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    task: str
    parts: tuple[Part, ...]
    offsets: tuple[tuple[FiniteFloat, ...], ...]
    scores: tuple[FiniteFloat | None, ...] = ()
    own: Calibration = Calibration()
    calibration: Calibration | None = None
    """That of the members without the adapter; None in files of earlier versions, in which their weights are missing too."""


@dataclass(frozen=True, eq=False)
class WithoutAdapter:
    """How the members answer without the adapter.

    weights      (members,) fitted for them alone
    bias         (k,)
    calibration  of what they answer together
    """

    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    calibration: Calibration


@dataclass(frozen=True, eq=False)
class Members:
    """What the file contains.

    parts    the members, as the recipe names them
    arrays   the arrays of each
    offsets  how each chooses labels by itself
    weights  (1 + members,) the adapter's first
    bias     (k,)
    scores   the value of each in the recipe's main metric on the validation rows, out of fold; None if it is undefined. Empty in files
             of earlier versions
    without  None in files of earlier versions
    own      the calibration of the adapter alone, if it makes evidence of its raw outputs
    """

    task: str
    parts: tuple[Part, ...]
    arrays: tuple[Arrays, ...]
    offsets: tuple[tuple[float, ...], ...]
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    scores: tuple[float | None, ...] = ()
    without: WithoutAdapter | None = None
    own: Calibration = field(default_factory=Calibration)


def encode_json(value: Any) -> NDArray[np.uint8]:
    """Encode plain data as an array of bytes: JSON in UTF-8.

    Raises DataError for more than a reader takes.
    """
    import json

    content = json.dumps(value, ensure_ascii=False).encode()
    if len(content) > LARGEST_SETTINGS:
        raise DataError(
            f"a member's words and settings have {len(content) >> 20} MB, and at most {LARGEST_SETTINGS >> 20} MB are stored. "
            "Raise min_df of tfidf."
        )
    return np.frombuffer(content, dtype=np.uint8).copy()


def decode_json(array: NDArray[Any]) -> Any:
    """Decode the plain data that `encode_json` encoded. Raises ValueError for anything else."""
    if array.dtype != np.uint8 or array.ndim != 1:
        raise ValueError(f"settings must be bytes, and are {array.dtype} of {array.ndim} dimensions")
    return parse_json(array.tobytes(), largest=LARGEST_SETTINGS)


def take_array(arrays: Mapping[str, NDArray[Any]], name: str, *shape: int | None, least: float | None = None) -> NDArray[Any]:
    """Take an array of finite floats from the arrays of a stored baseline.

    shape  its size in each dimension; None: any
    least  no number may be smaller

    Raises KeyError for a missing array, ValueError that names it for another shape, type or range.
    """
    values = arrays[name]
    fits = values.ndim == len(shape) and all(size in {None, own} for size, own in zip(shape, values.shape, strict=True))
    if values.dtype.kind != "f" or not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} must be floats of the shape ({wanted}), and is {values.dtype} {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} contains a number that is not finite")
    if values.dtype == np.float64 and (np.abs(values) > 1e100).any():  # the sum of their squares could be infinite
        raise ValueError(f"{name} contains a number beyond 1e100")
    if least is not None and (values < least).any():
        raise ValueError(f"{name} contains a number below {least:g}")
    return values


def read_members(content: bytes, path: Path, named: Sequence[Part]) -> Members:
    """Read the members of an adapter, which must be those that its recipe names.

    content, path  of their file

    Raises CorruptAdapter that names the file, and what in it is missing, not named, not finite or out of range.
    """
    tensors = load_arrays(content, path)
    try:
        return _read(tensors, tuple(named))
    except ValidationError as error:
        first = error.errors()[0]
        problem = f"settings.{'.'.join(map(str, first['loc']))}: {first['msg']}"
    except (KeyError, TypeError, ValueError) as error:
        problem = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
    raise CorruptAdapter(
        f"The members of the ensemble cannot be read: {problem}. Train or download the adapter again.", where=path
    )


def _read(tensors: Arrays, named: tuple[Part, ...]) -> Members:
    settings = _Settings.model_validate(decode_json(tensors["settings"]))
    if settings.parts != named:
        stored, wanted = (", ".join(part.use for part in parts) or "none" for parts in (settings.parts, named))
        raise ValueError(
            f"the file has the members {stored}, and the card's recipe names {wanted}, with other options or in another order"
        )
    prefixes = {f"{number}." for number in range(len(named))}
    for name in tensors:
        if name not in {"settings", *POOLED, *(ALONE + key for key in POOLED)} and name[: name.find(".") + 1] not in prefixes:
            raise ValueError(f"{name} belongs to no member that the card's recipe names")
    weights, bias = _read_weights(tensors, "", len(named) + 1)
    if len(settings.offsets) != len(named) or len(settings.scores) not in {0, len(named)}:
        raise ValueError(
            f"there are {len(settings.offsets)} offsets and {len(settings.scores)} scores for {len(named)} members"
        )
    without = None
    if settings.calibration is not None:
        without = WithoutAdapter(*_read_weights(tensors, ALONE, len(named)), settings.calibration)
        if len(without.bias) != len(bias):
            raise ValueError(f"{ALONE}bias has {len(without.bias)} numbers, and bias {len(bias)}")
    arrays = tuple(_select(tensors, number) for number in range(len(named)))
    for number, (part, one) in enumerate(zip(named, arrays, strict=True)):
        positive = POSITIVE.get(part.use, "")
        if positive in one and not (one[positive] > 0).all():
            raise ValueError(f"{number}.{positive} contains a number that is not more than 0")
        _check_trees(one)
    return Members(
        settings.task, settings.parts, arrays, settings.offsets, weights, bias, settings.scores, without, settings.own
    )


def _read_weights(tensors: Arrays, prefix: str, systems: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Read the weights of a number of systems, and their biases. Raises KeyError or ValueError."""
    weights, bias = (tensors[prefix + key] for key in POOLED)
    for name, values in ((f"{prefix}weights", weights), (f"{prefix}bias", bias)):
        if values.dtype != np.float64 or values.ndim != 1:
            raise ValueError(f"{name} must be float64 of one dimension, and is {values.dtype} of {values.ndim}")
    if len(weights) != systems:
        raise ValueError(f"{prefix}weights has {len(weights)} numbers, and {systems} are needed")
    if (weights < 0).any() or (weights > MOST_WEIGHT + 1e-9).any() or not weights.any():
        raise ValueError(f"{prefix}weights must be from 0 to {MOST_WEIGHT:g} and not all 0, and are {weights.tolist()}")
    return weights, bias


def _select(tensors: Arrays, number: int) -> Arrays:
    """Select the arrays of one member."""
    prefix = f"{number}."
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _check_trees(arrays: Arrays) -> None:
    """Check the trees of a member, which earlier versions stored as LightGBM's text. Raises ValueError."""
    if has_trees(arrays):
        read_trees(arrays)
        return
    settings = decode_json(arrays["settings"]) if "settings" in arrays else None
    if isinstance(settings, dict):
        texts = settings.get("models", [settings.get("model", "")])
        for text in texts if isinstance(texts, list) else []:
            if text:
                parse_trees(str(text))


def check_members(folder: Path, recipe: object, *, has_file: bool) -> Sequence[Part]:
    """Check that an adapter has exactly the members that its recipe names; return their names.

    recipe    the recipe in its card
    has_file  whether the card lists the members' file

    Raises CorruptAdapter.
    """
    settings = recipe.get("ensemble") if isinstance(recipe, dict) else None
    try:
        named = [Part.model_validate(part) for part in settings or ()]
    except (TypeError, ValidationError):
        raise CorruptAdapter(
            "the recipe in the card names members in a form that is not read: ensemble.", where=folder
        ) from None
    if has_file != bool(named):
        problem = (
            f"has {ENSEMBLE}, but the recipe in its card names no members"
            if has_file
            else f"has no {ENSEMBLE}, but the recipe in its card names members ({', '.join(part.use for part in named)})"
        )
        raise CorruptAdapter(f"the adapter {problem}. Train or download it again.", where=folder)
    return named
