"""Tasks: the kinds of answers that a specialist gives, one frozen object each. No other module compares the names of tasks."""

from vertical_sdk.tasks.task import Task, get_gate, get_task, main_metric, measured_baselines, score_outputs, score_predictions

__all__ = ["Task", "get_gate", "get_task", "main_metric", "measured_baselines", "score_outputs", "score_predictions"]
