"""Tasks: what a specialist is asked to do, one frozen object each. No other module compares the names of tasks."""

from vertical_sdk.tasks.task import Task, get_task, main_metric

__all__ = ["Task", "get_task", "main_metric"]
