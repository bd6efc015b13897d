"""Use specialists: each is loaded with proof that it works, and several can share one base."""

from vertical_sdk.adapters.folder import find_adapter
from vertical_sdk.inference.load import load
from vertical_sdk.inference.model import VerticalModel

__all__ = ["VerticalModel", "find_adapter", "load"]
