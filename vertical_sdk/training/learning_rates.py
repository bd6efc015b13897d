"""Learning rates that differ between weights: by layer (`layerwise_lr_decay`), and between A and B of LoRA (`loraplus_lr_ratio`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from vertical_sdk.errors import RecipeError
from vertical_sdk.training.frozen_layers import find_layers

__all__ = ["find_rate_factors", "split_groups"]


def find_rate_factors(specialist: Any, layer_decay: float | None, b_ratio: float | None, where: str) -> dict[int, float]:
    """By what the learning rate of each trained weight is multiplied: `id` of the weight → factor.

    layer_decay  weights of a layer: decay^d, with d the number of layers above it, so 1 for the top layer (ULMFiT, Howard and Ruder,
                 2018; ELECTRA, Clark et al., 2020). Weights on the base's embeddings count as below the lowest layer; the head and all
                 others keep the whole rate
    b_ratio      B of each pair, (out, r): this ratio, besides the layer's factor; A keeps its rate (LoRA+, Hayou et al., 2024)

    Raises RecipeError if the base has no list of layers, and `layer_decay` is given.
    """
    factors = {id(weight): 1.0 for weight in specialist.parameters() if weight.requires_grad}
    if layer_decay is not None:
        layers = find_layers(specialist.backbone)
        if layers is None:
            raise RecipeError(
                "layerwise_lr_decay: this base has no list of layers, one above the other. Leave it out.", where=where
            )
        embeddings = specialist.backbone.get_base_model().get_input_embeddings()
        for depth, module in enumerate([*reversed(layers), embeddings]):
            factors |= {id(weight): layer_decay**depth for weight in module.parameters() if weight.requires_grad}
    if b_ratio is not None:
        for name, weight in specialist.backbone.named_parameters():
            if weight.requires_grad and ("lora_B" in name or "lora_embedding_B" in name):
                factors[id(weight)] *= b_ratio
    return factors


def split_groups(groups: Sequence[Mapping[str, Any]], factors: Mapping[int, float]) -> list[dict[str, Any]]:
    """Split the parameter groups of an optimizer so that each has one learning rate.

    The groups with the whole rate are the first, because the log shows the rate of the first group.
    """
    found: list[tuple[float, dict[str, Any]]] = []
    for group in groups:
        weights: Sequence[Tensor] = group["params"]
        for factor in sorted({factors[id(weight)] for weight in weights}):
            chosen = [weight for weight in weights if factors[id(weight)] == factor]
            found.append((factor, {**group, "params": chosen, "lr": group["lr"] * factor}))
    return [group for _, group in sorted(found, key=lambda item: item[0] != 1)]
