"""The adapter and its members as one model: a stacker combines what they say.

Wolpert, Stacked Generalization, 1992. Each system's probabilities p are pooled by their logarithms (Genest and Zidek, 1986):

    log P(label) = w_0 log p_adapter(label) + w_1 log p_1(label) + ... + constant        w ≥ 0

One weight a system, whatever the number of labels, so that a few hundred rows suffice. They are the most likely ones on the
validation rows, which the adapter was not trained on and of which each member speaks as one fitted without them (out of fold), so
the pooled probabilities are calibrated. A yes-or-no decision (two labels, or each label of a multilabel task) has a bias too. A
weak normal prior holds weights near an equal share, and biases near 0. Numbers are pooled as a weighted sum; forecasts as a weighted
mean, whose weights have the least absolute error, and the adapter's quantiles move with its median.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertical_sdk import catalog
from vertical_sdk.baselines.fitted import Arrays, Fitted, as_bytes, from_bytes, pack, unpack
from vertical_sdk.calibration.stacking import pool
from vertical_sdk.data.texts import stable_hash
from vertical_sdk.errors import CorruptAdapter
from vertical_sdk.outputs import Outputs
from vertical_sdk.recipe import Part, Recipe
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, LabelSpace, Progress, Task, silent

__all__ = ["ENSEMBLE", "Ensemble", "fit_ensemble", "load_ensemble", "save_ensemble"]

ENSEMBLE = "ensemble.safetensors"
FOLDS = 3
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ensemble:
    """What stands beside an adapter.

    names     the members, as the recipe has them
    members  fitted on training and validation rows
    weights   (1 + members,) the adapter's first
    bias      (k,)
    offsets   how each member would choose labels by itself, for when it is asked as a baseline
    """

    task: Task
    parts: tuple[Part, ...]
    members: tuple[Fitted, ...]
    weights: Floats
    bias: Floats
    offsets: tuple[tuple[float, ...], ...]

    def fuse(self, own: NDArray[Any], rows: Sequence[Example], base: Any) -> NDArray[np.float32]:
        """The raw outputs of the whole from those of the adapter, in the same shape: logits, numbers, or quantiles.

        base  the general model (`General`), for members that need it
        """
        task = get_task(self.task)
        systems = [task.raw_evidence(own), *(task.evidence(member.ask(rows, base)) for member in self.members)]
        return task.pooled_raw(own, pool(systems, self.weights, self.bias))

    def ask_member(self, part: Part, rows: Sequence[Example], base: Any) -> Outputs | None:
        """What the member of that name and those arguments says by itself; None where there is none."""
        for one, fitted, offsets in zip(self.parts, self.members, self.offsets, strict=True):
            if one == part:
                return replace(fitted.ask(rows, base), offsets=np.array(offsets) if offsets else None)
        return None

    @property
    def shares(self) -> dict[str, float]:
        """System → weight, for people."""
        return dict(zip(["adapter", *(part.use for part in self.parts)], map(float, self.weights), strict=True))


def fit_ensemble(
    recipe: Recipe,
    train: Sequence[Example],
    validation: Sequence[Example],
    own: NDArray[Any],
    labels: LabelSpace | None,
    seed: int,
    base: Any,
    progress: Progress = silent,
) -> tuple[Ensemble, NDArray[np.float32]]:
    """Fit the recipe's members, and the stacker on the validation rows.

    train, validation  rows without augmented copies
    own                the adapter's raw outputs for the validation rows, (rows, k)

    For each of 3 folds of the validation rows (whole groups), a member is fitted on the training rows and the other folds, and
    speaks about the fold; in the end it is fitted on all of them.

    returns  the ensemble, and what it says of the validation rows out of fold, (rows, k) raw: what may be calibrated on, as the
             members that are kept have learned these rows

    Raises what the baselines raise.
    """
    task, parts = get_task(recipe.task), recipe.ensemble
    folds = np.array([stable_hash(seed, row.group or row.id) % FOLDS for row in validation])
    systems = [task.raw_evidence(own)]
    members, offsets = [], []
    for number, part in enumerate(parts):
        arguments = catalog.baselines.check(part.use, part.arguments, f"ensemble.{number}")
        fit = catalog.baselines.get(part.use)
        said: list[tuple[list[int], Outputs]] = []
        for fold in range(FOLDS):
            progress(f"ensemble: {part.use}", fold / (FOLDS + 1))
            held = np.flatnonzero(folds == fold).tolist()
            if not held:
                continue
            learned = [*train, *(row for row, at in zip(validation, folds, strict=True) if at != fold)]
            fitted = fit(learned, labels, task.name, seed, base, **arguments)
            said.append((held, fitted.ask([validation[i] for i in held], base)))
        whole = _in_order(said)
        systems.append(task.evidence(whole))
        offsets.append(task.fit_offsets(whole, validation, labels, recipe))
        member = fit([*train, *validation], labels, task.name, seed, base, **arguments)
        members.append(unpack(part.use, pack(part.use, member, f"ensemble.{number}")))
    weights, bias = task.stack(systems, task.references(validation, labels))
    ensemble = Ensemble(task.name, parts, tuple(members), weights, bias, tuple(offsets))
    return ensemble, task.pooled_raw(own, pool(systems, weights, bias))


def save_ensemble(folder: Path, ensemble: Ensemble) -> None:
    """Write everything into one file beside the adapter."""
    from safetensors.numpy import save_file

    tensors: Arrays = {
        "kept": as_bytes(
            {
                "task": ensemble.task,
                "parts": [part.model_dump() for part in ensemble.parts],
                "offsets": ensemble.offsets,
            }
        ),
        "weights": ensemble.weights,
        "bias": ensemble.bias,
    }
    for number, (part, member) in enumerate(zip(ensemble.parts, ensemble.members, strict=True)):
        tensors |= {f"{number}.{key}": value for key, value in pack(part.use, member, "ensemble").items()}
    save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, folder / ENSEMBLE)


def load_ensemble(folder: Path) -> Ensemble | None:
    """The ensemble of an adapter's folder; None where it has none.

    Raises CorruptAdapter where the file is cut or none of ours.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = folder / ENSEMBLE
    if not path.is_file():
        return None
    try:
        tensors = load_file(path)
        kept = from_bytes(tensors["kept"])
        parts = tuple(Part.model_validate(part) for part in kept["parts"])
        members = tuple(
            unpack(part.use, {key.partition(".")[2]: value for key, value in tensors.items() if key.startswith(f"{number}.")})
            for number, part in enumerate(parts)
        )
        if len(tensors["weights"]) != len(parts) + 1:
            raise ValueError(f"{len(tensors['weights'])} weights for {len(parts)} members")
        offsets = tuple(tuple(one) for one in kept["offsets"])
        return Ensemble(kept["task"], parts, members, tensors["weights"], tensors["bias"], offsets)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, json.JSONDecodeError) as error:
        raise CorruptAdapter(f"{path}: cannot be read as the adapter's members: {error}. Take the adapter anew.") from None


def _in_order(said: Sequence[tuple[list[int], Outputs]]) -> Outputs:
    """What was said of parts of the rows, as one."""
    order = np.argsort([i for held, _ in said for i in held])
    if said[0][1].values is not None:
        return Outputs(values=np.concatenate([one.values for _, one in said])[order])
    return Outputs(probabilities=np.concatenate([one.probabilities for _, one in said])[order])
