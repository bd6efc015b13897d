"""Losses for one label out of several; cross_entropy and focal also work on an answer's tokens."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from vertical_sdk.catalog import NotNegative, Share, losses
from vertical_sdk.errors import RecipeError, did_you_mean
from vertical_sdk.types import LabelSpace

__all__ = ["IGNORE", "class_balanced", "cross_entropy", "focal", "logit_adjusted"]

IGNORE = -100


def select_labelled(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The rows whose label is not IGNORE."""
    keep = labels != IGNORE
    return (logits, labels) if bool(keep.all()) else (logits[keep], labels[keep])


def mean(values: Tensor, logits: Tensor) -> Tensor:
    """The mean of the rows' values; 0, with a gradient of 0, if there are none."""
    return values.mean() if len(values) else logits.sum() * 0.0


def class_weights(space: LabelSpace, beta: float) -> Tensor:
    """A weight for each label, (labels,) float64, by its effective number of training rows (Cui et al., 2019).

    A label with n training rows weighs (1 - beta) / (1 - beta^n); weights are scaled so that they average 1 over the training
    rows.
    """
    counts = torch.tensor([max(1, space.counts.get(label, 0)) for label in space.labels], dtype=torch.float64)
    weights = (1 - beta) / (1 - beta**counts) if beta < 1 else 1 / counts
    return weights * counts.sum() / (weights * counts).sum()


def miss_costs(space: LabelSpace | None, costs: Mapping[str, float]) -> Tensor:
    """What a miss of each label costs, (labels,) float64.

    Raises RecipeError for a cost of an unknown label.
    """
    known = space.labels if space else ()
    if unknown := [label for label in costs if label not in known]:
        raise RecipeError(
            f"costs: {', '.join(map(repr, unknown))} is not a label of this task.{did_you_mean(unknown[0], known)} "
            f"Labels: {', '.join(known) or 'none'}.",
            where="loss",
        )
    return torch.tensor([costs.get(label, 1.0) for label in known], dtype=torch.float64)


@losses.register("cross_entropy", tasks=("classification", "ordinal", "generation", "language"))
def cross_entropy(logits: Tensor, labels: Tensor, *, smoothing: Share = 0.0) -> Tensor:
    """The negative log-probability of the label.

    logits     (batch, classes)  float
    labels     (batch,)          int64, IGNORE for rows without a label
    smoothing  share of the probability that is spread over all classes (Szegedy et al., 2016)
    returns    ()                mean over labelled rows, 0 if there are none
    """
    rows, target = select_labelled(logits, labels)
    return mean(F.cross_entropy(rows, target, reduction="none", label_smoothing=smoothing), logits)


@losses.register("focal", tasks=("classification", "ordinal", "generation", "language"))
def focal(
    logits: Tensor,
    labels: Tensor,
    space: LabelSpace | None = None,
    *,
    gamma: NotNegative = 2.0,
    costs: dict[str, NotNegative] | None = None,
) -> Tensor:
    """Cross-entropy that pays less attention to examples already right (Lin et al., 2017).

    logits   (batch, classes)  float
    labels   (batch,)          int64, IGNORE for rows without a label
    gamma    0 is cross-entropy
    costs    label → what a miss of it costs (alpha of the paper); 1 for other labels
    returns  ()                mean over labelled rows, 0 if there are none

    Raises RecipeError for a cost of an unknown label.
    """
    rows, target = select_labelled(logits, labels)
    logp = rows.log_softmax(-1).gather(1, target[:, None])[:, 0]
    values = -((1 - logp.exp()) ** gamma) * logp
    if costs:
        values = values * miss_costs(space, costs).to(logits)[target]
    return mean(values, logits)


@losses.register("class_balanced", tasks=("classification", "ordinal"))
def class_balanced(
    logits: Tensor, labels: Tensor, space: LabelSpace, *, beta: Share = 0.999, gamma: NotNegative = 0.0, smoothing: Share = 0.0
) -> Tensor:
    """Cross-entropy or focal loss in which a rare label counts more, by its effective number of rows (Cui et al., 2019).

    A label with n training rows weighs (1 - beta) / (1 - beta^n); weights are scaled so that they average 1 over the training
    rows.

    logits   (batch, classes)  float
    labels   (batch,)          int64, IGNORE for rows without a label
    beta     0: all labels weigh the same; towards 1: as 1/n
    gamma    of the focal loss; 0 switches it off
    returns  ()                mean over labelled rows, 0 if there are none
    """
    rows, target = select_labelled(logits, labels)
    weights = class_weights(space, beta).to(logits)
    values = F.cross_entropy(rows, target, reduction="none", label_smoothing=smoothing)
    if gamma:
        values = values * (1 - rows.softmax(-1).gather(1, target[:, None])[:, 0]) ** gamma
    return mean(values * weights[target], logits)


@losses.register("logit_adjusted", tasks=("classification", "ordinal"))
def logit_adjusted(logits: Tensor, labels: Tensor, space: LabelSpace, *, tau: float = 1.0, smoothing: Share = 0.0) -> Tensor:
    """Cross-entropy with the labels' prior added to the logits in training, so that rare labels are predicted more often (Menon et al., 2021).

    logits   (batch, classes)  float
    labels   (batch,)          int64, IGNORE for rows without a label
    tau      strength; 0 is cross-entropy
    returns  ()                mean over labelled rows, 0 if there are none
    """
    rows, target = select_labelled(logits, labels)
    counts = torch.tensor([max(1, space.counts.get(label, 0)) for label in space.labels]).to(logits)
    adjusted = rows + tau * (counts / counts.sum()).log()
    return mean(F.cross_entropy(adjusted, target, reduction="none", label_smoothing=smoothing), logits)
