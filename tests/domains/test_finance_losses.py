import math

import pytest
import torch

from vertical_sdk.catalog import losses
from vertical_sdk.errors import RecipeError
from vertical_sdk.losses import IGNORE
from vertical_sdk.types import LabelSpace

torch.set_num_threads(1)
EVEN = LabelSpace(("low", "middle", "high"), counts={"low": 5, "middle": 5, "high": 5})
RARE = LabelSpace(("low", "middle", "high"), counts={"low": 1, "middle": 8, "high": 1})
TWO = LabelSpace(("good", "bad"), counts={"good": 7, "bad": 3})

cost_sensitive, signed_return = (losses.get(f"finance.{n}") for n in ("cost_sensitive", "signed_return"))


def by_hand(bad: float, label: int, share: float, softness: float) -> float:
    """Two labels, costs 1 and 5 scaled to 0.2 and 1."""
    accept, refuse = bad * 1.0, (1 - bad) * 0.2
    refused = 1 / (1 + math.exp((refuse - accept) / softness))
    cost = refused * 0.2 if label == 0 else (1 - refused) * 1.0
    return share * -math.log(bad if label else 1 - bad) + (1 - share) * cost


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("bad", [0.05, 1 / 6, 0.4])
def test_the_cost_is_that_of_the_softened_decision(label: int, bad: float) -> None:
    logits = torch.tensor([[math.log(1 - bad), math.log(bad)]])

    found = float(cost_sensitive(logits, torch.tensor([label]), TWO, cross_entropy=0.3, softness=0.05))

    assert found == pytest.approx(by_hand(bad, label, 0.3, 0.05), rel=1e-4)


def test_a_bad_risk_accepted_costs_five_times_a_good_one_refused() -> None:
    sure = torch.tensor([[20.0, -20.0], [-20.0, 20.0]])

    accepted = float(cost_sensitive(sure[:1], torch.tensor([1]), TWO, cross_entropy=0.0, softness=0.01))
    refused = float(cost_sensitive(sure[1:], torch.tensor([0]), TWO, cross_entropy=0.0, softness=0.01))

    assert accepted / refused == pytest.approx(5, rel=1e-3)


def test_any_square_of_costs_will_do_and_no_other() -> None:
    logits, labels = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, IGNORE])
    square = ((0, 1, 4), (2, 0, 1), (9, 3, 0))

    assert 0 < float(cost_sensitive(logits, labels, EVEN, costs=square, cross_entropy=0.0)) < 1
    with pytest.raises(RecipeError, match="3 rows of 3 are needed"):
        cost_sensitive(logits, labels, EVEN)
    with pytest.raises(RecipeError, match="nothing costs anything"):
        cost_sensitive(logits[:, :2], labels[:1], TWO, costs=((0, 0), (0, 0)))
    with pytest.raises(RecipeError, match="costs"):
        losses.check("finance.cost_sensitive", {"costs": [[0, -1], [5, 0]]})


def test_costs_may_be_given_as_lists_of_lists() -> None:
    assert losses.check("finance.cost_sensitive", {"costs": [[0, 1], [5, 0]]})["costs"] == ((0.0, 1.0), (5.0, 0.0))


def test_a_wrong_sign_costs_by_the_size_of_the_return_up_to_the_cap() -> None:
    logits = torch.tensor([[0.02], [0.02], [0.02], [0.02]])
    returns = torch.tensor([0.01, -0.02, -0.5, 0.0])

    each = [float(signed_return(logits[i : i + 1], returns[i : i + 1], 0.02, cap=3.0)) for i in range(4)]

    right, wrong = math.log1p(math.exp(-1)), math.log1p(math.exp(1))
    assert each == pytest.approx([0.5 * right, 1 * wrong, 3 * wrong, 0.0], rel=1e-5)
    assert float(signed_return(logits, returns, 0.02)) == pytest.approx(sum(each) / 4, rel=1e-5)


def test_the_unit_of_returns_does_not_matter() -> None:
    logits, returns = torch.tensor([[0.3], [-0.1]]), torch.tensor([0.2, 0.4])

    torch.testing.assert_close(signed_return(logits * 100, returns * 100, 50.0), signed_return(logits, returns, 0.5))


@pytest.mark.parametrize("size", [1.0, 60.0])
def test_gradients_are_finite_even_for_certain_mistakes(size: float) -> None:
    two = torch.tensor([[size, -size]] * 2, requires_grad=True)
    bet = torch.tensor([[size], [-size]], requires_grad=True)

    total = cost_sensitive(two, torch.tensor([0, 1]), TWO) + signed_return(bet, torch.tensor([0.1, 0.1]), 0.01)
    total.backward()  # type: ignore[no-untyped-call]

    assert all(x.grad is not None and torch.isfinite(x.grad).all() for x in (two, bet))


def test_rows_with_nothing_to_learn_cost_nothing() -> None:
    nothing = torch.tensor([IGNORE, IGNORE])

    assert float(cost_sensitive(torch.randn(2, 2), nothing, TWO)) == 0
    assert float(signed_return(torch.zeros(0, 1), torch.zeros(0), 1.0)) == 0


def test_a_batch_is_the_weighted_mean_of_its_parts() -> None:
    logits = torch.randn(5, 2, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 1, 1, 0, 1])

    parts = (2 * cost_sensitive(logits[:2], labels[:2], TWO) + 3 * cost_sensitive(logits[2:], labels[2:], TWO)) / 5

    torch.testing.assert_close(cost_sensitive(logits, labels, TWO), parts)
