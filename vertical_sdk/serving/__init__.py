"""Specialists of a registry that answer many clients at once: references, mixed batches, written answers; no HTTP."""

from vertical_sdk.serving.service import Serving
from vertical_sdk.serving.settings import ServingSettings

__all__ = ["Serving", "ServingSettings"]
