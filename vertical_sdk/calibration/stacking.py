"""Fitting the weights with which systems are pooled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["fit_likeliest", "fit_shares", "fit_tails", "pool"]

WEIGHT_SPREAD, BIAS_SPREAD = 1.0, 0.5
"""Standard deviations of the priors."""
MOST_NUMBERS = 200_000
"""Weights of forecasts are fitted on at most so many numbers."""
TAIL, SMALLEST_EXCESS = 0.9, 1e-3
"""The share of scores that are not in the tail, and the least mean excess of a tail."""
Floats = NDArray[np.float64]


def pool(systems: Sequence[Floats], weights: Floats, bias: Floats) -> Floats:
    """Add the evidence of systems with their weights and biases."""
    return np.asarray(np.tensordot(weights, np.stack(systems), axes=1) + bias)


def fit_likeliest(
    systems: Sequence[Floats], surprise: Callable[[Floats], float], free: int, to_bias: Callable[[Floats], Floats]
) -> tuple[Floats, Floats]:
    """Fit the likeliest weights and biases under weak normal priors (L-BFGS-B, weights at least 0).

    systems   evidence of each system, (rows, k)
    surprise  pooled evidence (rows, k) → mean negative log-likelihood of the truth
    free      number of bias parameters
    to_bias   the bias parameters (free,) → biases (k,)
    """
    from scipy.optimize import minimize

    size, outputs, rows = len(systems), systems[0].shape[1], len(systems[0])
    stacked = np.stack(systems)

    def split(parameters: Floats) -> tuple[Floats, Floats]:
        return parameters[:size], to_bias(parameters[size:]) if free else np.zeros(outputs)

    def objective(parameters: Floats) -> float:
        weights, bias = split(parameters)
        value = surprise(np.tensordot(weights, stacked, axes=1) + bias)
        pull = ((parameters[:size] - 1 / size) ** 2).sum() / WEIGHT_SPREAD**2 + (parameters[size:] ** 2).sum() / BIAS_SPREAD**2
        return value + float(pull) / (2 * rows)

    start = np.concatenate([np.full(size, 1 / size), np.zeros(free)])
    bounds = [(0.0, 5.0)] * size + [(-10.0, 10.0)] * free
    return split(np.asarray(minimize(objective, start, method="L-BFGS-B", bounds=bounds).x))


def fit_shares(systems: Sequence[Floats], truth: Floats) -> Floats:
    """Fit weights of at least 0 that sum to 1, for the mean with the least absolute error (Nelder and Mead on their logarithms).

    truth  NaN if unknown
    """
    from scipy.optimize import minimize

    if len(systems) == 1:
        return np.ones(1)
    known = ~np.isnan(truth)
    stacked = np.stack([system[known] for system in systems])
    if stacked.shape[1] > MOST_NUMBERS:
        stacked = stacked[:, np.linspace(0, stacked.shape[1] - 1, MOST_NUMBERS).astype(int)]
        kept = np.linspace(0, known.sum() - 1, MOST_NUMBERS).astype(int)
    else:
        kept = np.arange(stacked.shape[1])
    target = truth[known][kept]

    def shares(parameters: Floats) -> Floats:
        raised = np.exp(np.append(parameters, 0.0) - max(0.0, float(parameters.max(initial=0.0))))
        return np.asarray(raised / raised.sum())

    def error(parameters: Any) -> float:
        return float(np.abs(shares(parameters) @ stacked - target).mean())

    return shares(np.asarray(minimize(error, np.zeros(len(systems) - 1), method="Nelder-Mead").x))


def fit_tails(systems: Sequence[Floats]) -> Floats:
    """Fit weights by which large evidence of each system is equally rare on rows without an anomaly.

    Beyond its TAIL quantile, evidence is about exponential there (that of a score with a Pareto tail; Pickands, 1975): P(more than x)
    is proportional to exp(-x / mean excess). The weights are 1 / mean excess, so their sum adds log p-values (Fisher's method).

    systems  evidence of each system for rows without an anomaly, (rows, 1)
    """
    weights = []
    for system in systems:
        limit = np.quantile(system, TAIL)
        excess = system[system > limit] - limit
        weights.append(1 / max(float(excess.mean()) if len(excess) else 0.0, SMALLEST_EXCESS))
    return np.array(weights)
