"""A base whose frozen linear layers are stored in 4 bits, for QLoRA (Dettmers et al., 2023, https://arxiv.org/abs/2305.14314).

Each block of 64 weights has a scale and 64 indices into the 16 values of NF4, and the scales are 8-bit numbers themselves, so a weight
takes 4.13 bits. A product reads the weights back into the type that it computes in. Embeddings, the output layer and the norms stay as
they are.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from vertical_sdk.errors import BaseModelError, MissingExtra

__all__ = ["count_weights", "full_shape", "list_quantization_states", "loading_options", "prepare_layers"]


def loading_options(dtype: Any, device: Any) -> dict[str, Any]:
    """Build the arguments of transformers' `from_pretrained` that load linear layers in NF4, one after the other.

    dtype   in which their products are computed
    device  on which they are stored

    Raises MissingExtra without bitsandbytes.
    """
    import transformers

    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtra("quantize", "adapter.quantize: nf4")
    make: Any = transformers.BitsAndBytesConfig
    config = make(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype)
    return {"quantization_config": config, "device_map": {"": device}}


def prepare_layers(model: nn.Module, name: str) -> None:
    """Keep the stored weights as they are in every call.

    On processors with AVX-512 BF16, bitsandbytes reorders the weights in the first call without gradients. They then compute in bfloat16,
    pass no gradient back, and change under the other threads and adapters that share them.

    Raises BaseModelError if the model has no layer in 4 bits.
    """
    linear: Any = importlib.import_module("bitsandbytes.nn").Linear4bit
    layers: list[Any] = [module for module in model.modules() if isinstance(module, linear)]
    if not layers:
        raise BaseModelError(f"{name} has no linear layers to store in 4 bits. Leave adapter.quantize out.")
    for layer in layers:
        layer.support_avx512bf16_for_cpu = False


def list_quantization_states(model: nn.Module) -> list[Any]:
    """List the scales and tables of the quantized layers, which belong to their weights."""
    return [state for module in model.modules() if (state := getattr(module, "quant_state", None)) is not None]


def full_shape(weight: Tensor) -> Sequence[int]:
    """The shape of a weight before it was stored in 4 bits, if it was."""
    state = getattr(weight, "quant_state", None)
    return weight.shape if state is None else state.shape


def count_weights(weights: Iterable[Tensor]) -> int:
    """Count the numbers of weights, of which some may be stored in 4 bits."""
    return sum(math.prod(full_shape(weight)) for weight in weights)
