"""Making a specialist from a recipe."""

from vertical_sdk.training.run import Run
from vertical_sdk.training.train import train

__all__ = ["Run", "train"]
