"""Compare a specialist with its general model and with cheap baselines, with intervals, on rows that were not trained on.

The modules that only show an evaluation (`result`, `headline`, `report`) do not import torch; `evaluate` does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vertical_sdk.evaluation.compare import evaluate
    from vertical_sdk.evaluation.result import Evaluation

_MODULES = {"Evaluation": "result", "evaluate": "compare"}

__all__ = ["Evaluation", "evaluate"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"vertical_sdk.evaluation.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'vertical_sdk.evaluation' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
