from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vertical_sdk.catalog import augmentations, readers
from vertical_sdk.checking import check_recipe
from vertical_sdk.data.prepare import prepare
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.recipe import load_recipe
from vertical_sdk.types import Example

RNG = np.random.default_rng(0)
PICTURE = (np.add.outer(np.arange(28), np.arange(28)) * 4).astype(np.uint8)
PICTURE[10:14, 4:8] = 255
NAMES = ["medical.shift", "medical.rotate", "medical.zoom", "medical.intensity_window"]


def films(count: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {"images": rng.integers(0, 256, (count, 28, 28)).astype(np.uint8), "labels": np.arange(count)[:, None] % 2}


def save(path: Path, **parts: int) -> Path:
    arrays = {f"{part}_{k}": v for n, (part, count) in enumerate(parts.items()) for k, v in films(count, n).items()}
    np.savez(path, **arrays)
    return path


def read(path: Path, **more: Any) -> Any:
    return readers.get("medical.medmnist")(path, {}, "classification", **more)


def test_a_file_of_medmnist_is_read_with_its_parts(tmp_path: Path) -> None:
    path = save(tmp_path / "pneumonia.npz", train=5, val=2, test=3)

    found = read(path, names=("normal", "pneumonia"))

    assert [e.split for e in found.examples] == ["train"] * 5 + ["validation"] * 2 + ["test"] * 3
    assert [e.target for e in found.examples[:3]] == ["normal", "pneumonia", "normal"]
    assert (found.examples[5].id, found.labels, found.license) == ("val:0", ("normal", "pneumonia"), "CC-BY-4.0")
    np.testing.assert_array_equal(found.examples[6].values, films(2, 1)["images"][1])


def test_a_file_without_a_test_part_is_judged_on_its_validation_part(tmp_path: Path) -> None:
    found = read(save(tmp_path / "two.npz", train=4, val=2))

    assert [e.split for e in found.examples] == ["train"] * 4 + ["test"] * 2
    assert found.labels is None
    assert [e.target for e in found.examples[:2]] == ["0", "1"]


def test_images_alone_are_read_to_be_predicted(tmp_path: Path) -> None:
    np.savez(tmp_path / "new.npz", images=films(3, 0)["images"])

    found = read(tmp_path / "new.npz", missing="keep")

    assert [(e.id, e.target, e.split) for e in found.examples] == [(str(n), None, None) for n in range(3)]
    with pytest.raises(DataError, match="has images but no labels"):
        read(tmp_path / "new.npz", missing="refuse")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"train_images": np.zeros((4, 28, 28))}, r"train_images is float64 \(4, 28, 28\); bytes"),
        ({"train_images": np.zeros((4, 28), np.uint8)}, r"train_images is uint8 \(4, 28\); bytes"),
        ({"train_labels": np.array([0, 1, 0])}, r"train_labels is int64 \(3,\); one whole number for each of the 4"),
        ({"train_labels": np.array([0, 1, 0, 2])}, r"train_labels has the label 2; 2 names are given"),
        ({"train_labels": np.array([0, 1, -1, 0])}, r"train_labels has the label -1"),
        ({"train_labels": np.array([0.5, 1, 0, 1])}, r"train_labels is float64"),
        ({"train_labels": None}, r"has images but no train_labels"),
        ({"train_images": None}, r"has no train_images, val_images or test_images; it has train_labels"),
        ({"train_labels": np.array(["a", None, 1, 2], dtype=object)}, r"cannot be read as an \.npz file of numbers"),
    ],
)
def test_a_broken_file_is_refused_with_the_array_that_is_wrong(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    four = {"train_images": films(4, 0)["images"], "train_labels": np.array([0, 1, 0, 1])}
    arrays = {key: value for key, value in {**four, **change}.items() if value is not None}
    np.savez(tmp_path / "bad.npz", **arrays)

    with pytest.raises(DataError, match=rf"bad\.npz: {said}"):
        read(tmp_path / "bad.npz", names=("normal", "pneumonia"))


def test_a_file_that_is_not_npz_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cut.npz").write_bytes(save(tmp_path / "whole.npz", train=4).read_bytes()[:900])
    (tmp_path / "text.npz").write_text("no numbers")
    np.save(tmp_path / "one.npy", np.zeros(3))

    for name in ("cut.npz", "text.npz", "one.npy", "missing.npz"):
        with pytest.raises(DataError, match=name):
            read(tmp_path / name)
    with pytest.raises(RecipeError, match="not regression"):
        readers.get("medical.medmnist")(tmp_path / "whole.npz", {}, "regression")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", ["grey", "colour"])
def test_an_augmentation_keeps_label_size_and_kind(name: str, shape: str) -> None:
    picture = PICTURE if shape == "grey" else np.stack([PICTURE] * 3, axis=2)
    row = Example("a", target="pneumonia", values=picture)
    before = picture.copy()

    for seed in range(30):
        out = augmentations.get(name)(row, random.Random(seed), p=1.0)
        again = augmentations.get(name)(row, random.Random(seed), p=1.0)
        assert out.values is not None
        assert (out.id, out.target, out.values.shape, out.values.dtype) == ("a", "pneumonia", picture.shape, np.uint8)
        np.testing.assert_array_equal(out.values, again.values)
        assert not np.array_equal(out.values, picture)
    np.testing.assert_array_equal(picture, before)
    assert augmentations.get(name)(row, random.Random(0), p=0.0) is row


@pytest.mark.parametrize("name", NAMES[:3])
def test_a_moved_picture_is_never_mirrored(name: str) -> None:
    blurred = PICTURE.astype(float) - PICTURE.mean()

    for seed in range(30):
        out = augmentations.get(name)(Example("a", values=PICTURE), random.Random(seed), p=1.0).values
        near = float((blurred * (out - out.mean())).sum())
        assert near > float((blurred * (out[:, ::-1] - out.mean())).sum())
        assert near > float((blurred * (out[::-1] - out.mean())).sum())


def test_a_shift_by_whole_pixels_is_that_shift() -> None:
    class Set(random.Random):
        def uniform(self, a: float, b: float) -> float:
            return 2 / 28

        def random(self) -> float:
            return 0.0

    out = augmentations.get("medical.shift")(Example("a", values=PICTURE), Set(), p=1.0, most=0.1).values

    np.testing.assert_array_equal(out[4:26, 4:26], PICTURE[2:24, 2:24])


def test_a_window_moves_black_and_white_and_keeps_the_order_of_greys() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)

    for seed in range(30):
        out = augmentations.get("medical.intensity_window")(
            Example("a", values=ramp), random.Random(seed), p=1.0, most=0.3, gamma=0.5
        )
        assert (np.diff(out.values.reshape(-1).astype(int)) >= 0).all()
    same = augmentations.get("medical.intensity_window")(Example("a", values=ramp), random.Random(0), p=1.0, most=0.0)
    np.testing.assert_array_equal(same.values, ramp)


