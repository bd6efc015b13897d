from __future__ import annotations

import pytest
import torch

from vertical_sdk.errors import RecipeError
from vertical_sdk.losses.forecasting import masked_mae, quantile

NAN = float("nan")
LABELS = torch.tensor(
    [[[10.0, 20.0], [30.0, NAN]], [[NAN, NAN], [NAN, NAN]], [[0.0, 0.0], [0.0, 8.0]]]
)  # 3 rows, 2 steps, 2 channels


def as_logits(median: list[list[list[float]]]) -> torch.Tensor:
    return torch.tensor(median).unsqueeze(-1)


LOGITS = as_logits([[[12.0, 20.0], [29.0, 7.0]], [[1.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]])


def test_each_row_counts_alike_however_much_of_it_is_known() -> None:
    expected = ((2 + 0 + 1) / 3 + 8 / 4) / 2 / 2.0  # rows 1 and 3, in units of a scale of 2

    torch.testing.assert_close(masked_mae(LOGITS, LABELS, 2.0), torch.tensor(expected))


def test_quantile_loss_of_the_median_is_the_absolute_error() -> None:
    torch.testing.assert_close(quantile(LOGITS, LABELS, 2.0, (0.5,)), masked_mae(LOGITS, LABELS, 2.0))


def test_quantile_loss_costs_nine_times_more_below_the_upper_decile() -> None:
    labels = torch.tensor([[[10.0]]])

    below = quantile(torch.tensor([[[[9.0]]]]), labels, 1.0, (0.9,))
    above = quantile(torch.tensor([[[[11.0]]]]), labels, 1.0, (0.9,))

    torch.testing.assert_close((below, above), (torch.tensor(2 * 0.9), torch.tensor(2 * 0.1)))


def test_quantile_loss_is_lowest_at_the_quantile() -> None:
    labels = torch.arange(100.0)[:, None, None]
    losses = [float(quantile(torch.full((100, 1, 1, 1), float(value)), labels, 1.0, (0.9,))) for value in range(100)]

    assert losses.index(min(losses)) in {89, 90}


def test_quantile_loss_needs_an_output_for_each_level() -> None:
    with pytest.raises(RecipeError, match="1 outputs for the 3 quantiles"):
        quantile(LOGITS, LABELS, 1.0, (0.5, 0.1, 0.9))


@pytest.mark.parametrize("unknown", [False, True])
def test_gradients_are_finite_and_none_comes_from_what_is_not_known(unknown: bool) -> None:
    labels = torch.full_like(LABELS, NAN) if unknown else LABELS
    logits = LOGITS.repeat(1, 1, 1, 2).requires_grad_()

    (quantile(logits, labels, 2.0, (0.5, 0.9)) + masked_mae(logits, labels, 2.0)).backward()

    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert not logits.grad[labels.isnan()].any()
    assert unknown or logits.grad[0, 0, 0].any()


def test_a_batch_is_the_weighted_mean_of_its_parts() -> None:
    whole = quantile(LOGITS, LABELS, 2.0, (0.5,))

    parts = [quantile(LOGITS[i : i + 1], LABELS[i : i + 1], 2.0, (0.5,)) for i in (0, 2)]

    torch.testing.assert_close(whole, sum(parts) / 2)
