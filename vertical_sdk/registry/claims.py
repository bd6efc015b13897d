"""What a card claims about its adapter, checked before it is published: types, ranges, digests, and whether results agree.

A card is its publisher's word. These checks find claims that cannot be true, and values that no page could show. They do not find results
that were never measured: only an evaluation on rows does.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vertical_sdk.alternatives import weigh_by_card
from vertical_sdk.card import CARD, Card
from vertical_sdk.catalog import ANY, metrics
from vertical_sdk.errors import CorruptAdapter, VerticalError
from vertical_sdk.recipe import Recipe

__all__ = ["check_claims"]

DIGEST = re.compile(r"[0-9a-f]{64}")
CLOSE = 1e-6
"""How far two numbers that are computed from the same rows may be apart."""
LONGEST_LINE = 200
"""Characters of a name or a licence."""
ADVICE = "Publish the unchanged folder of a run."

Line: TypeAlias = Annotated[str, Field(max_length=500)]
Paragraph: TypeAlias = Annotated[str, Field(max_length=20_000)]
Count: TypeAlias = Annotated[int, Field(ge=0, le=10**15)]
Finite: TypeAlias = Annotated[float, Field(ge=-1e100, le=1e100)]
NotNegative: TypeAlias = Annotated[float, Field(ge=0, le=1e100)]
Probability: TypeAlias = Annotated[float, Field(ge=0, le=1)]


class _Claim(BaseModel):
    """Part of a card. Other software may write less, a later version more."""

    model_config = ConfigDict(extra="ignore", strict=True)


class _Interval(_Claim):
    value: Finite | None
    low: Finite | None = None
    high: Finite | None = None


class _System(_Claim):
    title: Line = ""
    metrics: Annotated[dict[Line, _Interval], Field(max_length=100)] = {}
    unparsed: Count = 0
    seconds: NotNegative = 0.0
    error: Paragraph | None = None


class _Comparison(_Claim):
    baseline: Line
    metric: Line
    difference: _Interval
    p_value: Probability | None = None
    mcnemar_p: Probability | None = None


class _Contribution(_Claim):
    alternative: Line
    outcome: Line
    text: Paragraph


class _Kept(_Claim):
    outcome: Line
    text: Paragraph


class _Results(_Claim):
    rows: Count = 0
    systems: Annotated[dict[Line, _System], Field(max_length=50)] = {}
    tests: Annotated[list[_Comparison], Field(max_length=500)] = []
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    baseline: Line | None = None
    repeated: Count = 0
    unknown: Paragraph = ""
    warnings: Annotated[list[Paragraph], Field(max_length=500)] = []
    validation: Annotated[dict[Line, Finite], Field(max_length=50)] = {}
    contribution: _Contribution | None = None
    promise: _Kept | None = None


class _Step(_Claim):
    step: Line
    rows_in: Count
    rows_out: Count
    changed: dict[str, Count] = {}
    dropped: dict[str, Count] = {}
    set_aside: dict[str, Count] = {}
    added: dict[str, Count] = {}
    notes: dict[str, Any] = {}
    about: Paragraph = ""


class _Account(_Claim):
    read: Count = 0
    lost: Probability = 0.0
    steps: Annotated[list[_Step], Field(max_length=500)] = []


class _Training(_Claim):
    seconds: NotNegative | None = None
    ensemble: dict[Line, Finite] | None = None
    unknown_share: dict[Line, Probability] | None = None
    imported: bool = False
    unread: Paragraph | None = None


PARTS: Mapping[str, type[_Claim]] = {"metrics": _Results, "account": _Account, "training": _Training}


def check_claims(card: Card) -> Recipe:
    """Check what a card claims, and return its recipe.

    Raises CorruptAdapter with the name of the part of the card, and what is wrong with it.
    """
    fault = next(_find_faults(card), None)  # the later checks read what the earlier ones have found to be right
    if fault is not None:
        raise CorruptAdapter(f"{CARD}: {fault}. {ADVICE}", where=card.name[:LONGEST_LINE])
    return Recipe.model_validate(card.recipe)


def _find_faults(card: Card) -> Iterator[str]:
    yield from _check_parts(card)
    yield from _check_recipe(card)
    yield from _check_identities(card)
    results = _Results.model_validate(card.metrics)
    for key, system in results.systems.items():
        for name, value in system.metrics.items():
            yield from _check_interval(f"metrics.systems.{key}.metrics.{name}", value, _range_of(name))
    for place, test in enumerate(results.tests):
        yield from _check_comparison(f"metrics.tests.{place}", test, results.systems)
    if results.baseline is not None and results.baseline not in results.systems:
        yield f"metrics.baseline: no system is called {results.baseline!r}"
    if results.contribution is not None:
        yield from _check_contribution(card, results.contribution)


def _check_contribution(card: Card, stated: _Contribution) -> Iterator[str]:
    """Check that what the adapter is said to add follows from the comparisons. A metric that is not installed here is not judged."""
    try:
        known = weigh_by_card(card, Recipe.model_validate(card.recipe))
    except VerticalError:
        return
    if known is None or (stated.alternative, stated.outcome) != (known.alternative, known.outcome):
        follows = f"{known.outcome!r} against {known.alternative!r}" if known is not None else "nothing"
        yield f"metrics.contribution: it is {stated.outcome!r} against {stated.alternative!r}, but from the comparisons follows {follows}"


def _check_parts(card: Card) -> Iterator[str]:
    for name, part in PARTS.items():
        yield from _check_schema(name, part, getattr(card, name))


def _check_schema(name: str, schema: type[BaseModel], value: Any) -> Iterator[str]:
    try:
        schema.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join((name, *(str(step)[:80] for step in first["loc"])))
        yield f"{place}: {first['msg'].partition(' or instance of ')[0]}"


def _check_recipe(card: Card) -> Iterator[str]:
    yield from _check_schema("recipe", Recipe, card.recipe)
    recipe = Recipe.model_validate(card.recipe)
    if recipe.task != card.task:
        yield f"task: the card is for {card.task!r}, and its recipe for {recipe.task!r}"
    digest = hashlib.sha256(json.dumps(card.recipe, sort_keys=True).encode()).hexdigest()
    if card.recipe_digest != digest:
        yield f"recipe_digest: it is {card.recipe_digest[:80]!r}, but the recipe in the card has {digest}"


def _check_identities(card: Card) -> Iterator[str]:
    """Check digests, names and licences: a digest has 64 hexadecimal digits, the others are a line of text."""
    digests = {
        "base.weights": card.base.weights,
        "base.tokenizer": card.base.tokenizer,
        "base.chat_template": card.base.chat_template,
        "parent.weights": card.parent.weights if card.parent else None,
        "parent.version": card.parent.version if card.parent else None,
        **{f"sources.{n}.sha256": source.sha256 or None for n, source in enumerate(card.sources)},  # "" means unknown
    }
    for place, digest in digests.items():
        if digest is not None and not DIGEST.fullmatch(digest):
            yield f"{place}: {digest[:80]!r} is not a SHA-256, which has 64 digits from 0 to f"
    lines = {
        "name": card.name,
        "base.name": card.base.name,
        "base.architecture": card.base.architecture,
        "base.revision": card.base.revision,
        "base.license": card.base.license,
        "created": card.created,
        "verb": card.verb,
        "pipeline_tag": card.pipeline_tag,
        "parent.reference": card.parent.reference if card.parent else None,
        **{f"sources.{n}.license": source.license for n, source in enumerate(card.sources)},
        **{f"versions.{key[:LONGEST_LINE]}": value for key, value in card.versions.items()},
    }
    for place, line in lines.items():
        longest = 4096 if place in {"base.name", "parent.reference"} else LONGEST_LINE  # these may be paths
        if line is not None and (len(line) > longest or not line.isprintable()):
            yield f"{place}: {line[:80]!r} is not a line of at most {longest} printable characters"
    if card.labels is not None and any(count < 0 for count in card.labels.counts.values()):
        yield "labels.counts: a number of rows is below 0"


def _check_interval(place: str, value: _Interval, within: tuple[float, float]) -> Iterator[str]:
    """Check that an interval is in order and contains its value, and that all are in the range of the metric."""
    low, high = within
    if (value.low is None) != (value.high is None) or (value.value is None and value.low is not None):
        yield f"{place}: an interval has a value and two ends, or none of its ends"
    for number in (value.value, value.low, value.high):
        if number is not None and not low - CLOSE <= number <= high + CLOSE:
            yield f"{place}: {number:g} is not from {low:g} to {high:g}"
    if value.value is not None and value.low is not None and value.high is not None:
        contains = value.low - CLOSE <= value.value <= value.high + CLOSE
        if not contains:
            yield f"{place}: the interval from {value.low:g} to {value.high:g} does not contain {value.value:g}"


def _check_comparison(place: str, test: _Comparison, systems: Mapping[str, _System]) -> Iterator[str]:
    """Check that a difference is that of the two systems' values."""
    low, high = _range_of(test.metric)
    yield from _check_interval(f"{place}.difference", test.difference, (low - high, high - low))
    if test.baseline not in systems:
        yield f"{place}.baseline: no system is called {test.baseline!r}"
        return
    own, other = (systems[key].metrics.get(test.metric) if key in systems else None for key in ("adapter", test.baseline))
    if own is None or other is None:
        yield f"{place}: {test.metric!r} of the specialist or of {test.baseline!r} is not among the results"
        return
    if test.difference.value is None or own.value is None or other.value is None:
        return
    difference = own.value - other.value
    if not math.isclose(test.difference.value, difference, rel_tol=CLOSE, abs_tol=CLOSE):
        yield (
            f"{place}.difference: it is {test.difference.value:g}, but {test.metric} of the two is {own.value:g} and "
            f"{other.value:g}"
        )


def _range_of(metric: str) -> tuple[float, float]:
    """The lowest and the highest value of a metric. One that is not installed here may have any finite value."""
    try:
        return metrics.part(metric).within
    except VerticalError:
        return ANY
