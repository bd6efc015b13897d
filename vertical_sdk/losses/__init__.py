"""Losses that any vertical can use. A vertical's own losses are in `domains/<vertical>/losses.py`.

Every loss is the mean over the labelled rows of a value that depends on one row alone. So the mean over a batch is the weighted mean
over its parts, and the trainer may split a batch anywhere. A loss that compares rows with each other registers `compares_rows=True`:
the trainer then puts rows with one target into one batch, and never splits it. The SDK passes positional parameters by name. A loss
declares those that it needs:

    logits, labels   the outputs and the targets
    space            the LabelSpace, with training counts
    scale            the spread of numeric training targets
    graph            forecasting: how near channels are to each other, (channels, channels)
    quantiles        the levels of the outputs
    avoid            generation: (tokens, most) int64, for each token of the answer ids of tokens to avoid in its place, padded with -1. The
                     loss registers `prepare=`, a `TokenFinder` that finds them

Keyword-only parameters are options of the recipe.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from vertical_sdk.catalog import losses
from vertical_sdk.errors import RecipeError
from vertical_sdk.losses import classification, contrastive, forecasting, hierarchical, multilabel, ordinal, regression
from vertical_sdk.losses.classification import IGNORE
from vertical_sdk.recipe import Recipe
from vertical_sdk.types import LabelSpace, SeriesLayout

__all__ = [
    "IGNORE",
    "TokenFinder",
    "bind_loss",
    "classification",
    "compares_rows",
    "contrastive",
    "forecasting",
    "get_token_finder",
    "hierarchical",
    "multilabel",
    "ordinal",
    "regression",
]

TokenFinder: TypeAlias = Callable[[Any], Callable[[str, Sequence[int]], Sequence[tuple[int, ...]]]]
"""tokenizer → (the question's text, the answer's tokens) → for each of these tokens, ids of tokens to avoid in its place."""


def get_token_finder(recipe: Recipe) -> TokenFinder | None:
    """Look up the function that finds the tokens which the recipe's loss avoids (its `prepare`); None if it avoids none."""
    return losses.part(recipe.loss.use).prepare if recipe.loss else None


def compares_rows(recipe: Recipe, *, default: str) -> bool:
    """Whether the recipe's loss, or the task's default, compares the rows of a batch with each other."""
    return losses.part(recipe.loss.use if recipe.loss else default).compares_rows


def bind_loss(
    recipe: Recipe,
    space: LabelSpace | None,
    scale: float = 1.0,
    layout: SeriesLayout | None = None,
    *,
    default: str,
) -> Callable[..., Tensor]:
    """Bind the recipe's loss. The result takes logits and labels, and `avoid` if the loss has a token finder.

    default  the loss of a recipe that names none: the task's

    Raises RecipeError for a loss that needs labels, or a graph of the channels, if the task or the data has none.
    """
    name = recipe.loss.use if recipe.loss else default
    arguments = losses.check(name, recipe.loss.arguments if recipe.loss else {}, f"{recipe.name}: loss")
    function = losses.get(name)
    graph = None if layout is None or layout.graph is None else torch.tensor(layout.graph, dtype=torch.float32)
    available: dict[str, Any] = {"space": space, "scale": scale, "graph": graph, "quantiles": (0.5, *recipe.series.quantiles)}
    takes = inspect.signature(function).parameters
    passed = {key: available[key] for key in takes if key in available}
    if "space" in passed and space is None and takes["space"].default is inspect.Parameter.empty:
        raise RecipeError(f"{name} needs labels, and a {recipe.task} task has none.", where=f"{recipe.name}: loss")
    if "graph" in passed and graph is None:
        raise RecipeError(f"{name} needs a graph of the channels, and the data has none.", where=f"{recipe.name}: loss")
    return functools.partial(function, **passed, **arguments)
