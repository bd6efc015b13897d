"""What is searched: the ranges of a recipe, or default ones around its own settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vertical_sdk.checking import check_recipe
from vertical_sdk.families.lora import DEFAULTS
from vertical_sdk.ranges import Choices, Range, Scalar, SearchSpace, list_ends
from vertical_sdk.recipe import Recipe
from vertical_sdk.training_arguments import DEFAULTS as TRAIN
from vertical_sdk.training_arguments import training_arguments

__all__ = ["choose_space", "read_own_settings", "suggest"]

LORA = {**DEFAULTS, "lora_dropout": 0.0}
"""The settings of `adapter` that a recipe does not name."""
FACTOR = 5
"""Learning rates up to so many times smaller and larger than the recipe's own are searched by default."""
DROPOUTS = (0.0, 0.05, 0.1)
DIGITS = 4
"""Significant digits of a number that is not whole: a recipe that people read needs no more."""


def choose_space(recipe: Recipe) -> SearchSpace:
    """Choose the keys to search and their values: those of `tune:`, else defaults. Each end is checked as a recipe.

    Raises RecipeError.
    """
    space = dict(recipe.tune) or _list_defaults(recipe)
    check_recipe(recipe.replace({"tune": {key: _plain(searched) for key, searched in space.items()}}))
    for key, searched in space.items():
        if key.startswith("train."):
            for value in list_ends(searched):
                training_arguments(recipe.replace({key: value}).train, Path(), recipe.name)
    return space


def _plain(searched: Range | Choices) -> Any:
    return searched.model_dump() if isinstance(searched, Range) else list(searched)


def _list_defaults(recipe: Recipe) -> SearchSpace:
    """The learning rate, the number of epochs, the rank and the dropout of LoRA, around those of the recipe."""
    train, adapter = {**TRAIN, **recipe.train}, {**LORA, **recipe.adapter}
    rate, rank, epochs = float(train["learning_rate"]), int(adapter["r"]), train["num_train_epochs"]
    space: SearchSpace = {}
    if rate > 0:
        space["train.learning_rate"] = Range(low=_round(rate / FACTOR), high=_round(rate * FACTOR), log=True)
    if epochs > 0 and train.get("max_steps", -1) <= 0:
        fewer = max(1, epochs // 2) if epochs >= 1 else epochs / 2
        space["train.num_train_epochs"] = tuple(sorted({fewer, epochs, 2 * epochs}))
    space["adapter.r"] = tuple(sorted({max(1, rank // 2), rank, 2 * rank}))
    space["adapter.lora_dropout"] = tuple(sorted({*DROPOUTS, float(adapter["lora_dropout"])}))
    return space


def read_own_settings(recipe: Recipe, space: SearchSpace) -> dict[str, Scalar]:
    """Read the recipe's own values of the searched keys; {} if the search cannot set one of them, or it is a default unknown here."""
    plain: Any = recipe.to_dict()
    plain["train"], plain["adapter"] = {**TRAIN, **plain["train"]}, {**LORA, **plain["adapter"]}
    own: dict[str, Scalar] = {}
    for key, searched in space.items():
        value: Any = plain
        for step in key.split("."):
            value = value.get(step) if isinstance(value, dict) else None
        reachable = searched.contains(value) if isinstance(searched, Range) else value in searched
        if not reachable:
            return {}
        own[key] = value
    return own


def suggest(trial: Any, space: SearchSpace) -> dict[str, Scalar]:
    """Ask a trial of Optuna for a value of each key."""
    settings: dict[str, Scalar] = {}
    for key, searched in space.items():
        if not isinstance(searched, Range):
            settings[key] = trial.suggest_categorical(key, list(searched))
        elif searched.whole:
            settings[key] = trial.suggest_int(key, searched.low, searched.high, log=searched.log)
        else:
            value = _round(trial.suggest_float(key, searched.low, searched.high, log=searched.log))
            settings[key] = min(max(value, searched.low), searched.high)
    return settings


def _round(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
