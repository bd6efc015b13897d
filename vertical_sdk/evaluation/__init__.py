"""Is the specialist better than the general model, and than what is cheap? With intervals, on rows that nobody trained on.

What only shows an evaluation (`result`, `headline`, `report`) is used without torch, which `evaluate` needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vertical_sdk.evaluation.compare import evaluate
    from vertical_sdk.evaluation.result import Evaluation

_HOMES = {"Evaluation": "result", "evaluate": "compare"}

__all__ = ["Evaluation", "evaluate"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"vertical_sdk.evaluation.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'vertical_sdk.evaluation' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
