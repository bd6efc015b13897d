"""What a fitted baseline offers, and how it is kept as arrays: no pickle, nothing that runs when it is read."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vertical_sdk.errors import RecipeError
from vertical_sdk.outputs import Outputs
from vertical_sdk.types import Example

__all__ = ["Arrays", "Fitted", "as_bytes", "from_bytes", "pack", "unpack"]

Arrays = dict[str, NDArray[Any]]
KINDS = {
    "tfidf": "vertical_sdk.baselines.classical:Tfidf",
    "majority": "vertical_sdk.baselines.classical:Majority",
    "boosted_trees": "vertical_sdk.baselines.trees:BoostedTrees",
    "base": "vertical_sdk.baselines.general:ZeroShot",
    "probe": "vertical_sdk.baselines.general:LinearProbe",
    "pixels": "vertical_sdk.baselines.pixels:Pixels",
    "persistence": "vertical_sdk.baselines.forecasts:Persistence",
    "seasonal": "vertical_sdk.baselines.forecasts:Seasonal",
    "linear": "vertical_sdk.baselines.forecasts:Linear",
    "boosted_forecast": "vertical_sdk.baselines.forecast_trees:BoostedForecast",
}
"""Where the class of each baseline stands that can be kept."""


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
    """The arrays of a baseline.

    Raises RecipeError for one that cannot be kept, which can be a baseline but no member.
    """
    if name not in KINDS or not hasattr(fitted, "arrays"):
        raise RecipeError(f"{where}: {name} cannot be kept, so it can be no member; there are {', '.join(KINDS)}.")
    return fitted.arrays()


def unpack(name: str, arrays: Mapping[str, NDArray[Any]]) -> Fitted:
    """The baseline again.

    Raises KeyError, ValueError or TypeError where the arrays are not those of such a baseline.
    """
    module, _, kind = KINDS[name].partition(":")
    fitted: Fitted = getattr(importlib.import_module(module), kind).of(dict(arrays))
    return fitted
