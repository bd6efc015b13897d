from __future__ import annotations

import math

import pytest
import torch

from vertical_sdk.losses import IGNORE
from vertical_sdk.losses.classification import class_balanced
from vertical_sdk.losses.hierarchical import family_log_probabilities, hierarchical
from vertical_sdk.types import LabelSpace

LABELS = ("cat", "dog", "oak")
SPACE = LabelSpace(LABELS, counts={"cat": 60, "dog": 30, "oak": 10}, parents={"cat": "animal", "dog": "animal"})
P = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]])


def test_a_family_has_the_probabilities_of_its_labels_together() -> None:
    found = family_log_probabilities(P.log(), SPACE).exp()

    torch.testing.assert_close(found, torch.tensor([[0.8, 0.8, 0.2], [0.7, 0.7, 0.3]]))


def test_the_loss_is_the_labels_part_and_the_familys() -> None:
    # row 1 is a dog, row 2 an oak, which is its own family
    expected = (-math.log(0.3) - 0.5 * math.log(0.8) - math.log(0.3) - 0.5 * math.log(0.3)) / 2

    assert hierarchical(P.log(), torch.tensor([1, 2]), SPACE, weight=0.5).item() == pytest.approx(expected, rel=1e-5)


def test_a_miss_in_the_family_costs_less_than_one_outside() -> None:
    sure_of_cat, sure_of_oak = torch.tensor([[5.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 5.0]])
    dog = torch.tensor([1])

    assert hierarchical(sure_of_cat, dog, SPACE).item() < hierarchical(sure_of_oak, dog, SPACE).item() - 1


@pytest.mark.parametrize(("beta", "gamma", "smoothing"), [(0.0, 0.0, 0.0), (0.99, 0.0, 0.1), (0.9, 2.0, 0.0)])
def test_without_weight_it_is_the_class_balanced_loss(beta: float, gamma: float, smoothing: float) -> None:
    labels = torch.tensor([1, 2])
    options = {"beta": beta, "gamma": gamma, "smoothing": smoothing}

    plain = class_balanced(P.log(), labels, SPACE, **options)

    torch.testing.assert_close(hierarchical(P.log(), labels, SPACE, weight=0.0, **options), plain)


def test_a_rare_label_counts_more_in_both_parts() -> None:
    flat = torch.zeros(1, 3)
    lone = LabelSpace(LABELS, counts=SPACE.counts)  # no families: every label is its own

    by = [hierarchical(flat, torch.tensor([i]), lone, weight=1.0, beta=1.0).item() for i in range(3)]

    # weights of 1/n, scaled to average 1 over the 100 rows: 100 / (3 n)
    assert by == pytest.approx([2 * math.log(3) * 100 / (3 * n) for n in (60, 30, 10)], rel=1e-5)


def test_its_gradient_is_finite_for_far_logits_and_zero_without_labels() -> None:
    far = torch.tensor([[200.0, -200.0, 0.0], [-300.0, 300.0, 300.0]], requires_grad=True)
    hierarchical(far, torch.tensor([1, 0]), SPACE, beta=0.9).backward()  # type: ignore[no-untyped-call]
    assert far.grad is not None
    assert far.grad.isfinite().all()

    none = torch.randn(2, 3, requires_grad=True)
    loss = hierarchical(none, torch.tensor([IGNORE, IGNORE]), SPACE)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0.0
    assert none.grad is not None
    assert not none.grad.any()
