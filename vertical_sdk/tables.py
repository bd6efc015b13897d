"""Tables of implementations that are imported when first used: one line for each task, family and engine.

A package of your own adds one with a line such as `TASKS["ranking"] = "my_package.ranking:RANKING"`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, MutableMapping
from typing import Any

from vertical_sdk.errors import UnknownName

__all__ = ["ENGINES", "FAMILIES", "TASKS", "Table"]


class Table(MutableMapping[str, str]):
    """Name → "module:attribute"; `load` imports the module and gives the attribute."""

    def __init__(self, kind: str, places: dict[str, str]) -> None:
        self.kind = kind
        self._places = dict(places)

    def load(self, name: str, where: str = "") -> Any:
        """Import the implementation of that name.

        where  the place for the error, such as "triage.yaml: task"

        Raises UnknownName, which offers the nearest name.
        """
        if name not in self._places:
            raise UnknownName(self.kind, name, self._places, where)
        module, _, attribute = self._places[name].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def __getitem__(self, name: str) -> str:
        return self._places[name]

    def __setitem__(self, name: str, place: str) -> None:
        if self._places.get(name, place) != place:
            raise ValueError(f"the {self.kind} {name!r} is defined twice: {self._places[name]} and {place}")
        self._places[name] = place

    def __delitem__(self, name: str) -> None:
        del self._places[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


TASKS = Table(
    "task",
    {
        "classification": "vertical_sdk.tasks.classification:CLASSIFICATION",
        "multilabel": "vertical_sdk.tasks.multilabel:MULTILABEL",
        "ordinal": "vertical_sdk.tasks.ordinal:ORDINAL",
        "regression": "vertical_sdk.tasks.regression:REGRESSION",
        "generation": "vertical_sdk.tasks.generation:GENERATION",
        "forecasting": "vertical_sdk.tasks.forecasting:FORECASTING",
        "anomaly": "vertical_sdk.tasks.anomaly:ANOMALY",
    },
)
FAMILIES = Table(
    "family",
    {
        "encoder": "vertical_sdk.families.encoder:EncoderSpecialist",
        "causal": "vertical_sdk.families.causal:CausalSpecialist",
        "series": "vertical_sdk.families.series:SeriesSpecialist",
        "vision": "vertical_sdk.families.vision:VisionSpecialist",
    },
)
ENGINES = Table("engine", {"torch": "vertical_sdk.engines.torch:TorchEngine"})
