"""Is the specialist better than the general model, and than what is cheap? With intervals, on rows that nobody trained on."""

from vertical_sdk.evaluation.compare import evaluate
from vertical_sdk.evaluation.result import Evaluation

__all__ = ["Evaluation", "evaluate"]
