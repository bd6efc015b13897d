from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from vertical_sdk.catalog import losses
from vertical_sdk.errors import RecipeError
from vertical_sdk.losses import IGNORE
from vertical_sdk.losses.classification import class_balanced, cross_entropy, focal, logit_adjusted
from vertical_sdk.losses.forecasting import quantile
from vertical_sdk.losses.multilabel import asymmetric, binary_cross_entropy
from vertical_sdk.losses.ordinal import earth_mover
from vertical_sdk.losses.regression import huber, squared_error
from vertical_sdk.types import LabelSpace

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.5], [9.0, 9.0, 0.0], [-1.0, 0.3, 2.0]])
LABELS = torch.tensor([0, 2, IGNORE, 1])
SPACE = LabelSpace(("a", "b", "c"), counts={"a": 90, "b": 9, "c": 1})


def test_focal_without_focus_is_cross_entropy() -> None:
    expected = F.cross_entropy(LOGITS[[0, 1, 3]], LABELS[[0, 1, 3]])

    torch.testing.assert_close(focal(LOGITS, LABELS, gamma=0.0), expected)
    torch.testing.assert_close(cross_entropy(LOGITS, LABELS), expected)


def test_focal_weighs_a_row_by_how_wrong_it_is() -> None:
    logits, labels = torch.tensor([[0.0, 0.0]]), torch.tensor([1])

    assert focal(logits, labels, gamma=2.0).item() == pytest.approx(0.25 * math.log(2))


def test_focal_makes_a_missed_case_cost_what_the_recipe_says() -> None:
    logits = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    labels = torch.tensor([0, 1])
    space = LabelSpace(("healthy", "ill"))

    found = focal(logits, labels, space, gamma=2.0, costs={"ill": 3.0})

    assert found.item() == pytest.approx((1 + 3) / 2 * 0.25 * math.log(2))
    with pytest.raises(RecipeError, match=r"'il' is not a label of this task. Did you mean 'ill'\?"):
        focal(logits, labels, space, costs={"il": 3.0})


def test_rows_without_a_label_teach_nothing() -> None:
    logits = torch.randn(2, 3, requires_grad=True)

    loss = cross_entropy(logits, torch.tensor([IGNORE, IGNORE]))
    loss.backward()

    assert loss.item() == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_class_balance_weighs_rare_labels_more_with_a_mean_weight_of_one() -> None:
    flat = torch.zeros(1, 3)

    by_label = {label: class_balanced(flat, torch.tensor([i]), SPACE, beta=0.99).item() for i, label in enumerate("abc")}
    effective = {label: (1 - 0.99**n) / 0.01 for label, n in SPACE.counts.items()}

    assert by_label["c"] / by_label["a"] == pytest.approx(effective["a"] / effective["c"], rel=1e-4)
    assert sum(by_label[label] * SPACE.counts[label] for label in "abc") / 100 == pytest.approx(math.log(3), rel=1e-4)


def test_logit_adjustment_is_cross_entropy_behind_the_prior() -> None:
    prior = torch.tensor([0.9, 0.09, 0.01]).log()
    kept = torch.tensor([0, 1, 3])

    torch.testing.assert_close(logit_adjusted(LOGITS, LABELS, SPACE), F.cross_entropy(LOGITS[kept] + prior, LABELS[kept]))


def test_a_far_miss_costs_more_than_a_near_one_where_labels_have_an_order() -> None:
    sure_of_first = torch.tensor([[5.0, 0.0, 0.0]])

    near, far = (earth_mover(sure_of_first, torch.tensor([label]), LabelSpace(("a", "b", "c"))).item() for label in (1, 2))

    assert far > near + 0.5


def test_the_distance_without_weight_is_class_balanced_cross_entropy() -> None:
    ours = earth_mover(LOGITS, LABELS, SPACE, weight=0.0, beta=0.9, smoothing=0.1)

    torch.testing.assert_close(ours, class_balanced(LOGITS, LABELS, SPACE, beta=0.9, smoothing=0.1))


def test_the_distance_is_that_of_the_cumulated_shares_and_rare_labels_weigh_more() -> None:
    # the last value is of a row with the middle label: reached (.2, .5, 1) against wanted (0, 1, 1); as 1/n over 10 rows: 10 / (3 * 8)
    space = LabelSpace(("low", "middle", "high"), counts={"low": 1, "middle": 8, "high": 1})
    logits = torch.tensor([[0.2, 0.3, 0.5]]).log()

    found = earth_mover(logits, torch.tensor([1]), space, weight=2.0, beta=1.0).item()

    assert found == pytest.approx((-math.log(0.3) + 2 * (0.04 + 0.25)) * 10 / 24, rel=1e-5)


def test_asymmetric_without_focus_or_clip_is_binary_cross_entropy() -> None:
    labels = torch.tensor([[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 0]])

    plain = asymmetric(LOGITS, labels, gamma_positive=0.0, gamma_negative=0.0, clip=0.0)

    # 1 - sigmoid(9) keeps four digits in float32
    torch.testing.assert_close(plain, binary_cross_entropy(LOGITS, labels), rtol=1e-4, atol=1e-4)


def test_regression_losses_are_in_units_of_the_targets_spread() -> None:
    outputs, targets = torch.tensor([[10.0], [20.0]]), torch.tensor([14.0, 20.0])

    assert squared_error(outputs, targets, 2.0).item() == pytest.approx(2.0)
    assert huber(outputs, targets, 2.0, delta=1.0).item() == pytest.approx((2.0 - 0.5) / 2)
    # 10 is 4 below the truth, which is 2 spreads: too low costs twice the level, too high twice the rest.
    assert quantile(outputs, targets, 2.0, level=0.9).item() == pytest.approx(2 * 0.9 * 2.0 / 2)
    assert quantile(2 * targets[:, None] - outputs, targets, 2.0, level=0.9).item() == pytest.approx(2 * 0.1 * 2.0 / 2)


def test_quantile_loss_of_a_number_is_lowest_at_the_quantile() -> None:
    targets = torch.arange(101.0)

    costs = [quantile(torch.full((101, 1), float(said)), targets, 1.0, level=0.8).item() for said in range(101)]

    assert costs.index(min(costs)) == 80


@pytest.mark.parametrize("name", [name for name in losses.names() if not losses.part(name).compares_rows])
def test_the_mean_over_a_batch_is_the_weighted_mean_over_its_parts(name: str) -> None:
    torch.manual_seed(0)
    logits = torch.randn(7, 3)
    labels = torch.tensor([0, 1, 2, 1, 0, 2, 2])
    given: dict[str, object] = {}
    if name in {"binary_cross_entropy", "asymmetric"}:
        labels = F.one_hot(labels, 3)
    elif name in {"squared_error", "huber", "quantile"}:
        logits, labels, given = logits[:, :1], labels.float(), {"scale": 1.5}
    elif name == "masked_mae":  # (rows, steps, channels, quantiles)
        logits, labels, given = torch.randn(7, 3, 2, 1), torch.randn(7, 3, 2), {"scale": 1.5}
    elif name in {"class_balanced", "logit_adjusted", "hierarchical", "earth_mover"}:
        given = {"space": SPACE}
    loss = losses.get(name)

    parts = (2 * loss(logits[:2], labels[:2], **given) + 5 * loss(logits[2:], labels[2:], **given)) / 7

    torch.testing.assert_close(loss(logits, labels, **given), parts)
