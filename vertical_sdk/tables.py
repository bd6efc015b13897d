"""Tables of implementations that are imported when first used: one line for each task, family and engine.

A package of your own adds one with a line such as `TASKS["ranking"] = "my_package.ranking:RANKING"`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, TypeAlias

from vertical_sdk.errors import UnknownName

__all__ = ["ENGINES", "FAMILIES", "TASKS", "Place", "Table"]


Place: TypeAlias = str | tuple[str, str]


class Table(MutableMapping[str, Place]):
    """Name → "module:attribute"; `load` imports the module and returns the attribute.

    A base family has two places: its class, and the function that recognizes its bases by config.json, which needs no torch.
    """

    def __init__(self, kind: str, places: Mapping[str, Place]) -> None:
        self.kind = kind
        self._places = dict(places)

    def load(self, name: str, where: str = "") -> Any:
        """Import the implementation of that name.

        where  the place for the error, such as "triage.yaml: task"

        Raises UnknownName, which offers the nearest name.
        """
        if name not in self._places:
            raise UnknownName(self.kind, name, self._places, where)
        place = self._places[name]
        return _import(place if isinstance(place, str) else place[0])

    def load_recognizer(self, name: str) -> Callable[[Mapping[str, Any]], bool] | None:
        """Import the function that recognizes a family's bases; None if no base belongs to it."""
        place = self._places[name]
        return None if isinstance(place, str) else _import(place[1])

    def __getitem__(self, name: str) -> Place:
        return self._places[name]

    def __setitem__(self, name: str, place: Place) -> None:
        if self._places.get(name, place) != place:
            raise ValueError(f"the {self.kind} {name!r} is defined twice: {self._places[name]} and {place}")
        self._places[name] = place

    def __delitem__(self, name: str) -> None:
        del self._places[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _import(place: str) -> Any:
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)


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
        "contrastive": "vertical_sdk.tasks.contrastive:CONTRASTIVE",
        "language": "vertical_sdk.tasks.language:LANGUAGE",
    },
)
FAMILIES = Table(
    "family",
    {
        "encoder": ("vertical_sdk.families.encoder:EncoderSpecialist", "vertical_sdk.bases.config:is_encoder"),
        "causal": ("vertical_sdk.families.causal:CausalSpecialist", "vertical_sdk.bases.config:is_causal"),
        "series": "vertical_sdk.families.series:SeriesSpecialist",
        "records": "vertical_sdk.families.records:RecordsSpecialist",
        "vision": ("vertical_sdk.families.vision:VisionSpecialist", "vertical_sdk.bases.config:is_vision"),
    },
)
ENGINES = Table("engine", {"torch": "vertical_sdk.engines.torch:TorchEngine"})
