"""Systems that are measured beside the specialist: baselines that it must beat, and members of its ensemble.

A baseline is a function in `catalog.baselines`: `fit(train, labels, task, seed, base, *, ...) -> Fitted`. `base` is the frozen
base model (`FrozenBase`), for systems that need it. The keyword-only parameters are the options of a recipe: under
`evaluate.baselines` for a system that is only compared with, under `ensemble` for a member.
"""

from vertical_sdk.baselines import (
    boosted_forecast,
    boosted_trees,
    detectors,
    linear,
    linear_probe,
    majority,
    nearest,
    persistence,
    pixels,
    seasonal,
    tfidf,
    written,
    zero_shot,
)
from vertical_sdk.baselines.fitted import Fitted, load_fitted, save_arrays

__all__ = [
    "Fitted",
    "boosted_forecast",
    "boosted_trees",
    "detectors",
    "linear",
    "linear_probe",
    "load_fitted",
    "majority",
    "nearest",
    "persistence",
    "pixels",
    "save_arrays",
    "seasonal",
    "tfidf",
    "written",
    "zero_shot",
]
