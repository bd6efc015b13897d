"""The labels of a task: their names, their order and their descriptions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from vertical_sdk.cells import clean_text, find_look_alikes, fold_name, to_number
from vertical_sdk.data.account import Tally
from vertical_sdk.data.read import Table
from vertical_sdk.errors import DataError, did_you_mean
from vertical_sdk.recipe import Recipe
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, LabelSpace, Target

__all__ = [
    "build_label_space",
    "count_labels",
    "describe_look_alikes",
    "describe_untested",
    "list_labels",
    "name_some",
    "refuse_unknown",
    "set_aside_unlearned",
    "untested_labels",
]

MOST_NAMES = 10
"""At most this many labels are named in a sentence."""


def list_labels(target: Target) -> tuple[str, ...]:
    """List the labels of one row; () for a number and for no target."""
    if isinstance(target, str):
        return (target,)
    return target if isinstance(target, tuple) else ()


def count_labels(examples: Iterable[Example]) -> dict[str, int]:
    """Count the rows of each label, sorted by label."""
    return dict(sorted(Counter(label for e in examples for label in list_labels(e.target)).items()))


def build_label_space(recipe: Recipe, table: Table, examples: Sequence[Example]) -> LabelSpace | None:
    """Use the labels of the recipe, else those of the source in its order, else those of the rows, sorted; None without labels.

    Raises DataError for a label that the recipe does not list, for fewer labels than the task needs, and for an ordinal task
    without an order.
    """
    task = get_task(recipe.task)
    if not task.labelled:
        return None
    in_rows = set(count_labels(examples))
    in_recipe = tuple(_match_label(label, in_rows) for label in recipe.labels) if recipe.labels else None
    if in_recipe is not None:
        refuse_unknown(examples, in_recipe, "those that the recipe lists", recipe.name)
    elif task.ordered and table.labels is None:
        listed = ", ".join(json.dumps(label, ensure_ascii=False) for label in sorted(in_rows, key=_number_first))
        raise DataError(
            f"the task {recipe.task} needs its labels in order. Set labels: [{listed}], from low to high.", where=recipe.name
        )
    order = in_recipe or tuple(label for label in table.labels or () if label in in_rows) or tuple(sorted(in_rows))
    order = (*order, *sorted(in_rows - set(order)))
    fewest = 2 if task.single_label else 1
    if len(in_rows) < fewest:
        problem = f"all rows have the label {next(iter(in_rows))!r}" if in_rows else "no row has a label"
        raise DataError(
            f"{problem}, so there is nothing to tell apart. Add rows of at least {fewest} labels.", where=recipe.name
        )
    described: Mapping[str, str] = recipe.labels if isinstance(recipe.labels, dict) else {}
    described = {_match_label(label, in_rows): text for label, text in described.items()}
    descriptions = {label: text for label, text in {**table.descriptions, **described}.items() if label in order}
    words = {label: word for label, word in table.words.items() if label in order}
    parents = {label: parent for label, parent in table.parents.items() if label in order}
    return LabelSpace(order, descriptions, words, parents=parents)


def describe_look_alikes(labels: Iterable[str]) -> list[str]:
    """List the labels that may be one, as "'Spam', 'spam'": they differ only in case or in how a number is written."""
    return [", ".join(map(repr, names)) for names in find_look_alikes(labels)]


def _match_label(label: str, in_rows: Iterable[str]) -> str:
    """Return a declared label in the form that readers write labels in, if rows have it in that form."""
    plain = clean_text(label)
    return plain if plain in in_rows else label


def _number_first(label: str) -> tuple[bool, float, str]:
    """A sort key: labels that are numbers come first, in their order."""
    number = to_number(label)
    return number is None, number or 0.0, label


def _name_twin(label: str, known: Iterable[str]) -> str:
    """Name the known label from which this one differs only in case or in how a number is written; "" if there is none."""
    twin = next((other for other in known if fold_name(other) == fold_name(label)), None)
    return f"; {twin!r} differs from it only in case or in how a number is written" if twin else ""


def refuse_unknown(examples: Sequence[Example], labels: Sequence[str], what: str, where: str) -> None:
    """Raise DataError for rows with other labels than these.

    what   describes `labels`, for the message
    where  the recipe or file with the rows
    """
    known = set(labels)
    rows: dict[str, list[str]] = {}
    for example in examples:
        for label in list_labels(example.target):
            if label not in known:
                rows.setdefault(label, []).append(example.id)
    if rows:
        unknown = "; ".join(
            f"{label!r} in {len(ids)} rows (first: {ids[0]}){_name_twin(label, labels)}.{did_you_mean(label, labels)}"
            for label, ids in sorted(rows.items())[:5]
        )
        listed = ", ".join(labels[:30]) + (", ..." if len(labels) > 30 else "")
        raise DataError(f"{len(rows)} labels are not among {what}: {unknown} Known are: {listed}.", where=where)


def set_aside_unlearned(examples: Sequence[Example], tally: Tally) -> list[Example]:
    """Set aside evaluation rows with a label that no training row has, and return the other rows."""
    learned = {label for e in examples if e.split == "train" for label in list_labels(e.target)}
    reasons: dict[str, str] = {}
    rows = []
    for example in examples:
        unseen = next((label for label in list_labels(example.target) if label not in learned), None)
        if unseen is not None and example.split != "train":
            if unseen not in reasons:
                reasons[unseen] = f"label {unseen!r} is in no training row{_name_twin(unseen, learned)}"
            tally.set_aside(example.id, reasons[unseen])
        else:
            rows.append(example)
    return rows


def untested_labels(rows: Sequence[Example], labels: LabelSpace | None) -> list[str]:
    """List the labels that none of these test rows has, in their order; [] without labels."""
    tested = count_labels(rows)
    return [label for label in (labels.labels if labels else ()) if label not in tested]


def describe_untested(rows: Sequence[Example], labels: LabelSpace | None) -> list[str]:
    """Say in a sentence which labels have no row in the test part; [] if each has one."""
    untested = untested_labels(rows, labels)
    if not untested:
        return []
    has, found = ("has", "it is found") if len(untested) == 1 else ("have", "they are found")
    return [
        f"{name_some(untested)} {has} no row in the test part, so nothing shows how well {found}. "
        "Add rows, or enlarge data.split.test."
    ]


def name_some(labels: Sequence[str]) -> str:
    """Name labels in a sentence, at most 10 of them."""
    names = ", ".join(map(repr, labels[:MOST_NAMES]))
    return f"{names} and {len(labels) - MOST_NAMES} more" if len(labels) > MOST_NAMES else names
