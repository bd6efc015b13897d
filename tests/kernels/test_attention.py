from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from vertical_sdk.families.lora import with_lora
from vertical_sdk.kernels import attention
from vertical_sdk.kernels.attention import short_attention

SIZES = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 50}


def _bert() -> Any:
    config: Any = transformers.BertConfig(**SIZES, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return transformers.BertModel(config, add_pooling_layer=False)


def _llama() -> Any:
    """Causal, and each key is shared by two queries."""
    return transformers.LlamaModel(transformers.LlamaConfig(**SIZES, num_key_value_heads=2))


MODELS = {"bert": _bert, "llama": _llama}
FULL, CUT = [[1] * 9] * 3, [[1] * 9, [1] * 6 + [0] * 3, [1] * 2 + [0] * 7]


def _adapted(kind: str) -> Any:
    torch.manual_seed(0)
    model = with_lora(MODELS[kind](), {"r": 4}, None, "test")
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return model


def _run(model: Any, mask: list[list[int]], *, bf16: bool = False) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """What it makes of three rows, and the gradients of a number that only real tokens count in."""
    shown = torch.tensor(mask)
    ids = torch.arange(27).view(3, 9) % 50
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        out = model(input_ids=ids, attention_mask=shown, use_cache=False).last_hidden_state * shown[..., None]
    (out.float() * torch.linspace(-1, 1, out.shape[-1])).square().sum().backward()
    return out.detach().float(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """The types in which our attention was computed, a layer each."""
    made: list[torch.dtype] = []
    apply = attention._Attention.apply
    monkeypatch.setattr(attention._Attention, "apply", lambda *a: (made.append(a[0].dtype), apply(*a))[1])
    return made


@pytest.mark.parametrize("mask", [FULL, CUT], ids=["full", "cut"])
@pytest.mark.parametrize("kind", MODELS)
def test_outputs_and_gradients_are_those_of_pytorch(kind: str, mask: list[list[int]], calls: list[torch.dtype]) -> None:
    model = _adapted(kind)

    out, gradients = _run(model, mask)
    with short_attention(model):
        own, own_gradients = _run(model, mask)

    assert calls == [torch.float32] * 2
    assert own == pytest.approx(out, abs=1e-5)
    assert own_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert (own_gradients[name] - gradient).norm() <= 1e-4 * gradient.norm(), name


@pytest.mark.parametrize("kind", MODELS)
def test_under_autocast_it_computes_in_bfloat16(kind: str, calls: list[torch.dtype]) -> None:
    model = _adapted(kind)

    out, gradients = _run(model, CUT)
    with short_attention(model):
        own, own_gradients = _run(model, CUT, bf16=True)

    assert calls == [torch.bfloat16] * 2
    assert own == pytest.approx(out, abs=0.1)  # bfloat16 keeps eight bits
    for name, gradient in gradients.items():
        assert (own_gradients[name] - gradient).norm() < 0.1 * gradient.norm(), name


def test_a_row_without_any_token_gives_numbers(calls: list[torch.dtype]) -> None:
    model = _adapted("bert")

    with short_attention(model):
        out, gradients = _run(model, [[1] * 9, [0] * 9, [1] * 9], bf16=True)

    assert calls
    assert out.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients.values())


def test_answers_and_long_rows_are_left_to_pytorch(calls: list[torch.dtype], monkeypatch: pytest.MonkeyPatch) -> None:
    model = _adapted("bert")

    with short_attention(model):
        with torch.no_grad():
            model(input_ids=torch.ones(1, 9, dtype=torch.long))
        monkeypatch.setattr(attention, "LONGEST", 8)
        _run(model, FULL)

    assert calls == []


def test_other_attention_implementations_are_unchanged(calls: list[torch.dtype]) -> None:
    model = _adapted("bert")
    model.get_base_model().set_attn_implementation("eager")

    with short_attention(model):
        _run(model, FULL)

    assert calls == []


def test_the_model_is_restored_afterwards(calls: list[torch.dtype]) -> None:
    model = _adapted("bert")

    with pytest.raises(RuntimeError, match="stop"), short_attention(model):
        raise RuntimeError("stop")
    _run(model, FULL)

    assert model.get_base_model().config._attn_implementation == "sdpa"
    assert calls == []
