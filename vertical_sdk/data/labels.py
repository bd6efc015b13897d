"""The labels of a task: which there are, in which order, and what is said of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from vertical_sdk.data.account import Tally
from vertical_sdk.data.read import Table
from vertical_sdk.errors import DataError, did_you_mean
from vertical_sdk.recipe import Recipe
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, LabelSpace, Target

__all__ = ["count_labels", "label_space", "labels_in", "refuse_unknown", "without_unlearned"]


def labels_in(target: Target) -> tuple[str, ...]:
    """The labels of one row; none for a number or nothing."""
    if isinstance(target, str):
        return (target,)
    return target if isinstance(target, tuple) else ()


def count_labels(examples: Iterable[Example]) -> dict[str, int]:
    """label → number of rows, by label."""
    return dict(sorted(Counter(label for e in examples for label in labels_in(e.target)).items()))


def label_space(recipe: Recipe, table: Table, examples: Sequence[Example]) -> LabelSpace | None:
    """The recipe's labels, else those of the source in its order, else those of the rows, sorted; None without labels.

    Raises DataError for a label that the recipe does not list, for one label only, and for an ordinal task without an order.
    """
    task = get_task(recipe.task)
    if not task.labelled:
        return None
    found = set(count_labels(examples))
    given = tuple(recipe.labels) if recipe.labels else None
    if given is not None:
        refuse_unknown(examples, given, "those that the recipe lists", recipe.name)
    elif task.ordered and table.labels is None:
        raise DataError(
            f"{recipe.name}: an ordinal task needs its labels in order. Set labels: [{', '.join(sorted(found))}], low to high."
        )
    order = given or tuple(label for label in table.labels or () if label in found) or tuple(sorted(found))
    order = (*order, *sorted(found - set(order)))
    fewest = 2 if task.single_label else 1
    if len(found) < fewest:
        only = f"all rows have the label {next(iter(found))!r}" if found else "no row has a label"
        raise DataError(f"{recipe.name}: {only}; there is nothing to tell apart. At least {fewest} labels are needed.")
    described: Mapping[str, str] = recipe.labels if isinstance(recipe.labels, dict) else {}
    descriptions = {label: text for label, text in {**table.descriptions, **described}.items() if label in order}
    words = {label: word for label, word in table.words.items() if label in order}
    parents = {label: parent for label, parent in table.parents.items() if label in order}
    return LabelSpace(order, descriptions, words, parents=parents)


def refuse_unknown(examples: Sequence[Example], labels: Sequence[str], what: str, where: str) -> None:
    """Raise DataError where rows have labels that are not among these; `what` they are, and `where` the rows are from."""
    known = set(labels)
    rows: dict[str, list[str]] = {}
    for example in examples:
        for label in labels_in(example.target):
            if label not in known:
                rows.setdefault(label, []).append(example.id)
    if rows:
        unknown = "; ".join(
            f"{label!r} in {len(ids)} rows (first: {ids[0]}).{did_you_mean(label, labels)}"
            for label, ids in sorted(rows.items())[:5]
        )
        listed = ", ".join(labels[:30]) + (", ..." if len(labels) > 30 else "")
        raise DataError(f"{where}: {len(rows)} labels are not among {what}: {unknown} Known are: {listed}.")


def without_unlearned(examples: Sequence[Example], tally: Tally) -> list[Example]:
    """The rows but those of evaluation parts with a label that no training row has; these are set aside."""
    learned = {label for e in examples if e.split == "train" for label in labels_in(e.target)}
    kept = []
    for example in examples:
        unseen = [label for label in labels_in(example.target) if label not in learned]
        if unseen and example.split != "train":
            tally.set_aside(example.id, f"label {unseen[0]!r} is in no training row")
        else:
            kept.append(example)
    return kept
