from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from vertical_sdk.kernels.sampling import sample_token


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 1.0},
        {"temperature": 0.7, "top_k": 5},
        {"temperature": 1.3, "top_p": 0.8},
        {"temperature": 0.9, "top_p": 0.6, "top_k": 20},
        {"temperature": 5.0, "top_p": 0.99},
    ],
)
@pytest.mark.parametrize("size", [40, 1000])
def test_tokens_are_drawn_with_the_probabilities_of_transformers(settings: dict[str, Any], size: int) -> None:
    scores = torch.randn(size, generator=torch.Generator().manual_seed(0)) * 2
    warped = TemperatureLogitsWarper(settings["temperature"])(None, scores[None].double())
    if "top_k" in settings:
        warped = TopKLogitsWarper(settings["top_k"])(None, warped)
    if "top_p" in settings:
        warped = TopPLogitsWarper(settings["top_p"])(None, warped)
    expected = warped[0].softmax(-1)
    draws = (torch.arange(4000) + 0.5) / 4000

    tokens = torch.tensor([sample_token(scores, float(draw), **settings) for draw in draws])

    shares = torch.bincount(tokens, minlength=size) / len(draws)
    torch.testing.assert_close(shares.double(), expected, atol=1.01 / 4000, rtol=0)


def test_the_smallest_and_the_largest_draw_are_tokens() -> None:
    scores = torch.tensor([-torch.inf, 0.0, 1.0, -torch.inf])

    assert sample_token(scores, 0.0) == 1
    assert sample_token(scores, 1 - 2**-53) == 2
    assert sample_token(torch.zeros(3), 1 - 2**-53, top_p=1e-9) in {0, 1, 2}
