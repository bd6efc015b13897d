"""Members of an ensemble whose trees were made to read and write outside their memory, to go round in circles, or to take it all."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from vertical_sdk.baselines.stacking import Ensemble, fit_ensemble, load_ensemble, save_ensemble
from vertical_sdk.errors import AdapterError, CorruptAdapter
from vertical_sdk.members import ENSEMBLE, decode_json, encode_json
from vertical_sdk.recipe import Data, Part, Recipe
from vertical_sdk.trees import MOST_TREES, Trees, parse_trees, read_trees
from vertical_sdk.types import Example, LabelSpace

lightgbm = pytest.importorskip("lightgbm")

TWO = LabelSpace(("good", "bad"))
PARTS = (Part(use="boosted_trees", n_estimators=8, num_leaves=4, min_child_samples=3), Part(use="tfidf"))
RECIPE = Recipe(name="own", task="classification", data=Data(source="rows.csv"), ensemble=PARTS)


def rows(count: int, seed: int) -> list[Example]:
    rng = np.random.default_rng(seed)
    made = []
    for n in range(count):
        debt, job = float(rng.normal()), ("nurse", "clerk", "cook")[n % 3]
        target = TWO.labels[int(debt + (job == "cook") > 0.3)]
        made.append(Example(f"{seed}-{n}", f"debt {debt:.0f}", target, record=(("debt", debt), ("job", job))))
    return made


@pytest.fixture(scope="module")
def fitted() -> Ensemble:
    return fit_ensemble(RECIPE, rows(300, 0), rows(90, 1), np.zeros((90, 2)), TWO, 0, None)[0]


def answer(folder: Path, asked: list[Example]) -> np.ndarray:
    loaded = load_ensemble(folder, RECIPE, TWO)
    return loaded.combine(np.zeros((len(asked), 2)), loaded.gather(asked, None))


@pytest.fixture
def file(fitted: Ensemble, tmp_path: Path) -> Path:
    save_ensemble(tmp_path, fitted)
    return tmp_path / ENSEMBLE


def change(file: Path, **changes: np.ndarray) -> None:
    save_file({**load_file(file), **{name.replace("__", "."): values for name, values in changes.items()}}, file)


def earlier_text(fitted: Ensemble) -> str:
    """LightGBM's text of the member's trees, as version 0.1 stored it."""
    from vertical_sdk.baselines import boosted_trees

    texts: list[str] = []
    parse = boosted_trees.parse_trees
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boosted_trees, "parse_trees", lambda text, objective: texts.append(text) or parse(text, objective))
        train = [*rows(300, 0), *rows(90, 1)]
        member = boosted_trees.boosted_trees(train, TWO, "classification", 0, None, **PARTS[0].arguments)
    np.testing.assert_array_equal(member.trees.value, fitted.members[0].trees.value)  # type: ignore[attr-defined]
    return texts[0]


def store_text(file: Path, text: str) -> None:
    """Put LightGBM's text into the file, as version 0.1 did, in place of the arrays."""
    tensors = {name: values for name, values in load_file(file).items() if not name.startswith("0.trees.")}
    tensors["0.settings"] = encode_json(decode_json(tensors["0.settings"]) | {"models": [text]})
    save_file(tensors, file)


TEXT = """tree
version=v4
num_class=1
num_tree_per_iteration=1
label_index=0
max_feature_idx=1
objective=binary sigmoid:1
feature_names=Column_0 Column_1
feature_infos=[-2:2] 0:1:2
tree_sizes=300

Tree=0
num_leaves=4
num_cat=0
split_feature=0 0 1
split_gain=3 2 1
threshold=0.1 -0.7 1.5
decision_type=10 8 2
left_child=1 -1 -2
right_child=2 -3 -4
leaf_value=-0.5 0.25 -0.25 0.5
leaf_weight=5 5 5 5
leaf_count=20 20 20 20
is_linear=0
shrinkage=0.1


end of trees

feature_importances:
Column_0=2
"""


