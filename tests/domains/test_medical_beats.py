import random
import zipfile
from pathlib import Path

import numpy as np
import pytest

from vertical_sdk.catalog import augmentations, readers
from vertical_sdk.checking import check_recipe
from vertical_sdk.data.prepare import prepare
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.recipe import load_recipe
from vertical_sdk.types import Example

STEPS = np.linspace(0, 1, 20)
BEAT = np.sin(2 * np.pi * STEPS).astype(np.float32)
LINE = " ".join(f"{value:.7e}" for value in BEAT)
TABLE = f"  1.0000000e+00  {LINE}\n  2.0000000e+00  {LINE}\n\n  4.0000000e+00  {LINE}\n"
KINDS = ["normal", "R-on-T", "supraventricular"]
AUGMENTATIONS = ["medical.time_warp", "medical.scale_amplitude"]


def file_of(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def with_header(path: Path, rows: list[list[str]]) -> Path:
    header = ["label", *(f"t{step}" for step in range(len(rows[0]) - 1))]
    return file_of(path, "\n".join(",".join(row) for row in [header, *rows]) + "\n")


@pytest.mark.parametrize("between", [" ", "\t", ","])
def test_beats_are_read_as_the_archive_has_them(between: str, tmp_path: Path) -> None:
    text = "\n".join(between.join(line.split()) for line in TABLE.splitlines())

    found = readers.get("medical.ecg_beats")(file_of(tmp_path / "ECG5000_TRAIN.txt", text), {}, "classification")

    assert [(e.id, e.target, e.text) for e in found.examples] == [("1", KINDS[0], ""), ("2", KINDS[1], ""), ("4", KINDS[2], "")]
    assert found.examples[0].values is not None
    assert found.examples[0].values.dtype == np.float32
    np.testing.assert_allclose(found.examples[0].values, BEAT, atol=1e-6)
    assert found.labels is not None
    assert len(found.labels) == len(found.descriptions) == 5


def test_both_files_of_the_archive_are_read_from_a_zip_or_a_folder(tmp_path: Path) -> None:
    read = readers.get("medical.ecg_beats")
    for name in ("ECG5000_TRAIN.txt", "ECG5000_TEST.txt", "README.md"):
        file_of(tmp_path / name, TABLE if name.endswith("txt") else "about")
    archive = tmp_path / "made" / "ECG5000.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as made:
        for name in ("ECG5000_TRAIN.txt", "ECG5000_TEST.txt", "README.md"):
            made.write(tmp_path / name, name)

    whole = read(archive, {}, "classification")

    assert [e.id for e in whole.examples] == ["train:1", "train:2", "train:4", "test:1", "test:2", "test:4"]
    assert [e.id for e in read(tmp_path, {}, "classification").examples] == [e.id for e in whole.examples]
    assert len(read(archive, {}, "classification", member="ECG5000_TEST.txt").examples) == 3
    with pytest.raises(DataError, match=r"has no 'ECG.txt'; it has ECG5000_TEST.txt"):
        read(archive, {}, "classification", member="ECG.txt")


def test_a_table_with_a_header_may_have_gaps_and_names(tmp_path: Path) -> None:
    cells = [f"{value:.3f}" for value in BEAT]
    file = with_header(tmp_path / "beats.csv", [["PVC", *cells], ["1.0", "", *cells[1:]], ["", *cells], ["2", *[""] * 20]])

    found = readers.get("medical.ecg_beats")(file, {}, "classification")

    assert [e.target for e in found.examples] == ["PVC", "normal"]
    assert found.examples[1].values is not None
    assert np.isnan(found.examples[1].values).tolist() == [True, *[False] * 19]
    assert found.account is not None
    assert found.account.dropped == {"no label": 1, "nothing measured": 1}


def test_beats_to_predict_need_no_label(tmp_path: Path) -> None:
    read = readers.get("medical.ecg_beats")
    file = file_of(tmp_path / "ask.csv", ",".join(f"t{n}" for n in range(20)) + "\n" + ",".join(["0.5"] * 20) + "\n")

    (row,) = read(file, {}, "classification", missing="keep").examples
    assert row.target is None
    assert row.values is not None
    assert row.values.shape == (20,)

    with pytest.raises(DataError, match=r"ask\.csv:2: no label. Here every row needs numbers and a label"):
        read(file, {}, "classification", missing="refuse")
    with pytest.raises(DataError, match="none of its 1 rows can be used"):
        read(file, {}, "classification")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"1 {LINE}\n9 {LINE}\n", r"beats\.txt:2: the label '9' is not one of 1 to 5"),
        (f"1 {LINE}\n1.5 {LINE}\n", r"beats\.txt:2: the label '1.5' is not one of 1 to 5"),
        (f"1 {LINE}\n2 {LINE} 0.5\n", r"beats\.txt:2: has 21 steps; 20 are needed"),
        (f"1 {LINE}\n2 {LINE} x\n", r"beats\.txt:2: column 'step 20' contains 'x'"),
        ("1 2 3\n", r"beats\.txt:1: has 2 steps; at least 8 are needed"),
    ],
)
def test_a_broken_line_is_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        readers.get("medical.ecg_beats")(file_of(tmp_path / "beats.txt", text), {}, "classification")