def test_a_row_without_a_picture_is_refused() -> None:
    with pytest.raises(DataError, match="row a: not a picture"):
        augmentations.get("medical.rotate")(Example("a", text="words"), random.Random(0), p=1.0)


def test_the_recipe_prepares_a_file_in_the_public_layout(tmp_path: Path) -> None:
    path = save(tmp_path / "pneumoniamnist.npz", train=40, val=10, test=12)
    recipe = load_recipe("medical/chest-xray", {"data.source": str(path)})
    check_recipe(recipe)

    prepared = prepare(recipe)

    assert (len(prepared.originals), len(prepared.validation), len(prepared.test)) == (40, 10, 12)
    assert len(prepared.train) > 100
    assert prepared.labels is not None
    assert prepared.labels.labels == ("normal", "pneumonia")
    copies = [e for e in prepared.train if e.copy_of == "train:0"]
    assert {e.target for e in copies} == {"normal"}
    assert all(e.values is not None and e.values.shape == (28, 28) for e in copies)


def test_the_recipe_takes_validation_rows_from_training_without_a_test_part(tmp_path: Path) -> None:
    path = save(tmp_path / "two.npz", train=40, val=10)

    prepared = prepare(load_recipe("medical/chest-xray", {"data.source": str(path)}))

    assert {e.id.partition(":")[0] for e in prepared.test} == {"val"}
    assert len(prepared.validation) == 4
    assert {e.id.partition(":")[0] for e in prepared.validation} == {"train"}
