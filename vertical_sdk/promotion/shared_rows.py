"""Compare two specialists of the same task on the same rows: the rows as each reads them, without those it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vertical_sdk.card import Card
from vertical_sdk.data.clean import normalize_texts
from vertical_sdk.data.records import build_record_example
from vertical_sdk.data.texts import apply_prompt
from vertical_sdk.errors import RegistryError
from vertical_sdk.evaluation.learned_rows import Party, describe_preparation, remove_prompt
from vertical_sdk.outputs import Outputs
from vertical_sdk.tasks import get_task
from vertical_sdk.types import NO_ZONE, Example, SeriesLayout

__all__ = ["have_same_rows", "reorder_labels", "require_comparable", "rewrite_rows"]


def require_comparable(challenger: Party, champion: Party) -> None:
    """Check that the champion answers the same question about the same rows as the challenger.

    Raises RegistryError; the message names the difference.
    """
    if difference := _find_difference(challenger, champion):
        raise RegistryError(
            f"the champion {difference}, so the two cannot be compared on the same rows. To move the alias without a comparison, "
            "use `vertical registry alias` and give a reason.",
            where=champion.name,
        )


def _find_difference(challenger: Party, champion: Party) -> str:
    """What the champion does differently; "" if the two can be compared."""
    own, other = challenger.card, champion.card
    difference = ""
    if own.task != other.task:
        difference = f"was trained for {other.task}, and the challenger for {own.task}"
    elif own.labels is not None and other.labels is not None and set(own.labels.labels) != set(other.labels.labels):
        lacks = sorted(set(own.labels.labels) - set(other.labels.labels))
        extra = sorted(set(other.labels.labels) - set(own.labels.labels))
        changes = [f"{verb} {', '.join(map(repr, some[:5]))}" for verb, some in (("lacks", lacks), ("also has", extra)) if some]
        difference = f"has other labels than the challenger: it {' and '.join(changes)}"
    elif get_task(own.task).ordered and own.labels != other.labels and own.labels and other.labels:
        if own.labels.labels != other.labels.labels:
            difference = f"has its labels in another order: {', '.join(other.labels.labels)}"
    elif own.layout != other.layout:
        difference = f"reads other series than the challenger: {_describe(other.layout)} instead of {_describe(own.layout)}"
    elif own.layout is not None and other.layout is not None and not _agree_in_zone(own.layout, other.layout):
        zones = [f"the zone {layout.zone}" if layout.zone else "an unknown zone" for layout in (other.layout, own.layout)]
        difference = f"was trained on times in {zones[0]}, and the challenger in {zones[1]}"
    elif challenger.recipe.data.modality != champion.recipe.data.modality or bool(own.fields) != bool(other.fields):
        difference = "reads rows of another kind than the challenger"
    elif lacks := sorted({field.name for field in other.fields} - {field.name for field in own.fields}):
        difference = f"reads fields that the challenger's rows do not have: {', '.join(lacks)}"
    return difference


def _agree_in_zone(own: SeriesLayout, other: SeriesLayout) -> bool:
    """Whether rows of one are right for the other: the same zone, or one that an older version did not keep."""
    return own.zone == other.zone or (None in {own.zone, other.zone} and NO_ZONE in {own.zone, other.zone})


def have_same_rows(first: Party, second: Party) -> bool:
    """Whether both were trained on the same bytes, prepared in the same way: then neither was trained on the other's test rows."""
    return describe_preparation(first.recipe, first.card.sources) == describe_preparation(second.recipe, second.card.sources)


def rewrite_rows(rows: Sequence[Example], own: Party, other: Party) -> list[Example]:
    """Write rows of one specialist as another reads them: with its fields, its prompt, and its cleaners that normalize texts.

    own    the specialist that the rows were prepared for
    other  the specialist that reads them
    """
    rewritten = list(rows)
    fields = other.card.fields
    if own.card.fields != fields:
        names = {field.name for field in fields}
        cells = [{name: cell for name, cell in row.record if name in names} for row in rows]
        records = [
            build_record_example(record, other.card.contract, f"row {row.id}") for record, row in zip(cells, rows, strict=True)
        ]
        rewritten = [replace(row, text=new.text, record=new.record) for new, row in zip(records, rows, strict=True)]
    if other.recipe.prompt != own.recipe.prompt:
        rewritten = [apply_prompt(remove_prompt(row, own.recipe.prompt), other.recipe.prompt) for row in rewritten]
    return normalize_texts(rewritten, other.recipe)[0]


def reorder_labels(outputs: Outputs, other: Card, own: Card) -> Outputs:
    """Return the other specialist's outputs with its labels in the order of `own`."""
    if own.labels is None or other.labels is None or own.labels.labels == other.labels.labels or outputs.probabilities is None:
        return outputs
    places = [other.labels.index(label) for label in own.labels.labels]
    offsets = outputs.offsets[places] if outputs.offsets is not None else None
    return replace(outputs, probabilities=outputs.probabilities[:, places], offsets=offsets)


def _describe(layout: SeriesLayout | None) -> str:
    if layout is None:
        return "none"
    return f"{layout.history} + {layout.horizon} steps of {layout.seconds:g} s in {len(layout.channels)} channels"
