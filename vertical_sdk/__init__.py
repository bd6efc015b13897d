"""Turn a general base model into a specialist for a vertical, prove that it is better, and ship it safely.

Names are loaded when first used: `import vertical_sdk` costs nothing and imports no torch. Steps and warnings are logged with the
standard `logging`, as "vertical_sdk"; to see them: `logging.basicConfig(level=logging.INFO)`.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vertical_sdk.domain import Domain, domain_names, load_domain
    from vertical_sdk.errors import VerticalError
    from vertical_sdk.evaluation import Evaluation, evaluate
    from vertical_sdk.inference import VerticalModel
    from vertical_sdk.recipe import Recipe, load_recipe, recipe_names
    from vertical_sdk.registry import Registry
    from vertical_sdk.training import Run, train
    from vertical_sdk.tuning import tune
    from vertical_sdk.types import Example, LabelSpace, Message, Prediction

_HOMES = {
    "Domain": "domain",
    "Evaluation": "evaluation",
    "Example": "types",
    "LabelSpace": "types",
    "Message": "types",
    "Prediction": "types",
    "Recipe": "recipe",
    "Registry": "registry",
    "Run": "training",
    "VerticalError": "errors",
    "VerticalModel": "inference",
    "domain_names": "domain",
    "evaluate": "evaluation",
    "load_domain": "domain",
    "load_recipe": "recipe",
    "recipe_names": "recipe",
    "train": "training",
    "tune": "tuning",
}

__all__ = [
    "Domain",
    "Evaluation",
    "Example",
    "LabelSpace",
    "Message",
    "Prediction",
    "Recipe",
    "Registry",
    "Run",
    "VerticalError",
    "VerticalModel",
    "domain_names",
    "evaluate",
    "load_domain",
    "load_recipe",
    "recipe_names",
    "train",
    "tune",
]
__version__ = "0.1.0"
logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"vertical_sdk.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'vertical_sdk' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
