from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F

from vertical_sdk import catalog
from vertical_sdk.errors import RecipeError
from vertical_sdk.losses import IGNORE, bind_loss
from vertical_sdk.losses.forecasting import masked_mae
from vertical_sdk.recipe import load_recipe
from vertical_sdk.types import LabelSpace, SeriesLayout

NAN = float("nan")
GRAPH = torch.tensor([[1.0, 0.5, 0.0], [0.2, 1.0, 0.3], [0.0, 0.0, 1.0]])
SPACE = LabelSpace(("slight", "serious"))
smooth_mae = catalog.losses.get("traffic.smooth_mae")
missed_harm = catalog.losses.get("traffic.missed_harm")


def test_errors_that_neighbours_share_cost_nothing_more() -> None:
    labels = torch.randn(2, 4, 3)
    logits = (labels + 2.0)[..., None]

    torch.testing.assert_close(smooth_mae(logits, labels, 1.0, GRAPH, weight=5.0), torch.tensor(2.0))


def test_the_roughness_is_the_formulas() -> None:
    torch.manual_seed(0)
    labels, logits = torch.randn(3, 4, 3), torch.randn(3, 4, 3, 2)
    labels[0, 1, 2] = labels[1, :, 0] = NAN
    labels[2] = NAN

    expected = []
    for row, step in itertools.product(range(2), range(4)):
        error = (logits[row, step, :, 0] - labels[row, step]) / 2.0
        pairs = [(i, j) for i, j in itertools.permutations(range(3), 2) if not (error[i].isnan() or error[j].isnan())]
        weight = sum(float(GRAPH[i, j]) for i, j in pairs)
        rough = sum(float(GRAPH[i, j] * (error[i] - error[j]) ** 2) for i, j in pairs)
        expected.append(rough / weight if weight else 0.0)
    value = smooth_mae(logits, labels, 2.0, GRAPH, weight=0.5)

    torch.testing.assert_close(value, masked_mae(logits, labels, 2.0) + 0.5 * torch.tensor(expected).mean())


@pytest.mark.parametrize("known", [False, True])
def test_gradients_of_smoothness_are_finite(known: bool) -> None:
    labels = torch.randn(2, 4, 3) if known else torch.full((2, 4, 3), NAN)
    logits = torch.zeros(2, 4, 3, 1, requires_grad=True)

    smooth_mae(logits, labels, 1.0, GRAPH, weight=0.3).backward()

    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert bool(logits.grad.any()) == known


def test_a_graph_without_edges_adds_nothing() -> None:
    labels, logits = torch.randn(2, 4, 3), torch.randn(2, 4, 3, 1)

    torch.testing.assert_close(smooth_mae(logits, labels, 1.0, torch.eye(3)), masked_mae(logits, labels, 1.0))


def test_the_recipes_loss_is_given_the_graph() -> None:
    recipe = load_recipe("traffic/flow-forecast", {"loss": {"use": "traffic.smooth_mae", "weight": 0.05}})
    layout = SeriesLayout(("a", "b", "c"), 300.0, 12, 12, GRAPH.numpy())
    labels, logits = torch.randn(2, 12, 3), torch.randn(2, 12, 3, 1)

    bound = bind_loss(recipe, None, 2.0, layout, default="masked_mae")

    torch.testing.assert_close(bound(logits, labels), smooth_mae(logits, labels, 2.0, GRAPH, weight=0.05))


def test_a_missed_serious_casualty_costs_more_than_a_false_alarm() -> None:
    sure = torch.tensor([[9.0, -9.0], [-9.0, 9.0]])

    missed = missed_harm(sure[:1], torch.tensor([1]), SPACE, missed=3.0, cross_entropy=0.0)
    alarmed = missed_harm(sure[1:], torch.tensor([0]), SPACE, missed=3.0, cross_entropy=0.0)
    right = missed_harm(sure, torch.tensor([0, 1]), SPACE, missed=3.0, cross_entropy=0.0)

    torch.testing.assert_close((missed, alarmed, right), (torch.tensor(1.0), torch.tensor(1 / 3), torch.tensor(0.0)))


def test_the_decision_turns_at_the_threshold_that_costs_least() -> None:
    at_threshold = torch.tensor([[0.75, 0.25]]).log()  # 1 / (1 + 3)

    missed = missed_harm(at_threshold, torch.tensor([1]), SPACE, missed=3.0, cross_entropy=0.0)

    torch.testing.assert_close(missed, torch.tensor(0.5))


def test_cross_entropy_alone_is_cross_entropy() -> None:
    logits, labels = torch.randn(4, 2), torch.tensor([0, 1, IGNORE, 1])

    value = missed_harm(logits, labels, SPACE, cross_entropy=1.0)

    torch.testing.assert_close(value, F.cross_entropy(logits[[0, 1, 3]], labels[[0, 1, 3]]))


def test_nothing_to_learn_costs_nothing() -> None:
    logits = torch.randn(2, 2, requires_grad=True)

    missed_harm(logits, torch.tensor([IGNORE, IGNORE]), SPACE).backward()

    assert logits.grad is not None
    assert not logits.grad.any()


def test_harm_is_for_two_labels() -> None:
    with pytest.raises(RecipeError, match="is for two labels, and there are 3"):
        missed_harm(torch.randn(1, 3), torch.tensor([0]), LabelSpace(("a", "b", "c")))