def test_a_damaged_archive_and_a_wrong_recipe_are_named(tmp_path: Path) -> None:
    read = readers.get("medical.ecg_beats")
    archive = tmp_path / "cut.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("ECG5000_TRAIN.txt", TABLE)
    content = bytearray(archive.read_bytes())
    content[60:80] = bytes(20)
    archive.write_bytes(content)

    with pytest.raises(DataError, match="cut or damaged"):
        read(archive, {}, "classification")
    with pytest.raises(RecipeError, match="reads a fixed layout"):
        read(archive, {"label": "kind"}, "classification")
    with pytest.raises(RecipeError, match="not regression"):
        read(archive, {}, "regression")


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("shape", [(20,), (20, 2)])
def test_an_augmented_beat_keeps_label_length_and_dtype_and_leaves_the_row_alone(name: str, shape: tuple[int, ...]) -> None:
    values = BEAT if len(shape) == 1 else np.stack([BEAT, -BEAT], axis=1)
    row, before = Example("1", target="normal", values=values), values.copy()
    change = augmentations.get(name)

    for seed in range(50):
        made = change(row, random.Random(seed), p=1.0)

        assert made.values is not None
        assert (made.values.shape, made.values.dtype, made.target) == (shape, np.float32, "normal")
        assert (made.values != before).any()
        assert np.isfinite(made.values).all()
    np.testing.assert_array_equal(values, before)
    assert change(row, random.Random(1), p=0.0) is row
    assert change(Example("1", "text"), random.Random(1), p=1.0) == Example("1", "text")


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_augmented_beat_depends_on_its_rng_alone(name: str) -> None:
    row, change = Example("1", values=BEAT), augmentations.get(name)

    one, other = (change(row, random.Random(7), p=1.0).values for _ in range(2))

    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("seed", range(20))
def test_warped_time_never_runs_backwards_and_ends_stay(seed: int) -> None:
    rising = np.arange(30, dtype=np.float32)

    made = augmentations.get("medical.time_warp")(Example("1", values=rising), random.Random(seed), p=1.0, strength=1.0).values

    assert made is not None
    assert (np.diff(made) > 0).all()
    assert (made[0], made[-1]) == (0, pytest.approx(29, abs=1e-4))


def test_a_series_without_strength_stays_as_it_is() -> None:
    row = Example("1", values=BEAT)

    for name in AUGMENTATIONS:
        made = augmentations.get(name)(row, random.Random(0), p=1.0, strength=0.0).values
        assert made is not None
        np.testing.assert_allclose(made, BEAT, atol=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_amplitude_keeps_zeros_and_signs_and_gaps(seed: int) -> None:
    values = np.array([0, 1, -2, np.nan, 3, 0, -1, 2], dtype=np.float32)
    scale = augmentations.get("medical.scale_amplitude")

    made = scale(Example("1", values=values), random.Random(seed), p=1.0, strength=1.0).values
    whole = scale(Example("1", values=values), random.Random(seed), p=1.0, knots=1).values

    assert made is not None
    assert whole is not None
    np.testing.assert_array_equal(np.sign(made), np.sign(values))
    ratio = (whole / np.where(values == 0, np.nan, values))[[1, 2, 4, 6, 7]]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)


def test_the_recipe_prepares_beats_and_their_copies(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kinds = [1] * 30 + [2] * 20 + [3] * 8 + [5]
    rows = [[str(kind), *(f"{value:.6f}" for value in BEAT * kind + rng.normal(0, 0.1, 20))] for kind in kinds]
    recipe = load_recipe("medical/ecg-beats", {"data.source": str(with_header(tmp_path / "beats.csv", [*rows, rows[0]]))})
    check_recipe(recipe)

    prepared = prepare(recipe)

    assert prepared.labels is not None
    assert prepared.labels.labels == ("normal", "R-on-T", "PVC", "unclassified")
    assert len(prepared.originals) + len(prepared.validation) + len(prepared.test) == 59  # the same beat once
    assert "unclassified" in {e.target for e in prepared.originals}  # one beat alone is learned from
    assert len(prepared.train) > 3 * len(prepared.originals)
    assert all(e.values is not None and e.values.shape == (20,) for e in prepared.train)
