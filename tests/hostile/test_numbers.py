"""NaN, infinity, zero and numbers of another length in what an adapter answers with: refused at publish and at load, by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import write_csv
from safetensors.torch import load_file, save_file

from vertical_sdk import VerticalModel, train
from vertical_sdk.adapters.folder import read_adapter
from vertical_sdk.card import CARD, Card, folder_digests, parse_card
from vertical_sdk.errors import AdapterError, CorruptAdapter, IdleAdapter
from vertical_sdk.members import ENSEMBLE
from vertical_sdk.registry import Registry
from vertical_sdk.tensors import check_tensors

ASKED = [{"debt": 9.0, "job": "nurse"}, {"debt": 1.0, "job": "clerk"}]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """An adapter of records with two members, whose recipe has no gate."""
    pytest.importorskip("lightgbm")
    folder = tmp_path_factory.mktemp("numbers")
    rng = np.random.default_rng(0)
    rows = [
        (f"{debt:.2f}", ("nurse", "clerk")[n % 2], ("good", "bad")[int(debt > 5)])
        for n, debt in enumerate(rng.normal(5, 2, 300))
    ]
    recipe = {
        "name": "risk",
        "task": "classification",
        "base": str(encoder),
        "labels": ["good", "bad"],
        "data": {
            "source": str(write_csv(folder / "rows.csv", rows, ("debt", "job", "risk"))),
            "columns": {"label": "risk"},
            "reader": {"use": "table", "record": {"debt": "debt", "job": "job"}},
            "decontaminate": None,
            "max_length": 32,
            "limits": {"unknown": 1.0},
        },
        "ensemble": [{"use": "boosted_trees", "n_estimators": 20, "min_child_samples": 5}, {"use": "probe"}],
        "adapter": {"r": 4},
        "train": {"max_steps": 3, "per_device_train_batch_size": 16, "bf16": False},
        "evaluate": {"gate": False},
    }
    (folder / "risk.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return train(folder / "risk.yaml", out=folder / "run").path / "adapter"


@pytest.fixture
def adapter(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "adapter"))


def edit_card(adapter: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change a card as text, with the right digests of the files."""
    card = json.loads((adapter / CARD).read_bytes())
    card["files"] = folder_digests(adapter)
    edit(card)
    (adapter / CARD).write_text(json.dumps(card))


def set_numbers(adapter: Path, file: str, tensor: str, value: float) -> None:
    """Set the last number of a tensor, and the digest in the card."""
    tensors = load_file(adapter / file)
    tensors[tensor].reshape(-1)[-1] = value
    save_file(tensors, adapter / file)
    edit_card(adapter, lambda _: None)


def refuse(adapter: Path, tmp_path: Path, *words: str) -> None:
    """Check that publishing and loading refuse the adapter with these words."""
    for attempt in (
        lambda: Registry(tmp_path / "registry").publish(adapter, force=True, reason="try"),
        lambda: VerticalModel.from_pretrained(adapter),
    ):
        with pytest.raises(CorruptAdapter) as raised:
            attempt()
        assert all(word in str(raised.value) for word in words), str(raised.value)


def test_an_honest_adapter_is_published_and_answers_as_its_self_tests(adapter: Path, tmp_path: Path) -> None:
    Registry(tmp_path / "registry").publish(adapter)

    bad, good = VerticalModel.from_registry("risk@1", Registry(tmp_path / "registry")).predict(ASKED)

    assert (bad.label, good.label) == ("bad", "good")
    assert all(len(self_test.whole) >= 2 for self_test in read_adapter(adapter).card.self_tests)


@pytest.mark.parametrize("value", [np.nan, np.inf], ids=str)
@pytest.mark.parametrize(
    ("file", "tensor"),
    [
        ("adapter_model.safetensors", "base_model.model.encoder.layer.0.attention.self.query.lora_B.weight"),
        ("head.safetensors", "linear.weight"),
        ("probe.safetensors", "linear.bias"),
        (ENSEMBLE, "weights"),
        (ENSEMBLE, "bias"),
        (ENSEMBLE, "0.trees.value"),
        (ENSEMBLE, "0.share"),
        (ENSEMBLE, "1.linear.weight"),
    ],
)
def test_a_tensor_with_a_number_that_is_not_finite_is_refused(
    adapter: Path, tmp_path: Path, file: str, tensor: str, value: float
) -> None:
    set_numbers(adapter, file, tensor, value)

    refuse(adapter, tmp_path, file, f"the tensor {tensor!r} contains a number that is not finite")


