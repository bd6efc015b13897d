"""Using specialists: loaded with proof that they work, several on one base if need be."""

from vertical_sdk.adapters.folder import find_adapter, load
from vertical_sdk.inference.model import VerticalModel

__all__ = ["VerticalModel", "find_adapter", "load"]
