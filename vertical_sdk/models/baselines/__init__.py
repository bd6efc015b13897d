"""Systems beside the specialist: rivals that it has to beat to be worth its price, and partners in its ensemble.

A baseline is a function in `catalog.baselines`: `baseline(train, labels, task, seed, base, *, ...) -> Fitted`. `base` is the
general base model, for those that need it. Its keyword-only parameters are what a recipe may set, in `evaluate.against` where it
is a rival, in `ensemble` where it is a partner.
"""

from vertical_sdk.models.baselines import classical, detectors, forecast_trees, forecasts, general, pixels, trees
from vertical_sdk.models.baselines.fitted import Fitted, pack, unpack

__all__ = ["Fitted", "classical", "detectors", "forecast_trees", "forecasts", "general", "pack", "pixels", "trees", "unpack"]
