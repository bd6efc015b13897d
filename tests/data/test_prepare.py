import csv
from pathlib import Path
from typing import Any

import pytest

from vertical_sdk.card import Contract
from vertical_sdk.data import Prepared, prepare, read_rows
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.recipe import Recipe
from vertical_sdk.types import LabelSpace

ANIMALS = ("cat", "dog", "owl", "eel", "ant", "bee", "cow", "hen", "fox", "bat")


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def animals(count: int = 120) -> list[dict[str, Any]]:
    return [
        {"text": f"{ANIMALS[n % 10]} number {n * 7919} went {n * 104729} miles", "label": "ab"[n % 2], "owner": n // 4}
        for n in range(count)
    ]


def recipe(source: Path | dict[str, str], task: str = "classification", **changes: Any) -> Recipe:
    labels = changes.pop("labels", None)
    data = {
        "source": source if isinstance(source, dict) else str(source),
        "columns": {"text": "text", "label": "label"},
        **changes,
    }
    return Recipe.model_validate({"name": "animals", "task": task, "data": data, "labels": labels, "train": {"seed": 1}})


def everyone(prepared: Prepared) -> set[str]:
    return {e.id for e in (*prepared.train, *prepared.validation, *prepared.test)}


def test_a_recipe_becomes_three_parts_with_an_account(tmp_path: Path) -> None:
    rows = [*animals(), {"text": "  ", "label": "a", "owner": 1}, animals()[0]]

    prepared = prepare(recipe(write(tmp_path / "rows.csv", rows), split={"use": "stratified", "test": 0.2, "validation": 0.1}))

    assert (len(prepared.train), len(prepared.validation), len(prepared.test)) == (84, 12, 24)
    assert prepared.labels == LabelSpace(("a", "b"), counts={"a": 42, "b": 42})
    assert [step.step for step in prepared.account.steps] == [
        "read",
        "normalize",
        "drop_duplicates",
        "split: stratified",
        "decontaminate: validation against test",
        "decontaminate: train against evaluation",
        "check labels",
    ]
    assert prepared.account.lost == pytest.approx(2 / 122)
    assert all(step.adds_up for step in prepared.account.steps)
    assert prepared.detected == "CSV, text from 'text', label from 'label'"


def test_the_same_recipe_gives_the_same_rows_and_tells_its_source(tmp_path: Path) -> None:
    wanted = recipe(write(tmp_path / "rows.csv", animals()), license="CC0-1.0", augment=[{"use": "typos", "p": 0.5}])

    first, second = prepare(wanted), prepare(wanted)

    assert first == second
    assert first.sources[0].license == "CC0-1.0"
    assert len(first.sources[0].sha256) == 64


def test_another_seed_gives_other_parts(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", animals())

    assert prepare(recipe(path)).test != prepare(recipe(path).replace({"train.seed": 2})).test


def test_augmented_copies_are_in_training_only(tmp_path: Path) -> None:
    prepared = prepare(recipe(write(tmp_path / "rows.csv", animals()), augment=[{"use": "typos", "p": 0.9}], copies=2))

    copies = [e for e in prepared.train if "+" in e.id]
    assert len(copies) > 100
    assert not [e for e in (*prepared.validation, *prepared.test) if "+" in e.id]
    assert prepared.labels is not None
    assert sum(prepared.labels.counts.values()) == len(prepared.train)


def test_a_group_has_no_more_training_rows_than_the_cap(tmp_path: Path) -> None:
    columns = {"text": "text", "label": "label", "group": "owner"}

    prepared = prepare(recipe(write(tmp_path / "rows.csv", animals()), columns=columns, split="group", per_group=2))

    owners = [e.group for e in prepared.train]
    assert max(map(owners.count, owners)) == 2
    assert max([e.group for e in prepared.test].count(g) for g in {e.group for e in prepared.test}) == 4
    assert prepared.account.lost == 0


def test_training_rows_that_nearly_repeat_a_test_row_are_gone(tmp_path: Path) -> None:
    test = [{"text": f"{row['text']} again and again and again", "label": row["label"]} for row in animals(10)]
    near = [{"text": f"{row['text']}!", "label": row["label"]} for row in test[:5]]
    source = {
        "train": str(write(tmp_path / "train.csv", [*animals()[20:], *near])),  # type: ignore[list-item]
        "test": str(write(tmp_path / "test.csv", test)),
    }

    prepared = prepare(recipe(source, split="given", columns={}))

    assert len(prepared.test) == 10
    assert prepared.account.steps[-2].dropped == {"nearly repeats an evaluation row": 5}
    assert {e.id.split(":")[0] for e in prepared.train} == {"train"}
    assert len(prepared.sources) == 2


def test_more_loss_than_allowed_stops_with_reasons(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", animals(40) * 2)

    with pytest.raises(DataError, match=r"50\.0% of the 80 rows read were dropped.*drop_duplicates: 40 duplicate"):
        prepare(recipe(path))
    assert len(everyone(prepare(recipe(path, limits={"lost": 0.6})))) == 40


def test_one_label_only_is_nothing_to_learn(tmp_path: Path) -> None:
    rows = [{**row, "label": "a"} for row in animals()]

    with pytest.raises(DataError, match="all rows have the label 'a'"):
        prepare(recipe(write(tmp_path / "rows.csv", rows)))


def test_the_recipes_labels_give_the_order_and_what_is_said_of_them(tmp_path: Path) -> None:
    prepared = prepare(recipe(write(tmp_path / "rows.csv", animals()), labels={"b": "The second.", "a": "The first."}))

    assert prepared.labels is not None
    assert prepared.labels.labels == ("b", "a")
    assert prepared.labels.describe("a") == "The first."


def test_a_label_that_the_recipe_does_not_list_is_named(tmp_path: Path) -> None:
    rows = [*animals(), {"text": "x", "label": "benign ", "owner": 0}]

    with pytest.raises(DataError, match=r"'benign' in 1 rows \(first: 122\)\. Did you mean 'bening'\?"):
        prepare(recipe(write(tmp_path / "rows.csv", rows), labels=["a", "b", "bening"]))


def test_ordinal_labels_need_an_order(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", animals())

    with pytest.raises(DataError, match=r"needs its labels in order. Set labels: \[\"a\", \"b\"\]"):
        prepare(recipe(path, "ordinal"))
    prepared = prepare(recipe(path, "ordinal", labels=["b", "a"]))
    assert prepared.labels is not None
    assert prepared.labels.labels == ("b", "a")


def test_numbers_have_no_labels(tmp_path: Path) -> None:
    rows = [{**row, "label": n / 3} for n, row in enumerate(animals())]

    prepared = prepare(recipe(write(tmp_path / "rows.csv", rows), "regression"))

    assert prepared.labels is None
    assert isinstance(prepared.train[0].target, float)


def test_conversations_go_all_the_way(tmp_path: Path) -> None:
    rows = [{"prompt": f"{row['text']}?", "completion": row["label"]} for row in animals()]

    prepared = prepare(recipe(write(tmp_path / "rows.csv", rows), "generation", columns={}))

    assert prepared.labels is None
    assert [turn.role for turn in prepared.train[0].messages] == ["user", "assistant"]
    assert len(everyone(prepared)) == 120


def test_personal_data_is_replaced_before_anything_is_split(tmp_path: Path) -> None:
    pytest.importorskip("presidio_analyzer")
    rows = [{**row, "text": f"{row['text']} by ant{n}@mayo.org"} for n, row in enumerate(animals())]

    prepared = prepare(recipe(write(tmp_path / "rows.csv", rows), deidentify={"use": "presidio", "names": False}))

    assert not [e for e in (*prepared.train, *prepared.test) if "mayo" in e.text]
    assert next(s for s in prepared.account.steps if s.step == "deidentify").notes["EMAIL_ADDRESS"] == 120


def test_a_wrong_argument_names_its_key(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", animals())

    with pytest.raises(RecipeError, match=r"animals: data\.clean\.0: normalize has no argument 'min_chars'"):
        prepare(recipe(path, clean=[{"use": "normalize", "min_chars": 3}]))


def test_rows_to_predict_come_back_all_and_in_order(tmp_path: Path) -> None:
    path = write(tmp_path / "new.csv", [{"text": "b  b", "x": 1}, {"text": "", "x": 1}, {"text": "b b", "x": 1}])

    rows, account = read_rows(path, recipe(path), Contract(labels=("a", "b")))

    assert [(e.text, e.target) for e in rows] == [("b b", None), ("", None), ("b b", None)]
    assert account.changed == {"white space": 1}


def test_rows_to_evaluate_need_a_label_that_was_trained(tmp_path: Path) -> None:
    path = write(
        tmp_path / "new.csv", [{"text": "x", "label": "a"}, {"text": "y", "label": "bb"}, {"text": "z", "label": "bb"}]
    )
    lacking = write(tmp_path / "lacking.csv", [{"text": "x", "label": "a"}, {"text": "y", "label": ""}])

    with pytest.raises(
        DataError, match=r"new.csv: 1 labels are not among those that were trained: 'bb' in 2 rows \(first: 3\)"
    ):
        read_rows(path, recipe(path), Contract(labels=("a", "b")), require_label=True)
    with pytest.raises(DataError, match=r"lacking\.csv:3: no label"):
        read_rows(lacking, recipe(path), Contract(labels=("a", "b")), require_label=True)
    assert len(read_rows(lacking, recipe(path), Contract(labels=("a", "b")))[0]) == 2


def test_questions_to_answer_need_no_answers(tmp_path: Path) -> None:
    path = write(tmp_path / "new.csv", [{"prompt": "why?"}, {"prompt": "how?"}])

    rows, _ = read_rows(path, recipe(path, "generation", columns={}), Contract())

    assert [[(turn.role, turn.content) for turn in e.messages] for e in rows] == [[("user", "why?")], [("user", "how?")]]


def test_progress_goes_from_nothing_to_all(tmp_path: Path) -> None:
    seen: list[float] = []

    prepare(recipe(write(tmp_path / "rows.csv", animals())), progress=lambda _, share: seen.append(share or 0.0))

    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0.0, 1.0)


def test_ids_of_the_source_name_the_rows_to_predict_and_to_evaluate(tmp_path: Path) -> None:
    path = write(tmp_path / "ask.csv", [{"id": n, "text": f"row {n}", "label": "a"} for n in (501, "502.0", " 503")])
    own = recipe(path, columns={"text": "text", "label": "label", "id": "id", "group": "owner", "time": "day"})

    for evaluated in (False, True):
        rows, _ = read_rows(path, own, Contract(labels=("a", "b")), require_label=evaluated)
        assert [e.id for e in rows] == ["501", "502", "503"]


def test_groups_are_read_for_an_evaluation_that_resamples_them(tmp_path: Path) -> None:
    path = write(tmp_path / "judge.csv", [{"text": "x", "label": "a", "owner": " p7"}])
    own = recipe(path, columns={"text": "text", "label": "label", "group": "owner"})

    assert [e.group for e in read_rows(path, own, Contract(labels=("a",)), require_label=True)[0]] == ["p7"]


def test_labels_that_may_be_one_are_named_before_training(tmp_path: Path) -> None:
    rows = [{**row, "label": ("Spam", "spam", "ham")[n % 3]} for n, row in enumerate(animals())]

    prepared = prepare(recipe(write(tmp_path / "rows.csv", rows)))

    notes = next(step.notes for step in prepared.account.steps if step.step == "check labels")
    assert list(notes.values()) == [["'Spam', 'spam'"]]


def test_a_test_file_with_labels_in_another_form_says_why_none_counts(tmp_path: Path) -> None:
    train, test = animals(60), animals(120)[60:]
    files = {
        "train": str(write(tmp_path / "a.csv", [{**row, "label": n % 2} for n, row in enumerate(train)])),
        "test": str(write(tmp_path / "b.csv", [{**row, "label": f"{n % 2}.0"} for n, row in enumerate(test)])),
    }

    with pytest.raises(DataError, match=r"label '1\.0' is in no training row; '1' differs from it only in case or in how"):
        prepare(recipe(files, split={"use": "given", "validation": 0.1}))


def test_ordinal_labels_are_listed_in_their_order_and_quoted(tmp_path: Path) -> None:
    rows = [{**row, "label": (1, 2, 10)[n % 3]} for n, row in enumerate(animals())]

    with pytest.raises(DataError, match=r'Set labels: \["1", "2", "10"\], from low to high'):
        prepare(recipe(write(tmp_path / "rows.csv", rows), "ordinal"))


@pytest.mark.parametrize("forms", [(" p{}", "p{}"), ("{}", "{}.0"), ("p{}\u00a0", "p{}\u200b")])
def test_a_group_in_two_forms_stays_in_one_part(tmp_path: Path, forms: tuple[str, str]) -> None:
    rows = [{**row, "owner": forms[n % 2].format(n // 4)} for n, row in enumerate(animals())]
    columns = {"text": "text", "label": "label", "group": "owner"}

    prepared = prepare(recipe(write(tmp_path / "rows.csv", rows), columns=columns, split="group", decontaminate=None))

    parts = [{e.group for e in part} for part in (prepared.train, prepared.validation, prepared.test)]
    assert len(set().union(*parts)) == 30
    assert sum(map(len, parts)) == 30


def test_steps_of_a_time_split_sort_as_numbers(tmp_path: Path) -> None:
    rows = [{**row, "step": n * 100} for n, row in enumerate(animals())]
    columns = {"text": "text", "label": "label", "time": "step", "id": "step"}

    prepared = prepare(recipe(write(tmp_path / "rows.csv", rows), columns=columns, split="time", decontaminate=None))

    steps = [[int(e.id) for e in part] for part in (prepared.train, prepared.validation, prepared.test)]
    assert max(steps[0]) < min(steps[1])
    assert max(steps[1]) < min(steps[2])
    assert max(steps[2]) == 11900


def test_a_field_that_loses_digits_in_the_text_is_counted(tmp_path: Path) -> None:
    rows = [{"y": "ab"[n % 2], "level": 1000.5 + n / 1000, "year": 2000 + n % 20} for n in range(120)]
    own = recipe(
        write(tmp_path / "rows.csv", rows),
        columns={"label": "y"},
        reader={"use": "table", "record": "all"},
        decontaminate=None,
        clean=[],
    )

    prepared = prepare(own)

    notes = prepared.account.steps[0].notes
    assert notes["values that the text tells to three digits"] == {"level": 120}
    assert notes["different values that look the same in the text"] == {"level": 119}
    assert [(field.name, field.kind) for field in prepared.fields] == [("level", "numbers"), ("year", "whole")]
    assert "year: 2019" in {e.text.partition("; ")[2] for e in prepared.train}


def folded(path: Path, folds: int = 4, **changes: Any) -> Prepared:
    return prepare(recipe(path, **changes).replace({"evaluate.use": "crossfit", "evaluate.folds": folds}))


def test_every_row_is_judged_in_one_fold_by_the_rows_of_the_others(tmp_path: Path) -> None:
    prepared = folded(write(tmp_path / "rows.csv", animals()), augment=[{"use": "typos", "p": 0.5}])

    assert len(prepared.folds) == 4
    assert sorted(e.id for e in prepared.judged) == sorted(e.id for e in prepared.train)
    assert len(prepared.train) == 120
    assert (prepared.validation, prepared.test) == ((), ())
    for fold in prepared.folds:
        assert (len(fold.test), len(fold.originals), fold.validation) == (30, 90, ())
        assert any(e.copy_of for e in fold.train)
        assert {e.target for e in fold.test} == {"a", "b"}
        assert sum(e.target == "a" for e in fold.test) == 15
        assert not {e.id for e in fold.test} & {e.copy_of or e.id for e in fold.train}
    assert prepared.account.steps[-1].notes == {f"fold {number}": 30 for number in (1, 2, 3, 4)}
    assert all(step.adds_up for fold in prepared.folds for step in fold.account.steps)


def test_folds_do_not_depend_on_the_order_of_rows_and_keep_groups_together(tmp_path: Path) -> None:
    columns = {"text": "text", "label": "label", "group": "owner"}
    first = folded(write(tmp_path / "a.csv", animals()), columns=columns, split={"use": "group", "by": "owner"}, per_group=3)
    second = folded(write(tmp_path / "b.csv", animals()[::-1]), columns=columns, split={"use": "group", "by": "owner"})

    owners = [{e.group for e in fold.test} for fold in first.folds]
    assert [{e.group for e in fold.test} for fold in second.folds] == owners
    assert sum(map(len, owners)) == len(set.union(*owners)) == 30
    for fold in first.folds:
        assert not {e.group for e in fold.train} & {e.group for e in fold.test}
        assert len(fold.test) in {28, 32}, "rows beyond per_group are judged too"
    # 3 of the 4 rows of each of the 30 owners are learned; the others are only judged and calibrated on
    assert (len(first.train), len(first.validation), len(first.judged)) == (90, 30, 120)


def test_near_duplicates_are_not_divided_between_a_fold_and_what_its_adapter_learns(tmp_path: Path) -> None:
    rows = animals(60)
    twins = [
        {**row, "text": f"{row['text']} and then it went home to sleep until the next morning{end}"}
        for row in rows
        for end in ("", "!")
    ]
    path = write(tmp_path / "rows.csv", twins)

    loose = folded(path, decontaminate=None, clean=["normalize"])
    strict = folded(path, decontaminate=0.9, clean=["normalize"], limits={"lost": 0.5})

    def count_divided(prepared: Prepared) -> int:
        return sum(
            len({e.text.rstrip("!") for e in fold.train} & {e.text.rstrip("!") for e in fold.test}) for fold in prepared.folds
        )

    assert count_divided(loose) > 50
    assert count_divided(strict) == 0
    assert len(strict.judged) == 120


def test_too_many_folds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="12 rows or groups cannot fill 20 folds"):
        folded(write(tmp_path / "rows.csv", animals(12)), folds=20)
