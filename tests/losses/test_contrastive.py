from __future__ import annotations

import math

import pytest
import torch

from vertical_sdk.losses.contrastive import info_nce


def test_info_nce_is_surprise_of_counterpart_among_other_rows() -> None:
    features = torch.tensor(
        [[2.0, 0.0], [3.0, 4.0], [0.0, 5.0], [-1.0, 0.0]]
    )  # cosines with row 0: .6, 0, -1; with row 1: .6, .8, -.6
    keys = torch.tensor([7, 7, 9, 8])

    first = -0.6 + math.log(math.exp(0.6) + math.exp(0.0) + math.exp(-1.0))
    second = -0.6 + math.log(math.exp(0.6) + math.exp(0.8) + math.exp(-0.6))

    assert float(info_nce(features, keys, temperature=1.0)) == pytest.approx((first + second) / 2, rel=1e-6)


def test_row_with_several_counterparts_has_their_mean_surprise() -> None:
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    keys = torch.tensor([1, 1, 1])

    outer = (math.log(math.exp(0) + math.exp(-2)) + math.log(math.exp(0) + math.exp(-2)) + 2) / 2  # similarities 0 and -2
    inner = math.log(2)  # of two equal similarities

    assert float(info_nce(features, keys, temperature=0.5)) == pytest.approx((2 * outer + inner) / 3, rel=1e-6)


def test_rows_without_counterpart_give_loss_and_gradient_zero() -> None:
    features = torch.randn(3, 4, requires_grad=True)

    loss = info_nce(features, torch.tensor([1, 2, 3]))
    loss.backward()

    assert loss.item() == 0.0
    assert features.grad is not None
    assert not features.grad.any()
