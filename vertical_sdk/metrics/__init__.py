"""Metrics: how good predictions are, as one number.

A metric is a function in `catalog.metrics`. It names among its positional parameters what it wants to see:

    predictions    (rows,) int64 positions in `labels`, NO_ANSWER where an answer could not be read as a label;
                   multilabel (rows, labels) 0 or 1; regression (rows,) float; generation: a list of str; forecasting
                   (rows, steps, channels) float
    references     the same, never NO_ANSWER; forecasting: NaN where it is not known
    probabilities  (rows, labels) float
    quantiles      (..., quantiles) float beside the predictions of numbers, the median first; for systems that say any
    labels         the LabelSpace
    rows           the Examples themselves, in the order of predictions: their record, text, messages, group and time

and returns a float. Its keyword-only parameters are what a recipe may set.
"""

from vertical_sdk.metrics import abstention, alarms, classification, forecasting, probability, regression, text
from vertical_sdk.metrics.measure import (
    NO_ANSWER,
    bind,
    higher_is_better,
    inputs,
)

__all__ = [
    "NO_ANSWER",
    "abstention",
    "alarms",
    "bind",
    "classification",
    "forecasting",
    "higher_is_better",
    "inputs",
    "probability",
    "regression",
    "text",
]
