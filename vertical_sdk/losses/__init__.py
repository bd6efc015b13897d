"""Losses that any vertical can use; a vertical's own are in `domains/<vertical>/losses.py`.

Every loss is the mean, over the rows that have something to learn, of a value that depends on that row alone. So the mean over
a batch is the weighted mean over its parts, and the trainer may cut a batch as it likes. Positional parameters are given by
name: `logits`, `labels`, and if asked for `space` (the LabelSpace, with training counts) and `scale` (the spread of a
training targets that are numbers), `graph` and `quantiles` (forecasting: how near channels are, (channels, channels), and the levels
of the outputs). Keyword-only ones are the recipe's. A loss of generated tokens may also be told of tokens that
should not stand in an answer: see `avoids`.
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
from vertical_sdk.losses import classification, forecasting, hierarchical, multilabel, ordinal, regression
from vertical_sdk.losses.classification import IGNORE
from vertical_sdk.recipe import Recipe
from vertical_sdk.types import LabelSpace, SeriesLayout

__all__ = [
    "IGNORE",
    "TokenFinder",
    "bind_loss",
    "classification",
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
    """The function that finds the tokens which the recipe's loss avoids (its `prepare`); None if the loss avoids none."""
    return losses.part(recipe.loss.use).prepare if recipe.loss else None


def bind_loss(
    recipe: Recipe,
    space: LabelSpace | None,
    scale: float = 1.0,
    layout: SeriesLayout | None = None,
    *,
    default: str,
) -> Callable[..., Tensor]:
    """The recipe's loss as a function of logits and labels alone, and of `avoid` where it is marked by `avoids`.

    default  the loss of a recipe that names none: the task's

    Raises RecipeError for a loss that needs labels in a task that has none.
    """
    name = recipe.loss.use if recipe.loss else default
    arguments = losses.check(name, recipe.loss.arguments if recipe.loss else {}, f"{recipe.name}: loss")
    function = losses.get(name)
    graph = None if layout is None or layout.graph is None else torch.tensor(layout.graph, dtype=torch.float32)
    given: dict[str, Any] = {"space": space, "scale": scale, "graph": graph, "quantiles": (0.5, *recipe.series.quantiles)}
    takes = inspect.signature(function).parameters
    asked = {key: given[key] for key in takes if key in given}
    if "space" in asked and space is None and takes["space"].default is inspect.Parameter.empty:
        raise RecipeError(f"{recipe.name}: loss: {name} needs labels, and a {recipe.task} task has none.")
    if "graph" in asked and graph is None:
        raise RecipeError(f"{recipe.name}: loss: {name} needs a graph of the channels, and the data has none.")
    return functools.partial(function, **asked, **arguments)
