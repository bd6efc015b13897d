"""Metrics: how good predictions are, as one number.

A metric is a function in `catalog.metrics` that returns a float. It declares the positional parameters that it needs:

    predictions    (rows,) int64 positions in `labels`, NO_ANSWER if the answer is not a label; multilabel (rows, labels) 0 or 1;
                   regression (rows,) float; generation: a list of str; forecasting (rows, steps, channels) float;
                   contrastive (rows,) ranks; language (rows,) bits a character
    references     the same, never NO_ANSWER; forecasting: NaN if unknown; contrastive: keys; language: characters
    probabilities  (rows, labels) float
    quantiles      (..., quantiles) float beside predicted numbers, the median first, from systems that have quantiles
    labels         the LabelSpace
    rows           the Examples in the order of predictions: their record, text, messages, group and time
    facts          what the metric's `prepare` read from the rows

Keyword-only parameters are options of the recipe.

A value that the rows do not define is NaN (UNDEFINED): a share of no rows, the ranking of rows that all have one label. It is
never 0, 1 or another number that could pass for the best or the worst value. `Measure` returns NaN without rows, and if a
prediction is missing (NaN) although its truth is known; each metric decides the rest. Reports show NaN as a dash, JSON as null.

A bootstrap measures the same rows a thousand times. A metric that reads records registers `prepare=`, a function of the rows (and of
options of its own, keyword-only) that is called once. Its result must support `facts[positions]`, as an array does: the facts of the
rows at these positions, which may repeat.

    @metrics.register("finance.parity_gap", higher_is_better=False, prepare=read_groups)
    def parity_gap(predictions, facts, *, least: int = 10) -> float: ...
"""

from vertical_sdk.metrics import (
    abstention,
    alarms,
    bert_score,
    classification,
    forecasting,
    probability,
    regression,
    text,
    unlabelled,
    written,
)
from vertical_sdk.metrics.measure import (
    NO_ANSWER,
    UNDEFINED,
    bind,
    higher_is_better,
    inputs,
)

__all__ = [
    "NO_ANSWER",
    "UNDEFINED",
    "abstention",
    "alarms",
    "bert_score",
    "bind",
    "classification",
    "forecasting",
    "higher_is_better",
    "inputs",
    "probability",
    "regression",
    "text",
    "unlabelled",
    "written",
]
