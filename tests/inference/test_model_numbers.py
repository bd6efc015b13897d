"""Series and pictures asked about as arrays and files."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vertical_sdk.cli import main
from vertical_sdk.errors import DataError
from vertical_sdk.inference import VerticalModel
from vertical_sdk.inference.inputs import read_picture
from vertical_sdk.types import Example


def striped(standing: bool, seed: int = 0) -> NDArray[np.uint8]:
    """16 × 16 greys: vertical or horizontal stripes."""
    stripes = np.tile((np.arange(16) % 4 < 2) * 150, (16, 1))
    noise = np.random.default_rng(seed).integers(0, 100, (16, 16))
    return ((stripes if standing else stripes.T) + noise).astype(np.uint8)


def test_series_are_asked_as_arrays(beats: Path) -> None:
    model = VerticalModel.from_pretrained(beats)
    rising = np.linspace(-1, 1, 8)
    holed = rising.copy()
    holed[3] = np.nan

    said = model.predict([rising, -rising, rising[:, None], rising.astype(np.float32), holed])

    assert [one.label for one in said] == ["rising", "falling", "rising", "rising", "rising"]
    assert said[2].probabilities == pytest.approx(said[0].probabilities)
    row = model.predict([Example(id="row", values=rising.astype(np.float32))])[0]
    assert row.probabilities == pytest.approx(said[0].probabilities)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("red rash", "reads series: give numbers"),
        ({"age": 3}, "reads series: give numbers"),
        (np.zeros((2, 2, 2)), r"array of float64 \(2, 2, 2\); .* reads series"),
        (np.zeros(0), "reads series: give numbers"),
        (np.array(["a"]), "reads series: give numbers"),
        (np.array([1.0, np.inf]), "contains infinite values"),
        (np.array([np.nan, np.nan]), "contains no measured value"),
    ],
)
def test_an_input_that_is_not_a_series_is_refused(beats: Path, given: object, said: str) -> None:
    with pytest.raises(DataError, match=said):
        VerticalModel.from_pretrained(beats).predict([given])  # type: ignore[list-item]


def test_an_array_that_is_not_in_a_list_is_refused(beats: Path) -> None:
    with pytest.raises(DataError, match="takes a list"):
        VerticalModel.from_pretrained(beats).predict(np.zeros((8, 1)))  # type: ignore[arg-type]


def test_an_array_given_to_who_reads_texts_is_refused(words: VerticalModel) -> None:
    with pytest.raises(DataError, match=r"text 1 is an array of float64 \(3,\); every text must be a string"):
        words.predict(["red rash", np.zeros(3)])


def test_pictures_are_asked_as_bytes_and_as_files(pictures: Path, tmp_path: Path) -> None:
    model = VerticalModel.from_pretrained(pictures)
    grey = striped(True, 900)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(np.dstack([grey] * 3)).save(tmp_path / "colour.png")
    Image.fromarray(grey).save(tmp_path / "grey.jpg", quality=95)

    said = model.predict(
        [grey, striped(False, 901), tmp_path / "grey.png", str(tmp_path / "colour.png"), tmp_path / "grey.jpg"]
    )

    assert [one.label for one in said] == ["standing", "lying", "standing", "standing", "standing"]
    assert said[2].probabilities == pytest.approx(said[0].probabilities)
    assert said[3].probabilities == pytest.approx(said[0].probabilities, abs=1e-5)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"age": 3}, "reads pictures: give the path of a PNG or JPEG"),
        ("red rash", "red rash: no such file"),
        (np.zeros((4, 4)), "input 0 is an array of float64.*or an array of bytes"),
        (np.zeros(4, dtype=np.uint8), "input 0 is an array of uint8"),
    ],
)
def test_an_input_that_is_not_a_picture_is_refused(pictures: Path, given: object, said: str) -> None:
    with pytest.raises(DataError, match=said):
        VerticalModel.from_pretrained(pictures).predict([given])  # type: ignore[list-item]


def test_pictures_are_read_as_they_are_seen(tmp_path: Path) -> None:
    tall = np.arange(6, dtype=np.uint8).reshape(3, 2) * 40
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned a quarter, clockwise
    Image.fromarray(tall).save(tmp_path / "turned.png", exif=turned)
    Image.fromarray(tall > 100).save(tmp_path / "bits.png")
    Image.fromarray(np.dstack([tall] * 4)).save(tmp_path / "clear.png")

    np.testing.assert_array_equal(read_picture(tmp_path / "turned.png"), np.rot90(tall, -1))
    np.testing.assert_array_equal(read_picture(tmp_path / "bits.png"), (tall > 100) * 255)
    np.testing.assert_array_equal(read_picture(tmp_path / "clear.png"), np.dstack([tall] * 3))


def huge() -> bytes:
    """A PNG of a few bytes that says it is 100,000 pixels wide and high."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    chunks = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + struct.pack(">I", 0) + b"IDAT"
    return b"\x89PNG\r\n\x1a\n" + chunks + struct.pack(">I", zlib.crc32(b"IDAT"))


def test_a_file_that_cannot_be_read_as_a_picture_is_refused(tmp_path: Path) -> None:
    png = io.BytesIO()
    Image.fromarray(striped(True)).save(png, "PNG")
    (tmp_path / "cut.png").write_bytes(png.getvalue()[:120])
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "huge.png").write_bytes(huge())
    Image.fromarray(striped(True)).save(tmp_path / "other.bmp")
    Image.fromarray(striped(True).astype(np.uint16) * 200).save(tmp_path / "deep.png")

    for name, said in (
        ("cut.png", "cannot be read as a PNG or JPEG"),
        ("text.png", "cannot be read as a PNG or JPEG"),
        ("other.bmp", "cannot be read as a PNG or JPEG"),
        ("huge.png", "the picture is too large"),
        ("deep.png", "more than 8 bits a pixel"),
    ):
        with pytest.raises(DataError, match=f"{name}: .*{said}"):
            read_picture(tmp_path / name)


def test_pictures_are_asked_on_the_command_line(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(tmp_path / f"{name}.png") for name in ("a", "b")]
    Image.fromarray(striped(True, 900)).save(paths[0])
    Image.fromarray(striped(False, 901)).save(paths[1])

    assert main(["predict", str(pictures), *paths, "--json"]) == 0

    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["id"], one["label"]) for one in said] == [(paths[0], "standing"), (paths[1], "lying")]
    assert main(["predict", str(pictures), "gone.png", "--json"]) == 3
    assert "gone.png: no such file" in json.loads(capsys.readouterr().out)["error"]["message"]
    assert main(["predict", str(pictures), *paths]) == 0
    assert "standing" in capsys.readouterr().out
