"""Tiny networks of several architectures with adapters of several ranks."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch
import transformers

from vertical_sdk.families.lora import hide_peft_notice
from vertical_sdk.families.shared_base import read_context, share_weights

VOCABULARY = 96
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 80,
    "max_position_embeddings": 256,
    "eos_token_id": 1,
    "pad_token_id": 0,
    "bos_token_id": None,
}
KINDS: dict[str, dict[str, Any]] = {
    "Llama": {"attention_bias": True, "mlp_bias": True},
    "Mistral": {"sliding_window": None, "head_dim": 16},
    "Qwen2": {"tie_word_embeddings": True},
    "Qwen3": {"head_dim": 24},
}


def build_network(kind: str, *, seed: int = 0, **settings: Any) -> Any:
    """A random network of transformers, with every weight other than its default."""
    config: Any = getattr(transformers, f"{kind}Config")(**{**SIZES, **KINDS[kind], **settings})
    torch.manual_seed(seed)
    model: Any = getattr(transformers, f"{kind}ForCausalLM")(config)
    for weight in model.parameters():  # norms begin at 1 and biases at 0, where a mistake would not show
        weight.data.add_(torch.randn_like(weight) * 0.15)
    return model.requires_grad_(False).eval()


def add_adapter(model: Any, seed: int, **settings: Any) -> Any:
    """An adapter by PEFT on layers of its own around the network's weights."""
    torch.manual_seed(seed)
    config = peft.LoraConfig(task_type="CAUSAL_LM", **{"r": 4, "lora_alpha": 6, "target_modules": "all-linear", **settings})
    with hide_peft_notice():
        adapted: Any = peft.get_peft_model(share_weights(model), config)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    read_context(adapted)
    return adapted.requires_grad_(False).eval()


def adapters_of(model: Any) -> list[Any]:
    """Adapters of different ranks, scales and layers."""
    return [
        add_adapter(model, 1, r=4),
        add_adapter(model, 2, r=2, target_modules=["q_proj", "v_proj"], lora_alpha=20),
        add_adapter(model, 3, r=8, rank_pattern={"down_proj": 3}, alpha_pattern={"k_proj": 30}),
        add_adapter(model, 4, r=3, target_modules=["gate_proj", "o_proj"], use_rslora=True),
    ]


def write_plainly(model: Any, prompt: tuple[int, ...], tokens: int) -> list[int]:
    """The likeliest tokens by transformers, read again from the start for each token."""
    ids = list(prompt)
    with torch.inference_mode():
        for _ in range(tokens):
            ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def prompts_of(count: int, *, seed: int = 0, common: int = 0) -> list[tuple[int, ...]]:
    """Random prompts of different lengths, of which the first `common` tokens are the same."""
    generator = torch.Generator().manual_seed(seed)
    begin = torch.randint(2, VOCABULARY, (common,), generator=generator).tolist()
    lengths = torch.randint(1, 12, (count,), generator=generator).tolist()
    return [(*begin, *torch.randint(2, VOCABULARY, (length,), generator=generator).tolist()) for length in lengths]


@pytest.fixture(scope="session", params=list(KINDS))
def network(request: pytest.FixtureRequest) -> Any:
    """A network of each architecture."""
    return build_network(request.param)


@pytest.fixture(scope="session")
def llama() -> Any:
    """A network of one architecture."""
    return build_network("Llama")