@pytest.mark.parametrize(
    ("file", "tensor", "value", "problem"),
    [
        ("head.safetensors", "std", 0.0, "'std' contains a number that is not more than 0"),
        ("probe.safetensors", "std", -1.0, "'std' contains a number that is not more than 0"),
        (ENSEMBLE, "1.std", 0.0, "1.std contains a number that is not more than 0"),
        (ENSEMBLE, "weights", -1.0, "weights must be from 0 to 5"),
        (ENSEMBLE, "0.trees.feature", 99.0, "trees.feature contains 99"),
        (ENSEMBLE, "0.trees.left", 0.0, "circle"),
    ],
)
def test_a_number_out_of_range_is_refused(
    adapter: Path, tmp_path: Path, file: str, tensor: str, value: float, problem: str
) -> None:
    set_numbers(adapter, file, tensor, value)

    if tensor.endswith("feature"):  # how many columns there are is known when the member is built
        with pytest.raises(CorruptAdapter, match=problem):
            VerticalModel.from_pretrained(adapter)
    else:
        refuse(adapter, tmp_path, file, problem)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_every_type_of_float_is_checked(dtype: torch.dtype, tmp_path: Path) -> None:
    path = tmp_path / "series.safetensors"
    for value in (float("nan"), float("inf"), -float("inf")):
        save_file({"course.near": torch.tensor([1.0, value, 2.0], dtype=dtype)}, path)
        with pytest.raises(
            CorruptAdapter, match=r"series\.safetensors: the tensor 'course\.near' contains a number that is not finite"
        ):
            check_tensors(path.read_bytes(), path)
    for value in (0.0, -1.0):
        save_file({"course.spread": torch.tensor([1.0, value], dtype=dtype)}, path)
        with pytest.raises(CorruptAdapter, match=r"the tensor 'course\.spread' contains a number that is not more than 0"):
            check_tensors(path.read_bytes(), path)
    save_file({"course.spread": torch.tensor([1.0, torch.finfo(dtype).max], dtype=dtype)}, path)
    assert check_tensors(path.read_bytes(), path) == {"course.spread": (2,)}


def calibrate(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda card: card["calibration"].update(changes)


CARDS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "temperature 0": (calibrate(temperature=0), "calibration.temperature"),
    "temperature -1": (calibrate(temperature=-1), "calibration.temperature"),
    "temperature 1e-300": (calibrate(temperature=1e-300), "calibration.temperature"),
    "temperature 1e300": (calibrate(temperature=1e300), "calibration.temperature"),
    "temperature NaN": (calibrate(temperature=float("nan")), "NaN is not a finite number"),
    "temperature Infinity": (calibrate(temperature=float("inf")), "Infinity is not a finite number"),
    "offsets of another length": (
        calibrate(offsets=[0.0, 0.0, 0.0]),
        "calibration.offsets has 3 numbers, and there are 2 labels",
    ),
    "offsets of 1e9": (calibrate(offsets=[0.0, 1e9]), "calibration.offsets.1"),
    "offsets of NaN": (calibrate(offsets=[0.0, float("nan")]), "NaN is not a finite number"),
    "level 1.5": (calibrate(level=1.5), "calibration.level"),
    "widths for labels": (calibrate(widths=[1.0]), "calibration.widths has 1 numbers, and 0 are needed"),
    "threshold 0": (calibrate(threshold=0), "calibration.threshold"),
    "rows -1": (calibrate(rows=-1), "calibration.rows"),
    "NaN in a self-test": (lambda card: card["self_tests"][0].update(adapter=[float("nan")] * 2), "NaN is not a finite number"),
    "a metric of NaN": (lambda card: card["metrics"].update(x=float("nan")), "NaN is not a finite number"),
    "an endless nesting": (lambda card: card["training"].update(x=json.loads("[" * 300 + "]" * 300)), "nested more than 64"),
    "a member too many": (
        lambda card: card["recipe"]["ensemble"].append("majority"),
        "the card's recipe names boosted_trees, probe, majority",
    ),
    "other options of a member": (lambda card: card["recipe"]["ensemble"][1].update(C=3.0), "with other options"),
    "members that are not named": (
        lambda card: card["recipe"].update(ensemble=[]),
        "but the recipe in its card names no members",
    ),
}


@pytest.mark.parametrize("name", CARDS)
def test_a_card_with_numbers_or_members_that_cannot_be_is_refused(name: str, adapter: Path, tmp_path: Path) -> None:
    edit, problem = CARDS[name]
    edit_card(adapter, edit)

    refuse(adapter, tmp_path, problem)


def test_named_members_whose_file_is_missing_are_refused(adapter: Path, tmp_path: Path) -> None:
    (adapter / ENSEMBLE).unlink()
    edit_card(adapter, lambda _: None)

    refuse(adapter, tmp_path, "has no ensemble.safetensors, but the recipe in its card names members (boosted_trees, probe)")


