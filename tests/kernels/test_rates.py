from __future__ import annotations

import json

import pytest
import torch

from vertical_sdk.kernels import rates as module
from vertical_sdk.kernels.rates import Rates, measure_rates, multiply_by_onednn
from vertical_sdk.paths import cache_home


@pytest.fixture(autouse=True)
def _forget() -> None:
    module._measure_once.cache_clear()


def test_rates_are_measured_once_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    first = measure_rates(64)

    module._measure_once.cache_clear()  # as a new process
    monkeypatch.setattr(module, "_measure", lambda width: pytest.fail("measured again"))
    assert measure_rates(64) == first
    assert first.fp32 > 0
    (key,) = json.loads((cache_home() / "rates.json").read_text())
    assert f"torch {torch.__version__}, width 64" in key


@pytest.mark.parametrize(
    ("rates", "bf16", "onednn"),
    [
        (Rates(fp32=152, onednn=143, bf16=980), True, False),  # an Intel processor with AMX
        (Rates(fp32=300, onednn=300, bf16=175), False, False),  # an Intel processor without it
        (Rates(fp32=105, onednn=234, bf16=469), True, True),  # an AMD processor
        (Rates(fp32=105, onednn=234, bf16=0), False, True),  # one without bfloat16
        (Rates(fp32=100, onednn=0, bf16=110), False, False),  # a gain that its conversions take
    ],
)
def test_the_faster_precision_is_preferred(rates: Rates, bf16: bool, onednn: bool) -> None:
    assert (rates.prefers_bf16, rates.prefers_onednn) == (bf16, onednn)


def test_onednn_multiplies_as_pytorch_does() -> None:
    x, weight, bias = torch.randn(7, 24), torch.randn(40, 24), torch.randn(40)

    assert torch.allclose(multiply_by_onednn(x, weight, bias), x @ weight.T + bias, atol=1e-5)
    assert torch.allclose(multiply_by_onednn(x, weight, None), x @ weight.T, atol=1e-5)
