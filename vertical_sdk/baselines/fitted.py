"""The interface of a fitted baseline, and its storage as arrays: no pickle, nothing that runs when it is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from vertical_sdk.catalog import baselines
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.members import Arrays, decode_json, encode_json, take_array
from vertical_sdk.outputs import Outputs
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, LabelSpace, TaskName

__all__ = ["Arrays", "Fitted", "decode_json", "encode_json", "load_fitted", "read_targets", "save_arrays", "take_array"]


class Fitted(Protocol):
    """A fitted baseline. The function that is registered in `catalog.baselines` is its `fit`.

    Only members of an ensemble are stored, so a baseline that was registered without `saves_as` needs `predict` alone.
    """

    def predict(self, rows: Sequence[Example], base: Any) -> Outputs:
        """Predict the rows. `base` is the frozen base model (`FrozenBase`), for baselines that need it."""

    def to_arrays(self) -> Arrays:
        """Return everything that was fitted as arrays."""

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Fitted:
        """Restore the fitted baseline from `to_arrays`, which somebody may have changed.

        Raises KeyError, TypeError or ValueError that names what is missing, of another shape or out of range.
        """


def save_arrays(name: str, fitted: Fitted, where: str) -> Arrays:
    """Return the arrays of a fitted baseline.

    Raises RecipeError for a baseline without `saves_as`: it can be compared with, but cannot be a member of an ensemble.
    """
    if baselines.part(name).saves_as is None:
        storable = [other for other in baselines.names() if baselines.part(other).saves_as is not None]
        raise RecipeError(
            f"{name} cannot be stored, so it cannot be a member of an ensemble. Use one of: {', '.join(storable)}.", where=where
        )
    return fitted.to_arrays()


def load_fitted(name: str, arrays: Mapping[str, NDArray[Any]]) -> Fitted:
    """Restore a fitted baseline from its arrays.

    Raises UnknownName for a baseline that is not installed; KeyError, ValueError or TypeError if the arrays are not those of such a
    baseline.
    """
    fitted: Fitted = baselines.part(name).load_class().from_arrays(dict(arrays))
    return fitted


def read_targets(train: Sequence[Example], labels: LabelSpace | None, task: TaskName) -> Any:
    """Return the targets of the training rows in the form that the task's metrics read.

    Raises DataError if there are no training rows.
    """
    if not train:
        raise DataError("The baseline cannot be fitted: there are no training rows. Check the split in the recipe.")
    return get_task(task).references(train, labels)
