"""A text backbone that reads tokens which are not words: its first layers, and its hidden states."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from vertical_sdk.errors import RecipeError
from vertical_sdk.families.lora import list_modules, with_lora
from vertical_sdk.recipe import Recipe

__all__ = ["drop_layers", "find_model", "lora_on_layers", "run_tokens"]

POSITION = 2
"""A position that every base has; RoBERTa and its kind count from it."""


def lora_on_layers(model: Any, recipe: Recipe, layers: int | None, key: str, name: str) -> Any:
    """Put a new adapter on the first layers of a text model.

    layers     None: all
    key, name  the recipe's key that chose the layers, and the base, for messages

    Raises RecipeError for more layers than the model has, and as `with_lora` does.
    """
    settings = dict(recipe.adapter)
    if layers is not None:
        most = model.config.num_hidden_layers
        if layers > most:
            raise RecipeError(f"{recipe.name}: {key} = {layers}, and {name} has {most}.")
        rest = [f".{layer}." for layer in range(layers, most)]
        settings.setdefault("exclude_modules", list_modules(model, "pooler", *rest))
    return with_lora(model, settings, "FEATURE_EXTRACTION", recipe.name)


def find_model(backbone: Any) -> Any:
    """Return the model below an adapter, without its language-model head."""
    model = backbone.get_base_model()
    return getattr(model, model.base_model_prefix, model) if model.base_model_prefix else model


def drop_layers(model: Any, count: int | None, key: str) -> None:
    """Keep only the first `count` of the model's layers; all of them if it is None.

    key  the recipe's key that chose them, for the message

    Raises RecipeError for a model whose layers cannot be found.
    """
    if count is None or count >= model.config.num_hidden_layers:
        return
    for parent in model.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == model.config.num_hidden_layers:
                setattr(parent, name, nn.ModuleList(list(child)[:count]))
                return
    raise RecipeError(f"{key}: the layers of a {type(model).__name__} cannot be found. Leave {key} out.")


def run_tokens(model: Any, tokens: Tensor, *, ordered: bool) -> Tensor:
    """Compute hidden states (n, tokens, width) of tokens (n, tokens, width).

    Each token sees all others if the model reads both ways.

    ordered  False: all tokens have the same position, as they are a set. A model without positions that can be given reads them in
             their order
    """
    known = inspect.signature(model.forward).parameters
    more: dict[str, Any] = {"use_cache": False} if "use_cache" in known else {}
    if not ordered and "position_ids" in known:
        more["position_ids"] = torch.full(tokens.shape[:2], POSITION, device=tokens.device)
    hidden: Tensor = model(inputs_embeds=tokens, **more).last_hidden_state
    return hidden
