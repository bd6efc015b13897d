"""Train a specialist from a recipe: a frozen job, and stages that work on it."""

from vertical_sdk.training.pipeline import train
from vertical_sdk.training.run import Run

__all__ = ["Run", "train"]
