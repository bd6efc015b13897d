"""What a fitted baseline offers, and how it is kept as arrays: no pickle, nothing that runs when it is read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.catalog import baselines
from vertical_sdk.errors import RecipeError
from vertical_sdk.outputs import Outputs
from vertical_sdk.types import Example

__all__ = ["Arrays", "Fitted", "as_bytes", "from_bytes", "pack", "unpack"]

Arrays = dict[str, NDArray[Any]]


class Fitted(Protocol):
    """A baseline that has learned what it will."""

    def ask(self, rows: Sequence[Example], base: Any) -> Outputs:
        """What it says about rows; `base` is the general model (`General`), for those that need it."""

    def arrays(self) -> Arrays:
        """All that it is, as arrays."""

    @classmethod
    def of(cls, arrays: Arrays) -> Fitted:
        """The same again."""


def as_bytes(value: Any) -> NDArray[np.uint8]:
    """Plain data as an array of bytes: JSON in UTF-8."""
    return np.frombuffer(json.dumps(value, ensure_ascii=False).encode(), dtype=np.uint8).copy()


def from_bytes(array: NDArray[Any]) -> Any:
    """What `as_bytes` was given."""
    return json.loads(array.astype(np.uint8).tobytes())


def pack(name: str, fitted: Fitted, where: str) -> Arrays:
    """The arrays of a fitted baseline.

    Raises RecipeError for a baseline without `saves_as`: it can be compared with, but cannot be a member of an ensemble.
    """
    if baselines.part(name).saves_as is None:
        storable = [other for other in baselines.names() if baselines.part(other).saves_as is not None]
        raise RecipeError(
            f"{name} cannot be stored, so it cannot be a member of an ensemble. Use one of: {', '.join(storable)}.", where=where
        )
    return fitted.arrays()


def unpack(name: str, arrays: Mapping[str, NDArray[Any]]) -> Fitted:
    """The fitted baseline from its arrays.

    Raises UnknownName for a baseline that is not installed; KeyError, ValueError or TypeError if the arrays are not those of such a
    baseline.
    """
    fitted: Fitted = baselines.part(name).load_class().of(dict(arrays))
    return fitted
