import random
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from vertical_sdk.data.split import given, group, stratified, time
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.types import Example


def labelled(counts: dict[str, int]) -> list[Example]:
    return [Example(f"{label}{n}", f"{label} text {n}", label) for label, count in counts.items() for n in range(count)]


def grouped(seed: int = 0, groups: int = 60) -> list[Example]:
    rng = random.Random(seed)
    return [
        Example(f"{g}-{n}", f"row {n} of {g}", "xyz"[g % 3], group=f"g{g}", time=f"2021-{1 + g % 12:02d}-01")
        for g in range(groups)
        for n in range(rng.randrange(1, 9))
    ]


def parts(rows: list[Example]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        found[str(row.split)].add(row.id)
    return dict(found)


def test_stratified_gives_every_label_its_share() -> None:
    rows, account = stratified(labelled({"a": 200, "b": 40, "c": 20}), 0, test=0.15, validation=0.1)

    counts = Counter((e.target, e.split) for e in rows)
    assert [counts[label, "test"] for label in "abc"] == [30, 6, 3]
    assert [counts[label, "validation"] for label in "abc"] == [20, 4, 2]
    assert account.notes == {"test": 39, "train": 195, "validation": 26}


@pytest.mark.parametrize("splitter", [stratified, group, time])
def test_the_order_of_rows_does_not_matter(splitter: Callable[..., Any]) -> None:
    examples = grouped()
    shuffled = random.Random(5).sample(examples, len(examples))

    assert parts(splitter(examples, 3)[0]) == parts(splitter(shuffled, 3)[0])


@pytest.mark.parametrize("splitter", [stratified, group])
def test_another_seed_gives_another_split(splitter: Callable[..., Any]) -> None:
    assert parts(splitter(grouped(), 0)[0]) != parts(splitter(grouped(), 1)[0])
    assert parts(splitter(grouped(), 0)[0]) == parts(splitter(grouped(), 0)[0])


@pytest.mark.parametrize("splitter", [stratified, group, time])
@pytest.mark.parametrize("seed", range(5))
def test_a_group_is_in_one_part_and_every_row_is_accounted_for(splitter: Callable[..., Any], seed: int) -> None:
    examples = grouped(seed)
    torn = [replace(e, time=f"2021-{1 + n % 12:02d}-01") for n, e in enumerate(examples)] if splitter is time else examples

    rows, account = splitter(torn, seed)

    sides = defaultdict(set)
    for row in rows:
        sides[row.group].add(row.split)
    assert all(len(side) == 1 for side in sides.values())
    assert account.adds_up
    assert (account.rows_in, account.rows_out) == (len(examples), len(rows))


def test_groups_keep_the_share_of_rows_and_of_labels() -> None:
    rows, _ = group(grouped(groups=300), 0, test=0.2, validation=0.1)

    counts = Counter((e.target, e.split) for e in rows)
    for label in "xyz":
        total = sum(counts[label, split] for split in ("train", "validation", "test"))
        assert counts[label, "test"] / total == pytest.approx(0.2, abs=0.03)
        assert counts[label, "validation"] / total == pytest.approx(0.1, abs=0.03)


def test_a_label_with_too_few_groups_stays_in_training() -> None:
    rare = [Example(f"r{n}", f"rare {n}", "rare", group=f"r{n % 2}") for n in range(10)]

    rows, _ = group([*grouped(), *rare], 0)

    assert {e.split for e in rows if e.target == "rare"} == {"train"}


def test_rows_for_one_side_only_are_set_aside_on_the_other() -> None:
    examples = [
        Example(f"{g}{only}{n}", f"{g} {only} {n}", "xy"[g % 2], group=str(g), only=only)  # type: ignore[arg-type]
        for g in range(40)
        for only in ("train", "evaluate")
        for n in range(3)
    ]

    rows, account = group(examples, 0, test=0.2, validation=0.1)

    assert {(e.only, e.split) for e in rows} == {("train", "train"), ("evaluate", "validation"), ("evaluate", "test")}
    held_out = len({e.group for e in rows if e.split != "train"})
    assert account.set_aside == {
        "training-only row of an evaluation group": 3 * held_out,
        "evaluation-only row of a training group": 3 * (40 - held_out),
    }
    assert Counter(e.split for e in rows)["test"] == 3 * 8


def test_without_groups_rows_for_evaluation_only_are_divided_among_the_judging_parts() -> None:
    only = [Example(f"e{n}", f"e{n}", "ab"[n % 2], only="evaluate") for n in range(50)]
    train = [Example(f"t{n}", f"t{n}", "ab"[n % 2], only="train") for n in range(50)]

    rows, account = stratified([*only, *train], 0, test=0.15, validation=0.1)

    assert Counter((e.only, e.split) for e in rows) == {
        ("train", "train"): 50,
        ("evaluate", "test"): 30,
        ("evaluate", "validation"): 20,
    }
    assert account.set_aside == {}


def test_time_puts_the_last_rows_in_the_test_part_and_never_divides_a_moment() -> None:
    examples = [Example(str(n), f"t{n}", "ab"[n % 2], time=f"2021-01-{1 + n // 10:02d}") for n in range(100)]

    rows, _ = time(examples, 0, test=0.15, validation=0.1)

    times = {split: {e.time for e in rows if e.split == split} for split in ("train", "validation", "test")}
    assert max(times["train"]) < min(times["validation"]) <= max(times["validation"]) < min(times["test"])  # type: ignore[type-var]
    assert sum(e.split == "test" for e in rows) == 20


def test_the_sources_own_parts_are_kept_and_validation_is_carved_out() -> None:
    examples = [replace(e, split="test" if n % 5 == 0 else "train") for n, e in enumerate(labelled({"a": 100, "b": 100}))]

    rows, _ = given(examples, 0, validation=0.1)

    assert parts(rows)["test"] == {e.id for e in examples if e.split == "test"}
    counts = Counter((e.target, e.split) for e in rows)
    assert (counts["a", "validation"], counts["b", "validation"]) == (8, 8)


def test_the_sources_own_validation_part_stays() -> None:
    splits = ("train", "validation", "test", "train")
    examples = [replace(e, split=splits[n % 4]) for n, e in enumerate(labelled({"a": 8, "b": 8}))]

    rows, account = given(examples, 0)

    assert rows == examples
    assert account.set_aside == {}


def test_a_group_torn_by_the_source_loses_its_earlier_rows() -> None:
    examples = [replace(e, split="test" if n % 2 else "train") for n, e in enumerate(labelled({"a": 20, "b": 20}))]
    examples[0] = replace(examples[0], group="p")
    examples[1] = replace(examples[1], group="p")

    rows, account = given(examples, 0)

    assert examples[0].id not in {e.id for e in rows}
    assert account.set_aside == {"its group is also in a later part": 1}


def test_a_label_that_training_never_saw_is_set_aside_with_its_name() -> None:
    examples = [replace(e, split="train") for e in labelled({"a": 20, "b": 20})]
    examples += [Example("t1", "x", "a", split="test"), Example("t2", "y", "new", split="test")]

    rows, account = given(examples, 0)

    assert account.set_aside == {"label 'new' is in no training row": 1}
    assert "t2" not in {e.id for e in rows}


def test_numbers_are_spread_over_their_tenths() -> None:
    examples = [Example(str(n), f"t{n}", float(n)) for n in range(200)]

    rows, _ = stratified(examples, 0, test=0.2, validation=0.1)

    tenths = Counter(int(e.target) // 20 for e in rows if e.split == "test" and isinstance(e.target, float))
    assert len(tenths) == 10
    assert set(tenths.values()) <= {3, 4, 5}


def test_the_rarest_label_of_several_is_what_is_spread() -> None:
    examples = [Example(str(n), f"t{n}", ("common", "rare") if n % 10 == 0 else ("common",)) for n in range(200)]

    rows, _ = stratified(examples, 0, test=0.2, validation=0.1)

    rare = Counter(e.split for e in rows if e.target == ("common", "rare"))
    assert rare == {"train": 14, "validation": 2, "test": 4}


@pytest.mark.parametrize(
    ("splitter", "examples", "message"),
    [
        (group, labelled({"a": 5}), "5 of 5 rows have no group .first: a0.*data.columns.group"),
        (group, [Example(str(n), "x", "a", group=str(n % 2)) for n in range(9)], "2 groups cannot fill 3 parts"),
        (time, labelled({"a": 5}), "5 of 5 rows have no time"),
        (time, [Example(str(n), "x", "a", time="2021") for n in range(9)], "only 1 different times"),
        (given, labelled({"a": 5}), "5 of 5 rows have no split"),
        (given, [replace(e, split="train") for e in labelled({"a": 9})], "no row is in the test part"),
        (stratified, labelled({"a": 2, "b": 2}), "no row is in the test part"),
    ],
)
def test_a_split_that_cannot_be_made_says_why(splitter: Callable[..., Any], examples: list[Example], message: str) -> None:
    with pytest.raises(DataError, match=message):
        splitter(examples, 0)


@pytest.mark.parametrize("shares", [{"test": 0.0}, {"test": 0.9, "validation": 0.1}, {"test": 1.5}, {"validation": -0.1}])
def test_shares_that_leave_nothing_are_a_wrong_recipe(shares: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match="must be shares that leave rows for training"):
        stratified(labelled({"a": 50, "b": 50}), 0, **shares)


def test_no_validation_part_can_be_asked_for() -> None:
    rows, _ = stratified(labelled({"a": 50, "b": 50}), 0, test=0.2, validation=0)

    assert Counter(e.split for e in rows) == {"train": 80, "test": 20}


def hourly(count: int) -> list[Example]:
    return [Example(f"r{n}", target=f"{n % 2}", time=f"2024-01-{1 + n // 24:02d}T{n % 24:02d}:00:00") for n in range(count)]


def test_a_gap_sets_aside_the_hours_before_each_later_part() -> None:
    rows, account = time(hourly(100), 0, test=0.2, validation=0.2, gap=5)

    found = parts(rows)
    assert found["test"] == {f"r{n}" for n in range(80, 100)}
    assert found["validation"] == {f"r{n}" for n in range(60, 76)}  # r75 is five hours before r80
    assert found["train"] == {f"r{n}" for n in range(56)}
    assert account.set_aside == {"less than 5 hours before the next part": 8}


def test_a_gap_needs_whole_times() -> None:
    rows = [Example(f"r{n}", target=f"{n % 2}", time=f"{n:05d}") for n in range(50)]

    with pytest.raises(DataError, match="are not both ISO 8601"):
        time(rows, 0, gap=1.0)
