from __future__ import annotations

import contextlib
from typing import Any

import peft
import pytest
import torch
from torch import nn

from vertical_sdk.kernels.fused_lora import _LoraLinear, fused_lora
from vertical_sdk.kernels.precision import frozen_weights_in_bfloat16


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(24, 40), nn.Linear(40, 8, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x).tanh())


def _adapted(**settings: Any) -> Any:
    torch.manual_seed(0)
    model = peft.get_peft_model(Two(), peft.LoraConfig(r=4, lora_alpha=12, target_modules=["first", "second"], **settings))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.1)
    return model


def _run(model: Any, *, fused: bool, bf16: bool = True, onednn: bool = False) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(1)
    x = torch.randn(3, 5, 24)
    model.zero_grad()
    with frozen_weights_in_bfloat16(model, enabled=bf16), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        with fused_lora(model, onednn=onednn) if fused else contextlib.nullcontext():
            out = model(x)
        (out.float() ** 2).sum().backward()
    return out.detach().float(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_one_operation_gives_what_six_give() -> None:
    model = _adapted()

    out, gradients = _run(model, fused=False)
    fused_out, fused_gradients = _run(model, fused=True)

    assert fused_out == pytest.approx(out, rel=0.03, abs=0.03)  # bfloat16 keeps eight bits
    assert fused_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert (fused_gradients[name] - gradient).norm() < 0.02 * gradient.norm(), name


@pytest.mark.parametrize("onednn", [False, True])
def test_in_float32_it_is_the_same_to_rounding(onednn: bool) -> None:
    model = _adapted()

    out, gradients = _run(model, fused=False, bf16=False)
    fused_out, fused_gradients = _run(model, fused=True, bf16=False, onednn=onednn)

    assert fused_out.dtype == torch.float32
    assert (fused_out - out).norm() < 1e-6 * out.norm()
    assert fused_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert (fused_gradients[name] - gradient).norm() < 1e-6 * gradient.norm(), name


def test_weights_in_float32_under_autocast_stay_with_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _adapted()
    monkeypatch.setattr(_LoraLinear, "apply", lambda *_: pytest.fail("computed in another type than autocast's"))

    with fused_lora(model), torch.autocast("cpu", torch.bfloat16):
        assert model(torch.randn(3, 24)).dtype == torch.bfloat16


def test_the_layers_are_restored_afterwards() -> None:
    model = _adapted()
    before = [layer.forward.__qualname__ for layer in model.modules() if isinstance(layer, peft.tuners.lora.Linear)]

    with frozen_weights_in_bfloat16(model, enabled=True), fused_lora(model):
        within = [layer.forward.__qualname__ for layer in model.modules() if isinstance(layer, peft.tuners.lora.Linear)]

    assert [layer.forward.__qualname__ for layer in model.modules() if isinstance(layer, peft.tuners.lora.Linear)] == before
    assert all("_fused_forward" in name for name in within)


@pytest.mark.parametrize("settings", [{"lora_dropout": 0.1}, {"use_dora": True}], ids=str)
def test_lora_variants_keep_the_forward_of_peft(settings: dict[str, Any]) -> None:
    model = _adapted(**settings)

    with frozen_weights_in_bfloat16(model, enabled=True), fused_lora(model):
        assert not any("forward" in vars(layer) for layer in model.modules() if isinstance(layer, peft.tuners.lora.Linear))
