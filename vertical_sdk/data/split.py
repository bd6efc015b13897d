"""Splitters: divide the rows into training, validation and test.

Every splitter is `splitter(examples, seed, *, test=0.15, validation=0.1, ...) -> (examples, account)`, and sets the `split` of
each example. The split of a row depends on the seed and on the row, never on the order of the rows. Rows of one group are always
in the same split. Rows with `only="train"` in a group for evaluation, and rows with `only="evaluate"` in a group for training,
are set aside.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from vertical_sdk.catalog import NotNegative, splitters
from vertical_sdk.data.account import StepAccount, Tally
from vertical_sdk.data.labels import set_aside_unlearned
from vertical_sdk.data.texts import shuffle_key, stable_hash
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.types import Example, Split

__all__ = ["deal_folds", "given", "group", "stratified", "time"]

BINS = 10
"""Quantiles that rows with a number are spread over."""


@splitters.register("stratified")
def stratified(
    examples: Sequence[Example], seed: int, *, test: float = 0.15, validation: float = 0.1
) -> tuple[list[Example], StepAccount]:
    """Give every label (or tenth of the numbers) the same share in each part. Rows of one group stay together."""
    _check_shares(test, validation)
    places = _place_units(_units(examples, seed), seed, test, validation)
    return _finish("stratified", examples, {e.id: places[_unit(e)] for e in examples}, validation)


@splitters.register("group")
def group(
    examples: Sequence[Example], seed: int, *, by: str = "group", test: float = 0.15, validation: float = 0.1
) -> tuple[list[Example], StepAccount]:
    """Put whole groups into one part, with about the same share of each label as far as groups allow.

    `by` says what a group is (a patient, a contract), for people; the column is data.columns.group. A label with too few groups
    to be split stays in training. Raises DataError for rows without a group, and for fewer groups than parts.
    """
    _check_shares(test, validation)
    without = [e.id for e in examples if e.group is None]
    if without:
        raise DataError(
            f"{len(without)} of {len(examples)} rows have no group (first: {without[0]}). Set data.columns.group to its column, or "
            "use another split.",
            where=f"split by {by}",
        )
    parts = 3 if validation else 2
    count = len({e.group for e in examples})
    if count < parts:
        raise DataError(
            f"{count} groups cannot fill {parts} parts. Use at least {parts} groups, better hundreds.", where=f"split by {by}"
        )
    places = _place_units(_units(examples, seed), seed, test, validation)
    return _finish("group", examples, {e.id: places[_unit(e)] for e in examples}, validation)


@splitters.register("time")
def time(
    examples: Sequence[Example], seed: int, *, test: float = 0.15, validation: float = 0.1, gap: NotNegative = 0.0
) -> tuple[list[Example], StepAccount]:
    """Put the first rows into training, the next ones into validation, the last ones into test. Nothing is random.

    gap  hours before the start of a later part whose rows are set aside. With as many hours as a row looks ahead (and back), no
         value that a later part predicts was used for training. The rows then need whole times, in ISO 8601

    Rows of the same time are always in the same part. If a group continues in a later part, its earlier rows are set aside.
    """
    del seed
    _check_shares(test, validation)
    without = [e.id for e in examples if e.time is None]
    if without:
        raise DataError(
            f"{len(without)} of {len(examples)} rows have no time (first: {without[0]}). Set data.columns.time to its column, or "
            "drop these rows.",
            where="split by time",
        )
    times = sorted(e.time or "" for e in examples)
    if len(set(times)) < (3 if validation else 2):
        raise DataError(
            f"the rows have only {len(set(times))} different times, too few to divide. Use another split.",
            where="split by time",
        )
    from_test = _boundary(times, 1 - test)
    earlier = times[: bisect_left(times, from_test)]
    from_validation = _boundary(earlier, 1 - validation / (1 - test)) if validation else from_test

    def place(example: Example) -> Split:
        moment = example.time or ""
        return "test" if moment >= from_test else "validation" if moment >= from_validation else "train"

    places = {e.id: place(e) for e in examples}
    aside = _find_split_groups(examples, places)
    if gap:
        starts = {"train": from_validation, "validation": from_test}
        near = {e.id for e in examples if places[e.id] in starts and _hours(e.time or "", starts[places[e.id]], e.id) < gap}
        aside |= dict.fromkeys(near - set(aside), f"less than {gap:g} hours before the next part")
    return _finish("time", examples, places, validation, aside)


@splitters.register("given")
def given(examples: Sequence[Example], seed: int, *, validation: float = 0.1) -> tuple[list[Example], StepAccount]:
    """Use the splits of the source. A missing validation part is taken from training, stratified.

    Raises DataError for a row without a split, and for a source without a training or test part.
    """
    without = [e.id for e in examples if e.split is None]
    if without:
        raise DataError(
            f"{len(without)} of {len(examples)} rows have no split (first: {without[0]}). Set data.columns.split, or data.source "
            "to {train: ..., test: ...}, or use another split.",
            where="split: given",
        )
    places: dict[str, Split] = {e.id: e.split or "train" for e in examples}
    if validation and "validation" not in places.values():
        _check_shares(validation, 0)
        train = [e for e in examples if e.split == "train"]
        carved = _place_units(_units(train, seed), seed, 0, validation)
        places |= {e.id: carved[_unit(e)] for e in train}
    return _finish("given", examples, places, validation, _find_split_groups(examples, places))


def deal_folds(examples: Sequence[Example], seed: int, count: int) -> dict[str, int]:
    """Deal the rows to folds: row id → its fold, from 0. Every label (or tenth of the numbers) has about the same share in each fold.

    Rows of one group stay together. As with the other splitters, the fold of a row does not depend on the order of the rows.

    Raises DataError if there are fewer groups (or rows without a group) than folds.
    """
    units = _units(examples, seed)
    if len(units) < count:
        raise DataError(
            f"{len(units)} rows or groups cannot fill {count} folds. Set a lower evaluate.folds.", where="split: folds"
        )
    folds: dict[str, int] = {}
    sizes = [0] * count
    for _, members in sorted(_homes(units).items()):
        own = [0] * count  # rows of this stratum in each fold
        # large groups first, so that the small ones can even out
        for unit, size in sorted(members, key=lambda u: (-u[1], stable_hash(seed, u[0]), u[0])):
            fold = min(range(count), key=lambda n: (own[n], sizes[n], n))
            folds |= dict.fromkeys((e.id for e in units[unit]), fold)
            own[fold] += size
            sizes[fold] += size
    return folds


def _check_shares(test: float, validation: float) -> None:
    if not (0 < test < 1 and 0 <= validation < 1 and test + validation < 1):
        raise RecipeError(
            f"test = {test} and validation = {validation} must be shares that leave rows for training.", where="data.split"
        )


def _find_split_groups(examples: Sequence[Example], places: Mapping[str, Split]) -> dict[str, str]:
    """Find rows whose group also has rows in a later part: row id → why it is set aside."""
    rank = {"train": 0, "validation": 1, "test": 2}
    last: dict[str, int] = defaultdict(int)
    for e in examples:
        if e.group is not None:
            last[e.group] = max(last[e.group], rank[places[e.id]])
    reason = "its group is also in a later part"
    return {e.id: reason for e in examples if e.group is not None and rank[places[e.id]] < last[e.group]}


def _boundary(times: Sequence[str], share: float) -> str:
    """Return the first time of the later part. The earlier part is never empty."""
    boundary = times[min(len(times) - 1, max(1, round(len(times) * share)))]
    if boundary == times[0]:
        return next((moment for moment in times if moment > boundary), boundary)
    return boundary


def _hours(earlier: str, later: str, row: str) -> float:
    """Compute the hours between two times.

    Raises DataError for a time that is not ISO 8601.
    """
    try:
        ends = [datetime.fromisoformat(text.replace("Z", "+00:00")) for text in (earlier, later)]
        return (ends[1] - ends[0]).total_seconds() / 3600
    except (ValueError, TypeError):
        raise DataError(
            f"the times of row {row} and of the next part, {earlier!r} and {later!r}, are not both ISO 8601.",
            where="split by time: gap",
        ) from None


def _unit(example: Example) -> str:
    """Return the unit that stays in one part: a group, or the row itself. Rows for one part only are units of their own kind."""
    return f"group:{example.group}" if example.group is not None else f"{example.only or 'row'}:{example.id}"


def _units(examples: Sequence[Example], seed: int) -> dict[str, list[Example]]:
    units: dict[str, list[Example]] = defaultdict(list)
    for example in sorted(examples, key=lambda e: shuffle_key(seed, e)):
        units[_unit(example)].append(example)
    return units


def _strata(examples: Iterable[Example]) -> dict[str, str]:
    """Map each row id to its stratum: its label, the rarest of several labels, or the tenth that its number is in."""
    examples = list(examples)
    numbers = sorted(e.target for e in examples if isinstance(e.target, float))
    edges = [numbers[len(numbers) * i // BINS] for i in range(1, BINS)] if numbers else []
    counts = Counter(label for e in examples if isinstance(e.target, tuple) for label in e.target)

    def stratum(example: Example) -> str:
        target = example.target
        if isinstance(target, float):
            return f"tenth {bisect_left(edges, target)}"
        if isinstance(target, tuple):
            return min(target, key=lambda label: (counts[label], label), default="")
        return target if isinstance(target, str) else ""

    return {e.id: stratum(e) for e in examples}


def _homes(units: Mapping[str, Sequence[Example]]) -> dict[str, list[tuple[str, int]]]:
    """Map each stratum to its units, those of which it has most of the rows, with the number of their rows that may be evaluated."""
    strata = _strata(e for rows in units.values() for e in rows)
    homes: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for unit, rows in units.items():
        counts = Counter(strata[e.id] for e in rows)
        home = min(counts, key=lambda stratum: (-counts[stratum], stratum))
        homes[home].append((unit, sum(e.only != "train" for e in rows)))
    return homes


def _place_units(units: Mapping[str, Sequence[Example]], seed: int, test: float, validation: float) -> dict[str, Split]:
    """Map each unit to a part. In each stratum, a part takes units in an order shuffled by seed until it has its share of rows.

    Only rows that may be evaluated count.
    """
    homes = _homes(units)
    places: dict[str, Split] = dict.fromkeys(units, "train")
    for home in sorted(homes):
        free = [(unit, size) for unit, size in sorted(homes[home], key=lambda u: (stable_hash(seed, u[0]), u[0])) if size]
        if any(unit.startswith("evaluate:") for unit, _ in free):
            _deal_units([u for u in free if u[0].startswith("evaluate:")], places, test / (test + validation), 1.0)
            free = [u for u in free if not u[0].startswith("evaluate:")]
        parts = 1 + bool(test) + bool(validation)
        if len(free) >= parts:
            _deal_units(free, places, test, validation)
    return places


def _deal_units(units: Sequence[tuple[str, int]], places: dict[str, Split], test: float, validation: float) -> None:
    """Give each part its share of rows. A unit is added if that brings the part nearer to its share."""
    total = sum(size for _, size in units)
    left = list(units)
    shares: tuple[tuple[Split, float], ...] = (("test", test), ("validation", validation))
    for part, share in shares:
        wanted, have = share * total, 0
        for unit, size in list(left):
            if have + size / 2 <= wanted:
                places[unit] = part
                have += size
                left.remove((unit, size))
        if not have and share * len(units) >= 0.5 and left:
            smallest = min(left, key=lambda u: u[1])
            places[smallest[0]] = part
            left.remove(smallest)


def _finish(
    step: str,
    examples: Sequence[Example],
    places: Mapping[str, Split],
    validation: float,
    aside: Mapping[str, str] | None = None,
) -> tuple[list[Example], StepAccount]:
    """Set the splits, set aside the rows without one, and check that no part is empty."""
    tally = Tally(f"split: {step}")
    placed = []
    for example in examples:
        part = places[example.id]
        reason = (aside or {}).get(example.id)
        if not reason and example.only == "train" and part != "train":
            reason = "training-only row of an evaluation group"
        elif not reason and example.only == "evaluate" and part == "train":
            reason = "evaluation-only row of a training group"
        if reason:
            tally.set_aside(example.id, reason)
        else:
            placed.append(replace(example, split=part))
    kept = set_aside_unlearned(placed, tally)
    counts = Counter(e.split for e in kept)
    for needed in ("train", "test", *(["validation"] if validation else [])):
        if not counts[needed]:  # type: ignore[index]
            aside_by_reason = tally.close(len(examples), len(kept)).set_aside
            reasons = "; ".join(f"{count} rows: {reason}" for reason, count in aside_by_reason.items())
            raise DataError(
                f"no row is in the {needed} part; {len(examples)} rows gave {dict(counts)}. "
                f"{f'Set aside: {reasons}. ' if reasons else ''}"
                "Add rows or groups, or set other shares in data.split.",
                where=f"split: {step}",
            )
    tally.notes = {str(part): count for part, count in sorted(counts.items(), key=str)}
    return kept, tally.close(len(examples), len(kept))
