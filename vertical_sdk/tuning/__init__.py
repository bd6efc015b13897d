"""Search better settings of a recipe on its validation rows, within a time."""

from vertical_sdk.tuning.result import Tuned
from vertical_sdk.tuning.search import tune

__all__ = ["Tuned", "tune"]
