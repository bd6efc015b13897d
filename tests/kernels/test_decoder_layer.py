"""A layer as one step of autograd gives what the modules of transformers and PEFT give."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch
import transformers
from torch import Tensor

from vertical_sdk.kernels.attention import short_attention
from vertical_sdk.kernels.decoder_layer import fused_layers
from vertical_sdk.kernels.packing import plan_layout, use_layout

SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 80,
    "max_position_embeddings": 512,
    "attn_implementation": "sdpa",
}
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "llama": (transformers.LlamaConfig, {}),
    "llama with biases": (transformers.LlamaConfig, {"attention_bias": True, "mlp_bias": True}),
    "mistral": (transformers.MistralConfig, {"sliding_window": 6}),
    "qwen2": (transformers.Qwen2Config, {}),
    "qwen3": (transformers.Qwen3Config, {"head_dim": 16}),
}
ROWS = [[1, 2, 3, *range(4, 4 + length)] for length in (2, 9, 10, 30)]
"""Rows that begin alike."""


def _model(kind: str, **lora: Any) -> Any:
    config_class, more = KINDS[kind]
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config_class(**SIZES, **more))
    for name, weight in model.named_parameters():
        torch.nn.init.normal_(weight, mean=float("norm" in name), std=0.2)
    settings = {"r": 4, "lora_alpha": 12, "target_modules": "all-linear", **lora}
    adapted: Any = peft.get_peft_model(model, peft.LoraConfig(**settings))
    for name, weight in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.2)
    return adapted


def _gradients(model: Any, states: list[Tensor]) -> dict[str, Tensor]:
    """Gradients of a sum over all states of the rows that is different for each number."""
    model.zero_grad()
    sum((torch.sin(state + torch.arange(state.shape[-1])) ** 2).sum() for state in states).backward()  # type: ignore[union-attr]
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def _read_packed(model: Any, *, share: bool) -> list[Tensor]:
    """The states of each row, where the last layer is one step of autograd."""
    layout, steps = plan_layout(ROWS, share=share), list[str]()
    last = model.get_base_model().model.layers[-1]
    hook = last.register_forward_hook(lambda *call: steps.append(call[-1].grad_fn.next_functions[0][0].name()))
    with use_layout(layout):
        made = model.get_base_model().model(
            input_ids=torch.tensor([layout.place(ROWS)]), position_ids=layout.positions, use_cache=False
        )
    hook.remove()
    assert steps == ["_DecoderLayerBackward"]
    packed = made.last_hidden_state[0]
    starts, counts = layout.starts.tolist(), layout.counts.tolist()
    own = [packed[start : start + count] for start, count in zip(starts, counts, strict=True)]
    return [torch.cat([packed[: layout.shared], part]) for part in own]


@pytest.mark.parametrize("share", [False, True], ids=["", "shared"])
@pytest.mark.parametrize("kind", KINDS)
def test_states_and_gradients_are_those_of_peft(kind: str, share: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vertical_sdk.kernels.decoder_layer.BLOCK", 16)
    monkeypatch.setattr("vertical_sdk.kernels.attention.BLOCK", 8)
    model = _model(kind)

    plain = [model.get_base_model().model(torch.tensor([row]), use_cache=False).last_hidden_state[0] for row in ROWS]
    expected = _gradients(model, plain)
    with short_attention(model), fused_layers(model):
        states = _read_packed(model, share=share)
        gradients = _gradients(model, states)

    for one, other in zip(states, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert gradients.keys() == expected.keys() != set()
    for name, gradient in expected.items():
        assert (gradients[name] - gradient).norm() < 1e-4 * gradient.norm(), name


@pytest.mark.parametrize("targets", [["v_proj"], ["q_proj", "down_proj"], ["o_proj", "up_proj"]], ids=" ".join)
def test_layers_without_lora_are_computed_too(targets: list[str]) -> None:
    model = _model("qwen2", target_modules=targets, layers_to_transform=[1])

    plain = [model.get_base_model().model(torch.tensor([row]), use_cache=False).last_hidden_state[0] for row in ROWS]
    expected = _gradients(model, plain)
    with short_attention(model), fused_layers(model):
        gradients = _gradients(model, _read_packed(model, share=True))

    assert gradients.keys() == expected.keys()
    assert {name.split(".")[4] for name in gradients} == {"1"}
    for name, gradient in expected.items():
        assert (gradients[name] - gradient).norm() < 1e-4 * gradient.norm(), name
