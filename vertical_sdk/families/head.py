"""The linear layer on top of a backbone, and its start from a linear probe of the frozen base."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vertical_sdk.errors import CorruptAdapter
from vertical_sdk.kernels.threads import use_threads_for
from vertical_sdk.members import take_array
from vertical_sdk.registry.checked_files import CheckedFiles
from vertical_sdk.tasks import get_task
from vertical_sdk.tensors import load_tensors

__all__ = [
    "HEAD",
    "PROBE_HEAD",
    "STRENGTHS",
    "Head",
    "fit_probe",
    "head_from_arrays",
    "head_to_arrays",
    "load_head",
    "save_head",
]

HEAD = "head.safetensors"
STRENGTHS = (1.0, 10.0)
"""Inverse L2 penalties to try for a probe: features have length 1, and with more labels and rows its weights become larger."""
PROBE_HEAD = "probe.safetensors"
"""The linear probe of the frozen base, stored beside the adapter: the head's start, and a baseline in its evaluation."""


class Head(nn.Module):
    """A linear layer; for regression its output is scaled to the mean and spread of the targets.

    features  (batch, width)  → outputs (batch, k): one logit per label, or one number in the target's unit
    """

    def __init__(self, width: int, outputs: int, mean: float = 0.0, std: float = 1.0) -> None:
        super().__init__()
        self.linear = nn.Linear(width, outputs)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, features: Tensor) -> Tensor:
        """Compute the outputs, numbers in the target's unit."""
        with torch.autocast(features.device.type, enabled=False):  # a small product, whose rounding nothing would even out
            outputs: Tensor = self.linear(features.float())
        return outputs * self.std + self.mean


def save_head(folder: Path, head: Head, name: str = HEAD) -> None:
    """Write the head's weights as safetensors."""
    from safetensors.torch import save_file

    save_file({key: value.contiguous() for key, value in head.state_dict().items()}, folder / name)


def load_head(source: CheckedFiles | Path, name: str = HEAD) -> Head:
    """Read a head.

    Raises CorruptAdapter if the file is incomplete or does not contain a head.
    """
    files = CheckedFiles.from_source(source)
    state = load_tensors(files.read(name), files.folder / name)
    try:
        return _build_head(state)
    except (KeyError, ValueError, RuntimeError) as error:
        raise CorruptAdapter(
            f"The adapter's head cannot be read: {error}. Download the adapter again.", where=files.folder / name
        ) from None


def _build_head(state: Mapping[str, Tensor]) -> Head:
    """Build a head from its tensors.

    Raises KeyError, ValueError or RuntimeError if they are not those of a head.
    """
    outputs, width = state["linear.weight"].shape
    if not outputs or not width or state["linear.bias"].shape != (outputs,):
        raise ValueError(
            f"linear.bias has the shape {tuple(state['linear.bias'].shape)}, and linear.weight ({outputs}, {width})"
        )
    head = Head(width, outputs)
    head.load_state_dict(dict(state))
    return head


def head_to_arrays(head: Head) -> dict[str, NDArray[Any]]:
    """Return the head's weights as arrays by name."""
    return {name: value.numpy() for name, value in head.state_dict().items()}


def head_from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Head:
    """Restore a head from the arrays of `head_to_arrays`; other arrays are ignored.

    Raises KeyError if an array is missing, ValueError for a wrong shape.
    """
    weight, bias = take_array(arrays, "linear.weight", None, None), take_array(arrays, "linear.bias", None)
    # the ensemble's file has single numbers as arrays of one
    mean, std = (take_array({name: np.atleast_1d(arrays[name])}, name, 1)[0] for name in ("mean", "std"))
    state = {"linear.weight": weight, "linear.bias": bias, "mean": mean, "std": std}
    return _build_head({name: torch.from_numpy(np.array(values)) for name, values in state.items()})


def fit_probe(
    features: Tensor, targets: Any, task_name: str, outputs: int, *, seed: int = 0, strength: float = STRENGTHS[0]
) -> Head:
    """Fit a linear layer on frozen features: logistic regression, or ridge regression for numbers.

    features  (rows, width) float  the frozen base's features of the rows
    targets   as Encoded.target    one per row
    outputs   number of labels; 1 for regression
    strength  inverse L2 penalty of logistic regression
    returns   a Head in which labels without any row are unlikely
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, Ridge

    task = get_task(task_name)
    x = features.numpy()
    y = np.asarray(targets)
    head = Head(x.shape[1], outputs)
    weight: NDArray[Any] = np.zeros((outputs, x.shape[1]))
    bias: NDArray[Any] = np.full(outputs, -10.0)
    with warnings.catch_warnings(), use_threads_for(x.size * outputs):
        warnings.simplefilter("ignore", ConvergenceWarning)
        if not task.labelled:
            mean, std = float(y.mean()), float(y.std()) or 1.0
            head = Head(x.shape[1], 1, mean, std)
            model = Ridge(alpha=1.0).fit(x, (y - mean) / std)
            weight, bias = model.coef_.reshape(1, -1), np.atleast_1d(model.intercept_)
        elif not task.single_label:
            for label in range(outputs):
                if 0 < y[:, label].sum() < len(y):
                    model = LogisticRegression(C=strength, max_iter=300, random_state=seed).fit(x, y[:, label])
                    weight[label], bias[label] = model.coef_[0], model.intercept_[0]
        else:
            model = LogisticRegression(C=strength, max_iter=300, random_state=seed).fit(x, y)
            if len(model.classes_) == 2:
                weight[model.classes_] = np.concatenate([-model.coef_, model.coef_]) / 2
                bias[model.classes_] = np.concatenate([-model.intercept_, model.intercept_]) / 2
            else:
                weight[model.classes_], bias[model.classes_] = model.coef_, model.intercept_
    with torch.no_grad():
        head.linear.weight.copy_(torch.from_numpy(weight))
        head.linear.bias.copy_(torch.from_numpy(bias))
    return head
