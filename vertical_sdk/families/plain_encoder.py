"""Which encoders `kernels.encoder` computes, read from the modules of transformers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from vertical_sdk.kernels.encoder import Encoder, EncoderLayer, Linear

__all__ = ["find_encoder", "read_encoder"]

_LOG = logging.getLogger(__name__)
BERT = {
    "layers": "encoder.layer",
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "activation": "intermediate.intermediate_act_fn",
    "down": "output.dense",
    "norm": "output.LayerNorm",
}
"""Where the layers of a network are, and the parts of a layer."""
DISTILBERT = {
    "layers": "transformer.layer",
    "query": "attention.q_lin",
    "key": "attention.k_lin",
    "value": "attention.v_lin",
    "out": "attention.out_lin",
    "attention_norm": "sa_layer_norm",
    "up": "ffn.lin1",
    "activation": "ffn.activation",
    "down": "ffn.lin2",
    "norm": "output_layer_norm",
}
ARCHITECTURES = {
    "BertModel": BERT,
    "CamembertModel": BERT,
    "RobertaModel": BERT,
    "XLMRobertaModel": BERT,
    "DistilBertModel": DISTILBERT,
}
LINEAR = ("query", "key", "value", "out", "up", "down")
CLOSE = 1e-5
"""Largest difference of hidden states from those of transformers, as a share of the largest."""
PROBE = (8, 3)
"""Tokens of each row of that comparison."""

_encoders: WeakKeyDictionary[nn.Module, Encoder | None] = WeakKeyDictionary()
_reading = threading.Lock()


def find_encoder(model: nn.Module) -> Encoder | None:
    """Return what `read_encoder` reads from a model, once for each model."""
    try:
        return _encoders[model]
    except KeyError:
        with _reading:
            if model not in _encoders:
                _encoders[model] = read_encoder(model)
            return _encoders[model]


def read_encoder(model: Any) -> Encoder | None:
    """Read a model of transformers without adapters as an encoder, whose weights are those of the model.

    returns  None for a network that is not like BERT's in every detail, or does not compute in float32 on a CPU. The log says why
    """
    problem = next(_find_problems(model), None)
    if problem is None:
        encoder = _build(model)
        if _agrees(encoder, model):
            return encoder
        problem = "it computes other hidden states than transformers"
    _LOG.info("%s: texts are read by transformers: %s.", type(model).__name__, problem)
    return None


def _find_problems(model: Any) -> Iterator[str]:
    """Why a model cannot be read; nothing if it can."""
    names = ARCHITECTURES.get(type(model).__name__)
    if names is None:
        yield "its architecture is not one of " + ", ".join(ARCHITECTURES)
        return
    if getattr(model.config, "is_decoder", False):
        yield "it is a decoder"
    if getattr(model.config, "position_embedding_type", None) not in {None, "absolute"}:
        yield "its positions are relative"
    if any(weight.dtype != torch.float32 or weight.device.type != "cpu" for weight in model.parameters()):
        yield "it does not compute in float32 on a CPU"
    layers = model.get_submodule(names["layers"])
    if any(type(layer.get_submodule(names[part])) is not nn.Linear for layer in layers for part in LINEAR):
        yield "its layers are not all linear"


def _build(model: Any) -> Encoder:
    names, embeddings = ARCHITECTURES[type(model).__name__], model.embeddings
    prefix, stack = names["layers"], model.get_submodule(names["layers"])

    def linear(number: int, part: str) -> Linear:
        module = stack[number].get_submodule(names[part])
        return Linear(f"{prefix}.{number}.{names[part]}", module.weight, module.bias)

    layers = [
        EncoderLayer(
            qkv=(linear(number, "query"), linear(number, "key"), linear(number, "value")),
            out=linear(number, "out"),
            attention_norm=layer.get_submodule(names["attention_norm"]),
            up=linear(number, "up"),
            down=linear(number, "down"),
            norm=layer.get_submodule(names["norm"]),
        )
        for number, layer in enumerate(stack)
    ]
    # RoBERTa and its kind count positions from after that of padding
    first = embeddings.padding_idx + 1 if hasattr(embeddings, "create_position_ids_from_input_ids") else 0
    with torch.no_grad():
        places = embeddings.position_embeddings.weight[first:]
        types = getattr(embeddings, "token_type_embeddings", None)
        places = places if types is None else places + types.weight[0]
    activation = getattr(stack[0].get_submodule(names["activation"].rpartition(".")[0]), names["activation"].rpartition(".")[2])
    return Encoder(
        embeddings.word_embeddings.weight, places, embeddings.LayerNorm, layers, model.config.num_attention_heads, activation
    )


def _agrees(encoder: Encoder, model: Any) -> bool:
    """Whether the encoder gives the hidden states of transformers for a few tokens."""
    padding = model.config.pad_token_id or 0
    tokens = [number for number in range(model.config.vocab_size) if number != padding][: max(PROBE)]
    mask = torch.tensor([[int(place < length) for place in range(len(tokens))] for length in PROBE])
    ids = torch.tensor(tokens).expand_as(mask).masked_fill(mask == 0, padding)
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        expected: Tensor = model(input_ids=ids, attention_mask=mask).last_hidden_state[mask.bool()]
        own = encoder(ids, mask)[mask.bool()]
    return bool((own - expected).abs().max() <= CLOSE * expected.abs().max())