def series_card(trained: Path, **changes: Any) -> Card:
    """A card of a series with three channels and five steps ahead."""
    card = json.loads((trained / CARD).read_bytes())
    layout = {"channels": ["a", "b", "c"], "seconds": 300.0, "history": 12, "horizon": 5} | changes.pop("layout", {})
    return parse_card(json.dumps(card | {"labels": None, "layout": layout, "calibration": changes}).encode(), trained)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"widths": [1.0] * 4}, "calibration.widths has 4 numbers, and 15 are needed"),
        ({"widths": [1.0] * 5, "threshold": 2.0}, "calibration.widths has 5 numbers, and 3 are needed"),
        ({"widths": [1.0, 0.0, 1.0], "threshold": 2.0}, "calibration.widths must be more than 0, and contains 0"),
        ({"widths": [1.0, -1.0, 1.0], "threshold": 2.0}, "calibration.widths must be more than 0, and contains -1"),
        ({"threshold": -2.0}, "calibration.threshold"),
        ({"offsets": [1.0]}, "calibration.offsets has 1 numbers, and there are 0 labels"),
        ({"layout": {"seconds": 0}}, "layout.seconds must be more than 0"),
        ({"layout": {"seconds": 1e-6}}, "which is more than can be held"),
        ({"layout": {"history": 10**12}}, "which is more than can be held"),
        ({"layout": {"horizon": 0}}, "layout.horizon must be a number of steps"),
        ({"layout": {"largest": [1.0]}}, "layout.largest must be 3 numbers"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_a_card_of_series_with_numbers_that_do_not_fit_is_refused(trained: Path, changes: dict[str, Any], problem: str) -> None:
    assert series_card(trained, widths=[1.0, -0.5, 0.0, 1.0, 1.0], level=0.9).layout is not None
    assert series_card(trained, widths=[1.0, 0.5, 2.0], threshold=3.0).calibration.threshold == 3.0

    with pytest.raises(CorruptAdapter, match=problem.replace(".", r"\.")):
        series_card(trained, **changes)


def test_members_that_answer_otherwise_than_in_training_are_refused(adapter: Path) -> None:
    """The adapter alone answers as recorded; only the whole does not."""
    tensors = load_file(adapter / ENSEMBLE)
    tensors["0.trees.value"] = -tensors["0.trees.value"]
    save_file(tensors, adapter / ENSEMBLE)
    edit_card(adapter, lambda _: None)

    with pytest.raises(IdleAdapter, match="adapter, members and calibration together give another answer"):
        VerticalModel.from_pretrained(adapter)


@pytest.mark.parametrize(
    "edit",
    [calibrate(temperature=15.0), calibrate(offsets=[2.0, -2.0]), lambda card: card["self_tests"][0].update(whole=[0.5] * 9)],
    ids=["temperature", "offsets", "length"],
)
def test_a_calibration_of_another_training_is_refused(adapter: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    edit_card(adapter, edit)

    with pytest.raises(IdleAdapter, match=r"give another answer|is answered with \d numbers"):
        VerticalModel.from_pretrained(adapter)


def test_a_card_without_whole_answers_is_read_as_before(adapter: Path) -> None:
    edit_card(adapter, lambda card: [self_test.pop("whole") for self_test in card["self_tests"]])

    bad, good = VerticalModel.from_pretrained(adapter).predict(ASKED)

    assert (bad.label, good.label) == ("bad", "good")


def test_an_answer_that_is_not_finite_is_an_error(adapter: Path) -> None:
    model = VerticalModel.from_pretrained(adapter)
    head = model.specialist().head
    assert head is not None
    with torch.no_grad():
        head.linear.weight.mul_(float("inf"))

    with pytest.raises(AdapterError, match="risk answers 'record 0' with a number that is not finite"):
        model.predict(ASKED)
    with pytest.raises(AdapterError, match="risk answers 'record 0' with a number that is not finite"):
        model.predict_proba(ASKED)


def test_a_member_of_another_task_is_refused(adapter: Path, tmp_path: Path) -> None:
    tensors = load_file(adapter / ENSEMBLE)
    settings = json.loads(tensors["1.settings"].numpy().tobytes())
    encoded = json.dumps({**settings, "task": "regression"}).encode()
    tensors["1.settings"] = torch.frombuffer(bytearray(encoded), dtype=torch.uint8)
    save_file(tensors, adapter / ENSEMBLE)
    edit_card(adapter, lambda _: None)
    with pytest.raises(CorruptAdapter, match=r"1\.task is 'regression', and that of the ensemble is 'classification'"):
        VerticalModel.from_pretrained(adapter)
