"""Reading what was published: files that are checked against their digest, cards and evaluations.

A publisher writes these files, so a page reads no more of them than it shows, and nothing in them can make it fail.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from vertical_sdk.card import CARD, Card
from vertical_sdk.errors import CorruptAdapter, UnknownName
from vertical_sdk.evaluation.result import Comparison, Evaluation, System
from vertical_sdk.json_text import parse_json
from vertical_sdk.registry.store import Manifest
from vertical_sdk.registry.tree import cached_digest
from vertical_sdk.server.pages.rendering import metric_names
from vertical_sdk.types import Interval

__all__ = ["check_file", "load_card", "load_evaluation", "read_evaluation", "read_start"]

LARGEST_CARD = 1 << 20
"""Bytes of the largest card that a page reads; a card has some 100 kB."""
Text = Annotated[str, Field(max_length=2000)]
Count = Annotated[int, Field(ge=0, le=10**15)]
Real = Annotated[float, Field(ge=-1e100, le=1e100, allow_inf_nan=False)]


class _Interval(BaseModel):
    value: Real | None
    low: Real | None
    high: Real | None

    @property
    def interval(self) -> Interval:
        """None in place of a number is NaN."""
        value, low, high = (math.nan if number is None else number for number in (self.value, self.low, self.high))
        return Interval(value, low, high)


class _System(BaseModel):
    title: Text = ""
    metrics: dict[Text, _Interval] = Field(max_length=100)
    error: Text | None = None


class _Test(BaseModel):
    baseline: Text
    metric: Text
    difference: _Interval
    p_value: Real | None
    mcnemar_p: Real | None = None


class _Contribution(BaseModel):
    text: Text


class _Metrics(BaseModel):
    """The part of a card's metrics that pages show."""

    rows: Count = 0
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    baseline: Text | None = None
    systems: dict[Text, _System] = Field(min_length=1, max_length=50)
    tests: list[_Test] = Field([], max_length=500)
    repeated: Count = 0
    unknown: Text = ""
    contribution: _Contribution | None = None


def check_file(folder: Path, path: str, manifest: Manifest) -> Path:
    """Return the place of a file of a version. Raises CorruptAdapter if it is missing, or is not the published file."""
    if path not in manifest:
        raise CorruptAdapter(f"{path} is missing.")
    try:
        digest = cached_digest(folder / path)
    except OSError as error:
        raise CorruptAdapter(f"{path} cannot be read ({error.strerror}).") from None
    if digest != manifest[path].sha256:
        raise CorruptAdapter(f"{path} has changed since it was published.")
    return folder / path


def read_start(folder: Path, path: str, manifest: Manifest, size: int) -> str:
    """Read the first bytes of a text file of a version. Raises CorruptAdapter if it is not the published file."""
    with check_file(folder, path, manifest).open("rb") as file:
        return file.read(size).decode(errors="replace")


def load_card(folder: Path, manifest: Manifest) -> Card:
    """Read the card of a version. Raises CorruptAdapter if it is not the published card, or no card that a page can show."""
    place = check_file(folder, CARD, manifest)
    try:
        return Card.model_validate(parse_json(place.read_bytes(), largest=LARGEST_CARD))
    except ValidationError:
        raise CorruptAdapter(f"{CARD} is not a card, or a later version of vertical_sdk wrote it.") from None
    except ValueError as error:
        raise CorruptAdapter(f"{CARD} cannot be shown: {error}.") from None


def load_evaluation(folder: Path, manifest: Manifest) -> Evaluation | None:
    """Read the evaluation in the card of a version; None if it has none that can be shown. Raises CorruptAdapter."""
    if CARD in manifest and manifest[CARD].size > LARGEST_CARD:
        return None
    return _load_evaluation(check_file(folder, CARD, manifest), manifest[CARD].sha256)


@functools.lru_cache(maxsize=512)
def _load_evaluation(place: Path, _sha256: str) -> Evaluation | None:
    """The card with this digest never changes, so it is read once."""
    try:
        return read_evaluation(Card.model_validate(parse_json(place.read_bytes(), largest=LARGEST_CARD)))
    except ValueError:
        return None


def read_evaluation(card: Card | None) -> Evaluation | None:
    """The evaluation in a card; None if the card has none that can be read, such as a card written by other software."""
    try:
        metrics = _Metrics.model_validate(card.metrics) if card is not None else None
    except ValidationError:
        return None
    if card is None or metrics is None:
        return None
    systems = {
        key: System(
            title=system.title or ("specialist" if key == "adapter" else key),
            metrics={name: measured.interval for name, measured in system.metrics.items()},
            error=system.error,
        )
        for key, system in metrics.systems.items()
    }
    tests = [
        Comparison(test.baseline, test.metric, test.difference.interval, _or_nan(test.p_value), test.mcnemar_p)
        for test in metrics.tests
    ]
    evaluation = Evaluation(
        name=card.name,
        task=card.task,
        rows=metrics.rows,
        systems=systems,
        confidence=metrics.confidence,
        tests=tests,
        baseline=metrics.baseline,
        gate=card.gate,
        repeated=metrics.repeated,
        unknown=metrics.unknown,
        contribution=metrics.contribution.model_dump() if metrics.contribution is not None else None,
    )
    evaluation.lower_is_better.extend(name for name in metric_names(evaluation) if _lower_is_better(name))
    return evaluation


def _or_nan(value: float | None) -> Any:
    return math.nan if value is None else value


@functools.lru_cache(maxsize=512)
def _lower_is_better(metric: str) -> bool:
    """Whether a lower value of a metric is better; False for an unknown metric."""
    from vertical_sdk.metrics.measure import higher_is_better

    try:
        return not higher_is_better(metric)
    except UnknownName:
        return False
