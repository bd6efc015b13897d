"""Systems beside the specialist: baselines that it has to beat to be worth its price, and members in its ensemble.

A baseline is a function in `catalog.baselines`: `baseline(train, labels, task, seed, base, *, ...) -> Fitted`. `base` is the
general base model, for those that need it. Its keyword-only parameters are what a recipe may set, in `evaluate.baselines` where it
is a baseline, in `ensemble` where it is a member.
"""

from vertical_sdk.baselines import classical, detectors, forecast_trees, forecasts, general, pixels, trees
from vertical_sdk.baselines.fitted import Fitted, pack, unpack

__all__ = ["Fitted", "classical", "detectors", "forecast_trees", "forecasts", "general", "pack", "pixels", "trees", "unpack"]