def replace_line(text: str, key: str, value: str, *, tree: int = 0) -> str:
    """Change one line of one tree."""
    lines = text.split("\n")
    begin = lines.index(f"Tree={tree}")
    at = next(n for n in range(begin, len(lines)) if lines[n].startswith(f"{key}="))
    return "\n".join([*lines[:at], f"{key}={value}", *lines[at + 1 :]])


CHANGES: dict[str, tuple[Callable[[str], str], str]] = {
    "a split on a column that is not there": (
        lambda t: replace_line(t, "split_feature", "0 99999999 1"),
        "trees.feature contains 99999999",
    ),
    "a split on a negative column": (
        lambda t: replace_line(t, "split_feature", "0 -5 1"),
        "trees.feature contains a negative number",
    ),
    "a child that is not there": (
        lambda t: replace_line(t, "left_child", "1 2000000 -2"),
        "names a split that its tree does not have",
    ),
    "a leaf that is not there": (
        lambda t: replace_line(t, "right_child", "-3 -90000 -4"),
        "names a leaf that its tree does not have",
    ),
    "a circle": (lambda t: replace_line(t, "left_child", "1 0 -1"), "names a split before its parent, which is a circle"),
    "a split that is its own child": (lambda t: replace_line(t, "left_child", "0 1 2"), "which is a circle"),
    "a leaf with two parents": (lambda t: replace_line(t, "right_child", "-1 -1 -1"), "reaches a split or leaf twice"),
    "a million trees for each round": (
        lambda t: t.replace("num_tree_per_iteration=1", "num_tree_per_iteration=1000000"),
        "num_tree_per_iteration is 1000000",
    ),
    "too few leaves": (lambda t: replace_line(t, "num_leaves", "3"), "num_leaves is 3, and leaf_value has 4"),
    "two billion leaves": (lambda t: replace_line(t, "num_leaves", "2000000000"), "num_leaves is 2000000000"),
    "a leaf without a number": (
        lambda t: replace_line(t, "leaf_value", "nan 0 0 0"),
        "trees.value contains a number that is not finite",
    ),
    "an infinite leaf": (
        lambda t: replace_line(t, "leaf_value", "1e999 0 0 0"),
        "trees.value contains a number that is not finite",
    ),
    "a threshold without a number": (
        lambda t: replace_line(t, "threshold", "nan 0 0"),
        "trees.threshold contains a number that is not",
    ),
    "an unknown kind of split": (lambda t: replace_line(t, "decision_type", "254 2 2"), "unknown kind"),
    "a kind that fits no byte": (
        lambda t: replace_line(t, "decision_type", "2 2 700"),
        "decision_type contains something else",
    ),
    "categories without a set": (
        lambda t: replace_line(t, "decision_type", "1 1 1"),
        "do not name each of the tree's sets once",
    ),
    "words for numbers": (lambda t: replace_line(t, "left_child", "1 x -2"), "left_child contains something else than numbers"),
    "a number that fits no type": (
        lambda t: replace_line(t, "left_child", "1 99999999999999999999 -2"),
        "left_child contains something else",
    ),
    "linear trees": (lambda t: replace_line(t, "is_linear", "1"), "linear trees are not read"),
    "another objective": (lambda t: t.replace("binary sigmoid:1", "binary sigmoid:-7"), "'binary sigmoid:1' is needed"),
    "another version": (lambda t: t.replace("version=v4", "version=v9"), "version 'v9'"),
    "averaged trees": (lambda t: t.replace("label_index=0", "average_output"), "averaged"),
    "half a text": (lambda t: t[: t.index("leaf_weight")], "ends before 'end of trees'"),
    "a repeated line": (lambda t: t.replace("num_cat=0", "num_cat=0\nnum_leaves=4", 1), "'num_leaves' is repeated"),
    "no text": (lambda _: "", "does not begin with a line 'tree'"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_text_of_trees_is_refused(name: str, file: Path) -> None:
    made, problem = CHANGES[name]
    assert made(TEXT) != TEXT
    store_text(file, TEXT)
    loaded = load_ensemble(file.parent, RECIPE, TWO)
    loaded.combine(np.zeros((40, 2)), loaded.gather(rows(40, 2), None))

    store_text(file, made(TEXT))

    with pytest.raises(CorruptAdapter) as raised:
        load_ensemble(file.parent, RECIPE, TWO)
    assert problem in raised.value.message
    assert str(raised.value.where).endswith(ENSEMBLE)


def test_an_earlier_text_of_trees_answers_as_before(file: Path, fitted: Ensemble) -> None:
    text = earlier_text(fitted)
    store_text(file, text)

    member = load_ensemble(file.parent, RECIPE, TWO).members[0]

    asked = rows(40, 2)
    table = np.array(
        [[dict(row.record)["debt"], ("clerk", "cook", "nurse").index(str(dict(row.record)["job"]))] for row in asked]
    )
    expected = lightgbm.Booster(model_str=text).predict(table)
    np.testing.assert_allclose(member.predict(asked, None).probabilities[:, 1], expected, rtol=0, atol=1e-9)  # type: ignore[index]


def test_readers_need_no_lightgbm(file: Path, fitted: Ensemble, monkeypatch: pytest.MonkeyPatch) -> None:
    text, asked = earlier_text(fitted), rows(40, 2)
    expected = fitted.combine(np.zeros((40, 2)), fitted.gather(asked, None))
    monkeypatch.setitem(__import__("sys").modules, "lightgbm", None)

    arrays = answer(file.parent, asked)
    store_text(file, text)
    texts = answer(file.parent, asked)

    np.testing.assert_array_equal(arrays, texts)
    np.testing.assert_allclose(arrays, expected, atol=2e-3)  # tfidf is stored in half precision


ARRAYS: dict[str, tuple[dict[str, Callable[[np.ndarray], np.ndarray]], str]] = {
    "a column that is not there": ({"feature": lambda a: a + 2}, "trees.feature contains 3, and there are 2"),
    "an output that is not there": ({"output": lambda a: a + 1}, "trees.output contains 1, and there are 1"),
    "a circle": ({"left": lambda a: np.where(np.arange(len(a)) == 1, 0, a).astype(a.dtype)}, "circle"),
    "children of another tree": ({"right": lambda a: np.full_like(a, 900)}, "names a split that its tree does not have"),
    "another type": ({"feature": lambda a: a.astype(np.int64)}, "trees.feature must be int32"),
    "another shape": ({"value": lambda a: a.reshape(-1, 2)}, "trees.value must be float64 of one dimension"),
    "too few splits": ({"threshold": lambda a: a[:-1]}, "trees.threshold has"),
    "too many leaves": ({"leaves": lambda a: np.full_like(a, 2**31 - 1)}, "trees.leaves has"),
    "trees without leaves": ({"leaves": lambda a: a * 0}, "trees.leaves contains a tree without leaves"),
    "categories outside of the words": ({"category_start": lambda a: a + 7}, "trees.category_start does not divide"),
    "falling starts of categories": (
        {"category_start": lambda a: a - np.arange(len(a), dtype=a.dtype) % 2},
        "trees.category_start does not",
    ),
    "an infinite leaf": ({"value": lambda a: a * np.inf}, "trees.value"),
    "a NaN threshold": ({"threshold": lambda a: a * np.nan}, "trees.threshold"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_changed_arrays_of_trees_are_refused(name: str, file: Path) -> None:
    changes, problem = ARRAYS[name]
    tensors = load_file(file)
    change(file, **{f"0__trees__{key}": made(tensors[f"0.trees.{key}"]) for key, made in changes.items()})

    with pytest.raises(CorruptAdapter) as raised:
        load_ensemble(file.parent, RECIPE, TWO)
    assert problem in str(raised.value)


def test_any_change_of_any_array_is_refused_or_answered(fitted: Ensemble) -> None:
    """A thousand random changes: none crashes, hangs, or raises something else."""
    rng = np.random.default_rng(0)
    honest = fitted.members[0].trees  # type: ignore[attr-defined]
    asked, answered = rng.normal(size=(20, 2)), 0
    for _ in range(1000):
        name = str(rng.choice([item.name for item in dataclasses.fields(Trees)]))
        values = getattr(honest, name).copy()
        if len(values):
            wild = rng.choice([-(2**31), -3, -1, 0, 1, 2, 5, 9, 2**31 - 1])
            values[rng.integers(len(values))] = np.asarray(wild).astype(values.dtype)
        try:
            answered += bool(np.isfinite(dataclasses.replace(honest, **{name: values}).sums(asked, 1)).all())
        except ValueError as error:
            assert "trees." in str(error)  # noqa: PT017
    assert answered > 10


def chain(splits: int) -> dict[str, np.ndarray]:
    """One tree that leads from split to split."""
    return {
        "trees.output": np.zeros(1, np.int32),
        "trees.leaves": np.array([splits + 1], np.int32),
        "trees.feature": np.zeros(splits, np.int32),
        "trees.threshold": np.zeros(splits),
        "trees.decision": np.full(splits, 2, np.uint8),
        "trees.left": np.array([*range(1, splits), -1], np.int32),
        "trees.right": -2 - np.arange(splits, dtype=np.int32),
        "trees.category_start": np.zeros(splits + 1, np.int32),
        "trees.category_words": np.zeros(0, np.uint32),
        "trees.value": np.arange(splits + 1.0),
    }


def test_a_tree_like_a_chain_is_refused_in_time() -> None:
    began = time.monotonic()
    assert read_trees(chain(1000)).sums(np.array([[-1.0], [1.0]]), 1).tolist() == [[0.0], [1.0]]

    with pytest.raises(ValueError, match="leads more than 4096 splits deep"):
        read_trees(chain(200_000))
    assert time.monotonic() - began < 5


def test_a_large_text_is_parsed_in_linear_time() -> None:
    tree = "num_leaves=1\nnum_cat=0\nsplit_feature=\nthreshold=\ndecision_type=\nleft_child=\nright_child=\nleaf_value=1\n\n"
    head = "tree\nversion=v4\nnum_tree_per_iteration=1\nobjective=regression\n\n"

    def text(count: int) -> str:
        return head + "".join(f"Tree={n}\n{tree}" for n in range(count)) + "end of trees\n"

    began = time.monotonic()
    assert parse_trees(text(2000)).sums(np.zeros((1, 1)), 1)[0, 0] == 2000
    for wrong in (
        text(2000).replace("leaf_value=1", "leaf_value=" + "1 " * 50, 1),
        head + "a=b\n" * 100_000,
        head + "=" * 100_000,
    ):
        with pytest.raises(ValueError, match=r"leaf_value|repeated|ends before"):
            parse_trees(wrong)
    assert time.monotonic() - began < 5
    assert MOST_TREES < 2**20


def rename(tensors: dict[str, np.ndarray], settings: dict[str, Any]) -> dict[str, np.ndarray]:
    return tensors | {"settings": encode_json(decode_json(tensors["settings"]) | settings)}


WRONG: dict[str, tuple[Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]], str]] = {
    "a member with other options": (
        lambda t: rename(t, {"parts": [{"use": "boosted_trees"}, {"use": "tfidf"}]}),
        "the card's recipe names boosted_trees, tfidf",
    ),
    "one member less": (lambda t: rename(t, {"parts": [PARTS[1].model_dump()]}), "the file has the members tfidf"),
    "arrays of a third member": (lambda t: t | {"2.share": np.ones(2)}, "2.share belongs to no member"),
    "arrays of nobody": (lambda t: t | {"share": np.ones(2)}, "share belongs to no member"),
    "a missing array": (lambda t: {k: v for k, v in t.items() if k != "1.idf"}, "1.idf is missing"),
    "another task": (lambda t: rename(t, {"task": "regression"}), "the file is for regression"),
    "a negative weight": (lambda t: t | {"weights": t["weights"] * -1}, "weights must be from 0 to 5"),
    "no weight": (lambda t: t | {"weights": t["weights"] * 0}, "weights must be from 0 to 5 and not all 0"),
    "a huge weight": (lambda t: t | {"weights": t["weights"] * 1e30}, "weights must be from 0 to 5"),
    "too many weights": (lambda t: t | {"weights": np.ones(9)}, "weights has 9 numbers, and 3 are needed"),
    "an unknown weight": (lambda t: t | {"weights": t["weights"] * np.nan}, "'weights' contains a number that is not finite"),
    "too many biases": (
        lambda t: t | {"bias": np.zeros(3), "members_bias": np.zeros(3)},
        "bias has 3 numbers, and 2 are needed",
    ),
    "other biases without the adapter": (
        lambda t: t | {"members_bias": np.zeros(3)},
        "members_bias has 3 numbers, and bias 2",
    ),
    "too many weights without the adapter": (
        lambda t: t | {"members_weights": np.ones(3)},
        "members_weights has 3 numbers, and 2 are needed",
    ),
    "negative weights without the adapter": (
        lambda t: t | {"members_weights": -np.ones(2)},
        "members_weights must be from 0 to 5 and not all 0",
    ),
    "too many scores": (lambda t: rename(t, {"scores": [0.5, 0.5, 0.5]}), "2 offsets and 3 scores for 2 members"),
    "a calibration for other labels": (
        lambda t: rename(t, {"calibration": {"offsets": [0.0, 1.0, 2.0]}}),
        "calibration.offsets has 3 numbers, and there are 2 labels",
    ),
    "an infinite bias": (lambda t: t | {"bias": t["bias"] + np.inf}, "'bias' contains a number that is not finite"),
    "an unknown offset": (lambda t: rename_text(t, '"offsets": [[NaN, 0.0], []]'), "NaN is not a finite number"),
    "too many offsets": (lambda t: rename(t, {"offsets": [[0.0, 1.0, 2.0], []]}), "3 numbers, and 2 are needed"),
    "no idf": (lambda t: t | {"1.idf": t["1.idf"] * 0}, "1.idf contains a number that is not more than 0"),
    "a huge idf": (lambda t: t | {"1.idf": t["1.idf"] * 0 + 1e308}, "1.idf contains a number beyond 1e100"),
    "an unknown word weight": (
        lambda t: t | {"1.weight": t["1.weight"] * np.float16("nan")},
        "'1.weight' contains a number that is not",
    ),
    "word weights of another shape": (lambda t: t | {"1.weight": t["1.weight"][:-1]}, "1.weight must be floats of the shape"),
    "a share below 0": (lambda t: t | {"0.share": t["0.share"] - 1}, "0.share contains a number below 0"),
    "settings that are no bytes": (lambda t: t | {"0.settings": np.ones(3)}, "settings must be bytes"),
    "settings that are no JSON": (lambda t: t | {"settings": np.frombuffer(b"[" * 9999, np.uint8)}, "cannot be read"),
}


def rename_text(tensors: dict[str, np.ndarray], pair: str) -> dict[str, np.ndarray]:
    settings = decode_json(tensors["settings"]) | {"offsets": 0}
    content = __import__("json").dumps(settings).replace('"offsets": 0', pair)
    return tensors | {"settings": np.frombuffer(content.encode(), np.uint8).copy()}


@pytest.mark.parametrize("name", WRONG)
def test_members_that_the_card_does_not_describe_are_refused(name: str, file: Path) -> None:
    made, problem = WRONG[name]
    save_file(made(load_file(file)), file)

    with pytest.raises(CorruptAdapter) as raised:
        load_ensemble(file.parent, RECIPE, TWO)
    assert problem in str(raised.value)


def test_a_member_with_other_answers_than_the_adapter_has_is_an_error(file: Path) -> None:
    tensors = load_file(file)
    weight = np.hstack([tensors["1.weight"], tensors["1.weight"][:, :1]])
    save_file(tensors | {"1.weight": weight, "1.bias": np.zeros(3)}, file)

    ensemble = load_ensemble(file.parent, RECIPE, TWO)

    with pytest.raises(AdapterError, match=r"the member tfidf answers with the shape \(9, 3\)"):
        ensemble.combine(np.zeros((9, 2)), ensemble.gather(rows(9, 2), None))


def test_an_honest_file_is_read(file: Path, fitted: Ensemble, tmp_path: Path) -> None:
    again = tmp_path / "copy"
    again.mkdir()
    shutil.copy(file, again)

    loaded = load_ensemble(again, RECIPE, TWO)

    assert loaded.parts == fitted.parts
    assert loaded.weights.tolist() == fitted.weights.tolist()
