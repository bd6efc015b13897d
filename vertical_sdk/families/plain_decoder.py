"""Which causal bases and adapters `kernels.decoder` computes, read from the modules of transformers and PEFT."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vertical_sdk.families.low_rank import LowRankLinear
from vertical_sdk.families.shared_base import use_base
from vertical_sdk.kernels.decoder import SITES, Decoder, Layer, Linear, Segment, Shape
from vertical_sdk.kernels.low_rank import LowRank

__all__ = ["read_decoder", "read_low_rank"]

_LOG = logging.getLogger(__name__)
ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
STATIC_ROTARY = ("default", "linear", "llama3", "yarn")
"""Kinds of the rotary embedding whose frequencies do not depend on the length of the text."""
PARTS = (("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",))
"""Names of the linear layers of each site."""
CHANGES_NOTHING: dict[str, tuple[Any, ...]] = {
    "no_repeat_ngram_size": (None, 0),
    "encoder_repetition_penalty": (None, 1, 1.0),
    "bad_words_ids": (None, []),
    "suppress_tokens": (None, []),
    "begin_suppress_tokens": (None, []),
    "sequence_bias": (None, {}, []),
    "min_length": (None, 0),
    "min_new_tokens": (None, 0),
    "num_beams": (None, 1),
    "forced_bos_token_id": (None,),
    "forced_eos_token_id": (None,),
    "exponential_decay_length_penalty": (None,),
    "guidance_scale": (None, 1, 1.0),
    "penalty_alpha": (None, 0, 0.0),
}
"""Settings of a base's generation_config that change the likeliest token, with the values by which they do not."""
MOST_COPIED = 2 << 30
"""Bytes of a base up to which weights are copied into another order. The products of a larger one take so long that it gains less."""
CLOSE = 1e-3
"""Largest difference of scores from those of transformers, as a share of the largest score."""
PROBE = 8
"""Tokens of that comparison."""


def read_decoder(model: Any) -> Decoder | None:
    """Read a model of transformers, with PEFT's layers or without, as a decoder without adapters.

    returns  None for a network that is not like Llama's in every detail, or does not compute in float32, and for a base that changes
             scores while it generates. The log says why

    Of a base of up to MOST_COPIED bytes, Q, K, V, G, U and the output layer are copies: .4 GB for .5 GB of smollm2-135m. All other weights
    are those of the model.
    """
    problem = next(_find_problems(model), None)
    if problem is None:
        decoder = _build(model)
        if _agrees(decoder, model):
            return decoder
        problem = "it computes other scores than transformers"
    _LOG.info("%s: texts are written by transformers, one adapter at a time: %s.", type(model).__name__, problem)
    return None


def read_low_rank(model: Any) -> LowRank | None:
    """Read the adapter of a model of transformers with PEFT's layers.

    returns  None for an adapter that is more than LoRA on the linear layers of SITES, such as DoRA, biases or modules_to_save, and on
             a network that is not of ARCHITECTURES

    A and B are those of the adapter or copies in float32; B is multiplied by the scale.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    if type(model).__name__ not in ARCHITECTURES:
        return None
    if any(isinstance(module, LowRankLinear) for module in model.modules()):
        return _read_light(model)
    if any(config.bias != "none" for config in getattr(model, "peft_config", {}).values()):
        return None
    matrices, layers = {}, 0
    for number, layer in enumerate(_network(model).layers):
        for place, names in enumerate(PARTS):
            for part, name in enumerate(names):
                module = _find(layer, name)
                if not isinstance(module, BaseTunerLayer):
                    continue
                layers += 1
                pair = _read_pair(module)
                if pair is None:
                    return None
                matrices[len(SITES) * number + place, part] = pair
    changed = [m for m in model.modules() if isinstance(m, BaseTunerLayer | AuxiliaryTrainingWrapper)]
    return LowRank(matrices) if len(changed) == layers else None


def _read_light(model: Any) -> LowRank | None:
    """The adapter of a model with light layers; None if there are others than those of SITES."""
    matrices = {}
    for number, layer in enumerate(_network(model).layers):
        for place, names in enumerate(PARTS):
            for part, name in enumerate(names):
                own = getattr(_find(layer, name), "part", None)
                if own is not None:
                    matrices[len(SITES) * number + place, part] = own.down, own.up * own.scale
    light = [module for module in model.modules() if isinstance(module, LowRankLinear) and module.part is not None]
    return LowRank(matrices) if len(light) == len(matrices) else None


def _read_pair(module: Any) -> tuple[Tensor, Tensor] | None:
    """A and B' of a linear layer; None for other kinds than plain LoRA."""
    from peft.tuners import lora

    kind: Any = lora.Linear
    if not isinstance(module, kind) or len(module.active_adapters) != 1 or module.merged or module.fan_in_fan_out:
        return None
    name = module.active_adapters[0]
    if name not in module.lora_A or name in module.lora_variant:
        return None
    a, b = module.lora_A[name], module.lora_B[name]
    if a.bias is not None or b.bias is not None:
        return None
    return a.weight.detach().float(), b.weight.detach().float() * module.scaling[name]


