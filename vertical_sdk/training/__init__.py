"""Making a specialist from a recipe."""

from vertical_sdk.training.pipeline import train
from vertical_sdk.training.run import Run

__all__ = ["Run", "train"]