def _network(model: Any) -> Any:
    """The layers between the embedding and the output layer."""
    return getattr(model, model.base_model_prefix)


def _find(layer: Any, name: str) -> Any:
    """A linear layer of a layer by its name."""
    return getattr(layer.self_attn, name, None) or getattr(layer.mlp, name)


def _plain(module: Any) -> Any:
    """A layer without its adapter."""
    if isinstance(module, LowRankLinear):
        return module.base_layer
    return module.get_base_layer() if hasattr(module, "get_base_layer") else module


def _find_problems(model: Any) -> Iterator[str]:
    """Why a model cannot be read; nothing if it can."""
    config = model.config
    if type(model).__name__ not in ARCHITECTURES:
        yield "its architecture is not one of " + ", ".join(ARCHITECTURES)
        return
    if config.hidden_act != "silu":
        yield f"its activation is {config.hidden_act}"
    if any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or ()):
        yield "its attention has a window"
    if getattr(config, "layer_types", None) is None and getattr(config, "sliding_window", None):
        yield "its attention has a window"
    if (config.rope_parameters or {}).get("rope_type") not in STATIC_ROTARY:
        yield "its rotary embedding changes with the length of a text"
    if any(weight.dtype != torch.float32 for weight in model.parameters()):
        yield "it does not compute in float32"
    if len({weight.device for weight in model.parameters()}) > 1:
        yield "it is on several devices"
    settings = model.generation_config
    odd = [key for key, values in CHANGES_NOTHING.items() if getattr(settings, key, None) not in values]
    if odd:
        yield f"its generation_config sets {', '.join(odd)}"
    linear = [_plain(_find(layer, name)) for layer in _network(model).layers for names in PARTS for name in names]
    if any(type(module) is not nn.Linear for module in [*linear, _plain(model.get_output_embeddings())]):
        yield "its layers are not all linear"


def _build(model: Any) -> Decoder:
    config, network = model.config, _network(model)
    shape = Shape(
        width=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_width=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        inner=config.intermediate_size,
        eps=config.rms_norm_eps,
    )
    fits = sum(weight.nbytes for weight in model.parameters()) <= MOST_COPIED

    def linear(modules: Sequence[Any], packed: bool = False) -> Linear:
        return Linear([m.weight for m in modules], [m.bias for m in modules], packed=packed and fits)

    layers = []
    for layer in network.layers:
        qkv, out, gate_up, down = ([_plain(_find(layer, name)) for name in names] for names in PARTS)
        q_norm, k_norm = (getattr(getattr(layer.self_attn, name, None), "weight", None) for name in ("q_norm", "k_norm"))
        layers.append(
            Layer(
                norm=layer.input_layernorm.weight,
                qkv=linear(qkv, True),
                q_norm=q_norm,
                k_norm=k_norm,
                out=linear(out),
                mlp_norm=layer.post_attention_layernorm.weight,
                gate_up=linear(gate_up, True),
                down=linear(down),
            )
        )
    head = _plain(model.get_output_embeddings())
    return Decoder(
        shape,
        layers,
        _plain(model.get_input_embeddings()).weight,
        network.norm.weight,
        linear([head], True),
        network.rotary_emb.inv_freq.float(),
        float(network.rotary_emb.attention_scaling),
    )


def _agrees(decoder: Decoder, model: Any) -> bool:
    """Whether the decoder gives the scores of transformers for a few tokens, read at once and one by one."""
    vocabulary = decoder.embedding.shape[0]
    tokens = [(7 * number + 3) % vocabulary for number in range(PROBE)]
    cache, stack = decoder.create_cache(), decoder.create_stack()
    cache.reserve(1, PROBE)
    cache.open()
    with use_base():
        expected = model(input_ids=torch.tensor([tokens], device=decoder.embedding.device)).logits[0, -2:].float()
    first = decoder.read([Segment(0, tokens[:-1], None)], cache, stack)
    second = decoder.step(tokens[-1:], [None], cache, stack)
    return bool((torch.cat([first, second]) - expected).abs().max() <= CLOSE * expected.abs().max())
